/* stream.h — what is known of an instrument's quotes and trades beside its top: its deadline, what
 * is lost of it, and which trades were handed over.
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
    int64_t trade_ts; /* ts_rx of the last trade */
    uint64_t trade_id;
    uint32_t trade_epoch; /* of the line, at the last trade; 0: there was none */
    uint16_t trade_line;  /* which carries the trades */
    uint16_t trade_loser; /* which carried them before the loss that lasts */
    uint8_t trade_cause;  /* cw_loss_cause of it; 0: there is none */
    uint8_t quote_cause;  /* likewise, of the quotes */
    uint16_t quote_loser;
    uint8_t was_cut;    /* the gap before the next quote is not the stream's own */
    uint8_t has_margin; /* the top's quote came from another line, too */
    uint8_t is_trade_lost; /* something was, while the loss lasted: not only silence */
    uint8_t is_quote_lost;
    int64_t quote_ts; /* of the last quote before the loss that lasts */
    uint64_t quote_seq;
    int64_t heard_mono; /* last quote, also one that repeats what is known */
    int64_t end_mono;   /* behind this the quotes are stale; 0: there was none */
    double gap_peak_ns;
    /* of lines of a group; an id is counted from 1 here, so that 0 is below all */
    uint64_t trade_max;
    cw_hole holes[CW_HOLES];
    /* per member: its `join` at its last trade and quote; ~join where one was lost since then */
    uint32_t trade_joins[CW_GROUP_LINES], quote_joins[CW_GROUP_LINES];
} cw_stream;

/* 1 when a trade was not handed over before, which it is then. `join` counts how often the member's
 * stream began anew, from 1: behind that, ids may be missing on it. */
int cw_stream_take_trade(cw_stream *self, uint32_t member, uint32_t join, uint64_t trade_id);

/* ---- inline: once per quote, where there is a data limit ---- */

#define CW_GAP_FADE_NS 600e9 /* time constant of gap_peak_ns */
#define CW_GAPS 4            /* the deadline is so many times the longest gap */

/* Learn from the gap that ends now. A peak fades by the part of the time constant that the gap took:
 * over many short gaps that is exponential, and there is no division. */
static inline void cw_stream_learn(cw_stream *self, int64_t mono_now) {
    double gap, faded;
    if (self->end_mono == 0) return; /* the first quote */
    gap = (double)(mono_now - self->heard_mono);
    faded = self->gap_peak_ns - self->gap_peak_ns * gap * (1.0 / CW_GAP_FADE_NS);
    self->gap_peak_ns = gap > faded ? gap : faded;
}

/* The stream speaks now: set its deadline, at least `limit_ns` from here. */
static inline void cw_stream_hear(cw_stream *self, int64_t mono_now, int64_t limit_ns) {
    double learned = CW_GAPS * self->gap_peak_ns;
    int64_t wait = limit_ns;
    if (learned > (double)limit_ns) wait = learned < 0x1p62 ? (int64_t)learned : INT64_MAX;
    self->heard_mono = mono_now;
    if (__builtin_add_overflow(mono_now, wait, &self->end_mono)) self->end_mono = INT64_MAX;
}

#endif
