/* stream.h — what is known of an instrument's quotes and trades beside its top.
 *
 * Trades of several lines are merged by their ids, which only rise: what is above the highest id is
 * new. A line that joins ahead of the others leaves a hole behind it, which they fill on their way;
 * what is in no hole has been handed over. */
#ifndef CROSSWIRE_STREAM_H
#define CROSSWIRE_STREAM_H

#include "base.h"

#define CW_GROUP_LINES 4 /* most lines that carry the same streams */
#define CW_HOLES 8       /* per instrument; the oldest is given up for one more */

/* Ids above `fill` and below `end` were not handed over; `fill` was. Empty when none is between. */
typedef struct cw_hole {
    uint64_t fill, end;
} cw_hole;

typedef struct cw_stream {
    uint32_t trade_epoch; /* of the line, at the last trade; 0: there was none */
    uint16_t trade_line;  /* which carries the trades */
    uint8_t has_margin;   /* the top's quote came from another line, too */
    uint8_t reserved;
    /* of lines of a group; an id is counted from 1 here, so that 0 is below all */
    uint64_t trade_max;
    cw_hole holes[CW_HOLES];
    uint32_t joins[CW_GROUP_LINES]; /* per member: its `join` at its last trade */
} cw_stream;

/* 1 when a trade was not handed over before, which it is then. `join` counts how often the member's
 * stream began anew, from 1: behind that, ids may be missing on it. */
int cw_stream_take_trade(cw_stream *self, uint32_t member, uint32_t join, uint64_t trade_id);

#endif
