# coverage.awk — read gcov's reports: every line's text, and the branches below it.
BEGIN {
    while ((getline row < exclusions) > 0) {
        if (row ~ /^#/ || row !~ /:/) continue
        at = index(row, " -- ")
        reasons[substr(row, 1, at - 1)] = substr(row, at + 4)
    }
}
FNR == 1 { file = FILENAME; sub(/.*\//, "", file); sub(/\.gcov$/, "", file) }
/^ *[^ ]+: *[0-9]+:/ {
    text = $0
    sub(/^ *[^:]+: */, "", text)
    number = text; sub(/:.*/, "", number)
    sub(/^[0-9]+: */, "", text)
    if ($1 ~ /^#####/) { lines++; miss("line never ran") }
}
/^branch/ {
    branches++
    if ($0 ~ /never executed|taken 0/) miss("branch " $2 " was never taken")
}
function miss(what,   key) {
    key = file ": " text
    if (key in reasons) { used[key] = 1; excluded++; return }
    printf "%s:%d: %s: %s\n", file, number, what, text
    missed++
}
END {
    for (key in reasons) if (!(key in used)) { print "excludes nothing: " key; stale++ }
    printf "codec kernels: %d branches, %d excluded, %d not taken\n", branches, excluded, missed
    exit (missed + stale > 0)
}
