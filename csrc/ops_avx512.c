/* ops_avx512.c — kernels for processors with AVX-512 F, BW, VL and VBMI2. */
#include <immintrin.h>

#include "ops_tables.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi,bmi2,popcnt,lzcnt")
#define CW_WIDTH 64
#include "ops_wide.h"
#include "ops_scan.h"
#include "line_body.h"
#pragma GCC pop_options

const cw_ops cw_ops_avx512 = {
    .name = "avx512",
    .level = CW_LEVEL_AVX512,
    .mask = ops_mask,
    .ascii_prefix = ops_ascii_prefix,
    .decimal = ops_decimal,
    .scan = ops_scan,
    .scan_next = ops_scan_next,
    .parse = line_parse,
};
