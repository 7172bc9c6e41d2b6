/* ops_tables.h — the tables of all levels, one per ops_<level>.c. */
#ifndef CW_OPS_TABLES_H
#define CW_OPS_TABLES_H

#include "crosswire/ops.h"

extern const cw_ops cw_ops_base, cw_ops_avx2, cw_ops_avx512;

#endif
