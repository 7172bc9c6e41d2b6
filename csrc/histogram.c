/* histogram.c — values below 32 have a bucket each; above, 32 buckets an octave. */
#include "crosswire/histogram.h"

static uint32_t bucket_of(uint64_t value) {
    uint32_t octave;
    if (value < CW_HISTOGRAM_SUB) return (uint32_t)value;
    octave = 63 - (uint32_t)__builtin_clzll(value) - 5; /* 2^5 = CW_HISTOGRAM_SUB */
    return CW_HISTOGRAM_SUB * (octave + 1) + (uint32_t)(value >> octave) - CW_HISTOGRAM_SUB;
}

static uint64_t bucket_end(uint32_t bucket) {
    uint32_t octave;
    if (bucket < CW_HISTOGRAM_SUB) return bucket;
    octave = bucket / CW_HISTOGRAM_SUB - 1;
    return ((uint64_t)(bucket % CW_HISTOGRAM_SUB + CW_HISTOGRAM_SUB + 1) << octave) - 1;
}

void cw_histogram_clear(cw_histogram *self) { memset(self, 0, sizeof *self); }

void cw_histogram_record(cw_histogram *self, uint64_t value) {
    self->buckets[bucket_of(value)]++;
    self->count++;
    if (value > self->max) self->max = value;
}

uint64_t cw_histogram_quantile(const cw_histogram *self, double p) {
    uint64_t rank = (uint64_t)(p * (double)self->count), seen = 0;
    if (self->count == 0) return 0;
    if ((double)rank < p * (double)self->count) rank++;
    if (rank == 0) rank = 1;
    for (uint32_t i = 0; i < CW_HISTOGRAM_BUCKETS; i++) {
        seen += self->buckets[i];
        if (seen >= rank) return bucket_end(i) < self->max ? bucket_end(i) : self->max;
    }
    return self->max;
}
