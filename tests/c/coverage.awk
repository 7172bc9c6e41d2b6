# coverage.awk — read gcov's reports: every line's text, and the branches below it.
BEGIN {
    while ((getline row < exclusions) > 0) {
        if (row ~ /^#/ || row !~ /:/) continue
        at = index(row, " -- ")
        reasons[substr(row, 1, at - 1)] = substr(row, at + 4)
    }
}
FNR == 1 {
    file = FILENAME; sub(/.*\//, "", file); sub(/\.gcov$/, "", file)
    kind = file ~ /\.pyx$/ ? "Cython modules" : "kernels"
}
/^ *[^ ]+: *[0-9]+:/ {
    text = $0
    sub(/^ *[^:]+: */, "", text)
    number = text; sub(/:.*/, "", number)
    sub(/^[0-9]+: */, "", text)
    if ($1 != "-:") lines[kind]++
    if ($1 ~ /^#####/) miss("line never ran")
}
/^branch/ {
    branches[kind]++
    if ($0 ~ /never executed|taken 0/) miss("branch " $2 " was never taken")
}
function miss(what,   key) {
    key = file ": " text
    if (key in reasons && (!(key in used) || used[key] == number)) { # one line, not all of its text
        used[key] = number
        excluded[kind]++
        return
    }
    printf "%s:%d: %s: %s\n", file, number, what, text
    missed[kind]++
    has_missed = 1
}
END {
    for (key in reasons) if (!(key in used)) { print "excludes nothing: " key; stale++ }
    for (kind in lines)
        printf "codec, %s: %d lines, %d branches; %d excluded, %d not taken\n", kind,
            lines[kind], branches[kind], excluded[kind], missed[kind]
    exit (has_missed || stale > 0)
}
