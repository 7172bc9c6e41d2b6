/* ops.c — which table of kernels this processor may use. */
#include "ops_tables.h"

cw_level cw_level_best(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi") ||
        !__builtin_cpu_supports("bmi2"))
        return CW_LEVEL_BASE;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return CW_LEVEL_AVX512;
    return CW_LEVEL_AVX2;
}

const cw_ops *cw_ops_for(cw_level level) {
    cw_level best = cw_level_best();
    switch (level < best ? level : best) {
    case CW_LEVEL_AVX512: return &cw_ops_avx512;
    case CW_LEVEL_AVX2: return &cw_ops_avx2;
    default: return &cw_ops_base;
    }
}
