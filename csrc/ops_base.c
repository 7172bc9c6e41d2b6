/* ops_base.c — kernels for every x86-64 processor (SSE2). */
#include <emmintrin.h>

#include "ops_tables.h"

#define CW_WIDTH 16
#include "ops_wide.h"
#include "ops_utf8.h"
#include "ops_scan.h"
#include "line_body.h"

const cw_ops cw_ops_base = {
    .name = "base",
    .level = CW_LEVEL_BASE,
    .mask = ops_mask,
    .ascii_prefix = ops_ascii_prefix,
    .utf8_prefix = ops_utf8_prefix,
    .decimal = ops_decimal,
    .scan = ops_scan,
    .scan_next = ops_scan_next,
    .parse = line_parse,
};
