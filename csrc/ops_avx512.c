/* ops_avx512.c — kernels for processors with AVX-512 F, BW and VL. */
#include <immintrin.h>

#include "ops_tables.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx2,bmi,bmi2,popcnt"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx2,bmi,bmi2,popcnt")
#endif
#define CW_WIDTH 64
#include "ops_wide.h"
#include "ops_utf8.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const cw_ops cw_ops_avx512 = {
    .name = "avx512",
    .level = CW_LEVEL_AVX512,
    .mask = ops_mask,
    .ascii_prefix = ops_ascii_prefix,
    .utf8_prefix = ops_utf8_prefix,
    .decimal = cw_avx2_decimal,
    .scan = cw_avx2_scan,
    .scan_next = cw_avx2_scan_next,
    .parse = cw_avx2_parse,
};
