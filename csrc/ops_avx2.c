/* ops_avx2.c — kernels for processors with AVX2 and BMI. The intrinsics are declared before the
 * target is raised, as gcc wants it. */
#include <immintrin.h>

#include "ops_tables.h"

#pragma GCC push_options
#pragma GCC target("avx2,bmi,bmi2,popcnt,lzcnt")
#define CW_WIDTH 32
#include "ops_wide.h"
#include "ops_scan.h"
#include "line_body.h"
#pragma GCC pop_options

const cw_ops cw_ops_avx2 = {
    .name = "avx2",
    .level = CW_LEVEL_AVX2,
    .mask = ops_mask,
    .ascii_prefix = ops_ascii_prefix,
    .decimal = ops_decimal,
    .scan = ops_scan,
    .scan_next = ops_scan_next,
    .parse = line_parse,
};
