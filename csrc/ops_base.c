/* ops_base.c — kernels for every x86-64 processor (SSE2). */
#include <emmintrin.h>

#include "ops_tables.h"
#include "crosswire/decimal.h"

#define CW_OPS_NAME "base"
#define CW_OPS_LEVEL CW_LEVEL_BASE
#define CW_OPS_TABLE cw_ops_base
#define CW_WIDTH 16
#include "ops_body.h"
