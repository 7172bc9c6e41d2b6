/* ops_tables.h — the tables of all levels, one per ops_<level>.c. */
#ifndef CW_OPS_TABLES_H
#define CW_OPS_TABLES_H

#include "crosswire/ops.h"

extern const cw_ops cw_ops_base, cw_ops_avx2, cw_ops_avx512;

/* The scanner and the hot path gain nothing from wider vectors, and gcc's code for them is slower
 * at the avx512 target (benchmarks.decode): both levels share these. */
int cw_avx2_decimal(const uint8_t *p, size_t n, double *value, uint32_t *flags, uint32_t *at);
int cw_avx2_scan(cw_scanner *self, const uint8_t *p, uint32_t n, cw_record *row);
int cw_avx2_scan_next(cw_scanner *self, cw_record *row);
uint32_t cw_avx2_parse(struct cw_line *self, uint32_t written);

#endif
