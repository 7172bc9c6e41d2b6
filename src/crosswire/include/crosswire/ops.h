/* ops.h — the kernels that exist once per instruction-set level, as one constant table.
 *
 * All levels give identical results. An engine picks its level once and keeps the pointer. */
#ifndef CROSSWIRE_OPS_H
#define CROSSWIRE_OPS_H

#include "scan.h"

typedef enum cw_level { CW_LEVEL_BASE = 0, CW_LEVEL_AVX2 = 1, CW_LEVEL_AVX512 = 2 } cw_level;

struct cw_line;

typedef struct cw_ops {
    const char *name;
    cw_level level;

    /* XOR `n` bytes with the 4-byte mask; `phase` bytes of the payload came before. In place. */
    void (*mask)(uint8_t *p, size_t n, const uint8_t mask[4], size_t phase);

    /* Bytes of [p, p + n) before the first one with its high bit set; `n` when all are ASCII. */
    size_t (*ascii_prefix)(const uint8_t *p, size_t n);

    /* Bytes of [p, p + n), at the start of a character, that are whole characters of UTF-8. How far
     * it looks is up to the level: cw_utf8_feed goes on from there, and tells. */
    size_t (*utf8_prefix)(const uint8_t *p, size_t n);

    /* Read decimal text as cw_decimal_read does. CW_GUARD_BEFORE bytes before and
     * CW_GUARD_AFTER bytes behind must be readable. */
    int (*decimal)(const uint8_t *p, size_t n, double *value, uint32_t *flags, uint32_t *at);

    /* Scan one message of `n` bytes, of which nothing is known yet: CW_E_UTF8 when it is no text.
     * Writes the first record to `row` (ts_rx left 0; `row` may be written to even where there is
     * no record) and returns a cw_scanned or an error of CW_E_FIRST or above, described in
     * self->error. */
    int (*scan)(cw_scanner *self, const uint8_t *p, uint32_t n, cw_record *row);

    /* The next record of the same message, or CW_SCAN_END. */
    int (*scan_next)(cw_scanner *self, cw_record *row);

    /* Parse what a line has received until something wants the owner's attention; `written`
     * signals stand in the ring already. Returns CW_FED_ bits; use cw_line_feed. */
    uint32_t (*parse)(struct cw_line *self, uint32_t written);
} cw_ops;

/* The highest level that this processor has. */
cw_level cw_level_best(void);

/* The table of a level, never above what the processor has. */
const cw_ops *cw_ops_for(cw_level level);

#endif
