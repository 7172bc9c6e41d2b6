/* ops_avx2.c — kernels for processors with AVX2 and BMI. The intrinsics are declared before the
 * target is raised, as gcc wants it. */
#include <immintrin.h>

#include "ops_tables.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,popcnt"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,bmi,bmi2,popcnt")
#endif
#define CW_WIDTH 32
#include "ops_wide.h"
#include "ops_utf8.h"
#include "ops_scan.h"
#include "line_body.h"

int cw_avx2_decimal(const uint8_t *p, size_t n, double *value, uint32_t *flags, uint32_t *at) {
    return ops_decimal(p, n, value, flags, at);
}

int cw_avx2_scan(cw_scanner *self, const uint8_t *p, uint32_t n, cw_record *row) {
    return ops_scan(self, p, n, row);
}

int cw_avx2_scan_next(cw_scanner *self, cw_record *row) { return ops_scan_next(self, row); }

uint32_t cw_avx2_parse(cw_line *self, uint32_t written) { return line_parse(self, written); }
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const cw_ops cw_ops_avx2 = {
    .name = "avx2",
    .level = CW_LEVEL_AVX2,
    .mask = ops_mask,
    .ascii_prefix = ops_ascii_prefix,
    .utf8_prefix = ops_utf8_prefix,
    .decimal = cw_avx2_decimal,
    .scan = cw_avx2_scan,
    .scan_next = cw_avx2_scan_next,
    .parse = cw_avx2_parse,
};
