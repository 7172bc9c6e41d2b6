# traced.awk -v module=NAME.pyx -v path=ITS-PATH — what Cython made of a module with linetrace, for gcov:
# each statement and each condition of the module stands on its own line of it, all else on the C file's.
# A condition is an `if` on a temporary or a flag, or a `switch`: so come if, while, except, and, or, in
# and the conditional expression. The steps of a comparison in a row, a `for`, and the errors of calls stay C.
NR == 1 { # a call ends what gcov takes for one block: what is behind it stays out of the line
    print "static volatile unsigned long cw_count;\nstatic void cw_ran(void) { cw_count++; }"
}
/^ *\/\* "[^"]*":[0-9]+$/ {
    line = 0
    if (index($0, "/" module "\":")) { line = $0; sub(/.*":/, "", line) }
}
/function exit code/ { line = 0 }
line && /^ *__Pyx_TraceLine\([0-9]+,/ {
    line = $0
    sub(/^[^(]*\(/, "", line)
    sub(/,.*/, "", line)
    put("cw_ran();")
    next
}
line && /^ *if \(!?(unlikely\()?__pyx_(t_|v_|cur_scope)[A-Za-z0-9_>-]*\)+ (\{|break;)$/ { put($0); next }
line && /^ *switch \(__pyx_v_/ { put($0); next }
{ print }
function put(statement) {
    printf "#line %d \"%s\"\n%s\n#line %d \"%s\"\n", line, path, statement, NR + 1, FILENAME
}
