/* merge.h — lines of one group carry the same streams: what comes first on any of them counts.
 *
 * All lines of a group are of one venue, whose quotes have a key that only rises and is the same on
 * every connection; trades have their ids. An instrument is of one group at most. A line that carries
 * every stream of its group, and says so, is covering. The top of a line that leaves goes over to a covering twin and stays readable. */
#ifndef CROSSWIRE_MERGE_H
#define CROSSWIRE_MERGE_H

#include "book.h"
#include "histogram.h"
#include "stream.h"

struct cw_engine;

/* What tells quotes of one instrument apart, and which of two is newer. */
typedef enum cw_merge_key {
    CW_MERGE_NONE = 0, /* nothing that two connections share */
    CW_MERGE_SEQ,
    CW_MERGE_TS_SEQ /* ts_exch, then seq */
} cw_merge_key;

/* What merging did for one line. */
typedef struct cw_merged {
    uint64_t wins;        /* records that came on this line first */
    uint64_t duplicates;  /* records that had come on another, or were not newer */
    uint64_t gaps_filled; /* wins while no line of another place of the group was covering */
    cw_histogram margin;  /* ns from a quote that won to the next line's copy of it */
} cw_merged;

/* Whether a line of `venue` may join `group`, 1 to 65535. CW_OK; CW_FULL when the group has
 * CW_GROUP_LINES lines; CW_TAKEN when it is another venue's; CW_E_TYPE when the venue has no key. */
int cw_group_check(const struct cw_engine *self, uint16_t venue, uint16_t group);

/* Make a line that was never opened a line of a group, in a place of its own; as cw_group_check.
 * `merged` is lent, zeroed, and must live as long as the engine. */
int cw_group_join(struct cw_engine *self, uint16_t line, uint16_t group, cw_merged *merged);

/* From now on this line carries every stream of its group, until it is opened again, lost or done.
 * A line that is not open does not. */
void cw_engine_cover(struct cw_engine *self, uint16_t line, int64_t ts_now, int64_t mono_now);

/* Nothing more will be read from a line, though it is not lost yet: it no longer covers, and what
 * it carries goes over to a twin, where there is one. */
void cw_engine_end_line(struct cw_engine *self, uint16_t line);

/* Another line of the group that missed nothing of a stream since the last byte of this one: it is
 * open, alive, was covering before that byte, and lost no message that may have been of the stream
 * since it last brought it. `joins` are the stream's. CW_NO_LINE when there is none. */
uint16_t cw_engine_twin(const struct cw_engine *self, uint16_t line,
                        const uint32_t joins[CW_GROUP_LINES]);

/* Give each stream that a line carries to such a twin; what has none is left as it is. */
void cw_engine_hand_over(struct cw_engine *self, uint16_t line);

/* CW_OK, or why a record of a line in a group cannot be merged: CW_E_KEY_MISSING for a quote without
 * its key, CW_E_TYPE for a trade whose id is no number. */
int cw_merge_check(int scanned, const cw_record *row);

/* As cw_engine_take, of a line in a group; the record was counted and checked. What came before is
 * not handed over. */
uint32_t cw_merge_take(struct cw_engine *self, uint16_t line, int scanned, cw_record *row);

#endif
