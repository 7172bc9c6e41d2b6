/* histogram.h — durations in log-linear buckets: relative width <= 1/32, whole range of u64. */
#ifndef CROSSWIRE_HISTOGRAM_H
#define CROSSWIRE_HISTOGRAM_H

#include "base.h"

#define CW_HISTOGRAM_SUB 32
#define CW_HISTOGRAM_BUCKETS (CW_HISTOGRAM_SUB * 60)

typedef struct cw_histogram {
    uint64_t count, max;
    uint64_t buckets[CW_HISTOGRAM_BUCKETS];
} cw_histogram;

/* Forget all values. */
void cw_histogram_clear(cw_histogram *self);

/* Count one value. */
void cw_histogram_record(cw_histogram *self, uint64_t value);

/* The largest value that the bucket of the p-th part (0 < p <= 1) of all values may hold, never
 * above the largest value recorded; 0 when nothing was recorded. */
uint64_t cw_histogram_quantile(const cw_histogram *self, double p);

#endif
