/* ops_avx512.c — kernels for processors with AVX-512 F, BW, VL and VBMI2. */
#include <immintrin.h>

#include "ops_tables.h"
#include "crosswire/decimal.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi,bmi2,popcnt,lzcnt")
#define CW_OPS_NAME "avx512"
#define CW_OPS_LEVEL CW_LEVEL_AVX512
#define CW_OPS_TABLE cw_ops_avx512
#define CW_WIDTH 64
#include "ops_body.h"
#pragma GCC pop_options
