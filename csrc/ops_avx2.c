/* ops_avx2.c — kernels for processors with AVX2 and BMI. The intrinsics are declared before the
 * target is raised, as gcc wants it. */
#include <immintrin.h>

#include "ops_tables.h"
#include "crosswire/decimal.h"

#pragma GCC push_options
#pragma GCC target("avx2,bmi,bmi2,popcnt,lzcnt")
#define CW_OPS_NAME "avx2"
#define CW_OPS_LEVEL CW_LEVEL_AVX2
#define CW_OPS_TABLE cw_ops_avx2
#define CW_WIDTH 32
#include "ops_body.h"
#pragma GCC pop_options
