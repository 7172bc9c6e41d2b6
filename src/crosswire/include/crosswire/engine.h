/* engine.h — instruments, tops, crosses, the ring, and the clock that only moves by stamps.
 *
 * All memory is one block lent by the owner. An engine has one writer thread. */
#ifndef CROSSWIRE_ENGINE_H
#define CROSSWIRE_ENGINE_H

#include "cross.h"
#include "merge.h"
#include "ops.h"
#include "watch.h"

#define CW_KINDS 8 /* kinds of message counted per instrument */

/* Stages of the hot path that a sampled read is timed by. */
typedef enum cw_stage {
    CW_STAGE_FRAME = 0,
    CW_STAGE_DECODE,
    CW_STAGE_BOOK,
    CW_STAGE_DETECT,
    CW_STAGES
} cw_stage;

#define CW_SAMPLE_EVERY 64 /* one read in so many is timed by stages */

typedef struct cw_limits {
    uint32_t instruments, pairs, lines, venues, signals; /* signals: a power of two */
    uint32_t reserved;
} cw_limits;

typedef struct cw_venue {
    cw_symbols symbols;
    const cw_layout *layout;
    int64_t liveness_limit_ns;
    int64_t data_limit_ns; /* INT64_MAX: none */
    double fee_bps; /* of instruments that are found on the way */
    uint8_t seq_is_rising;
    uint8_t merge_key; /* cw_merge_key */
    uint8_t reserved[6];
} cw_venue;

/* What the engine knows of a connection. */
typedef struct cw_pulse {
    int64_t last_mono; /* last byte received */
    int64_t limit_ns;
    int64_t covers_from; /* while it is covering: monotonic */
    cw_merged *merged;   /* of a line in a group */
    uint32_t epoch;
    uint32_t join; /* how often its streams began anew: opened, or a message was lost */
    uint32_t join_opened; /* what it was when the line was opened */
    uint16_t venue;
    uint16_t group; /* 0: alone */
    uint16_t members[CW_GROUP_LINES]; /* lines of the group, itself included */
    uint8_t member_count;
    uint8_t member; /* its own number there, the same for all of them */
    uint8_t place;  /* lines of one place are there in turn: one of them is enough */
    uint8_t is_covering;
    uint8_t is_open;
    uint8_t is_live;
    uint8_t reserved[2];
} cw_pulse;

_Static_assert(sizeof(cw_pulse) == 64, "one cache line");

/* Rows for a consumer of records: feeding stops when a batch is full. */
typedef struct cw_batch {
    cw_record *rows; /* 64-byte aligned */
    uint32_t count, capacity;
} cw_batch;

typedef struct cw_clock {
    int64_t (*now_ns)(void *user); /* monotonic; NULL: nothing is timed */
    void *user;
} cw_clock;

typedef struct cw_engine {
    const cw_ops *ops;
    cw_limits limits;
    cw_books books;
    cw_crosses crosses;
    cw_ring ring;
    cw_venue *venues;
    cw_pulse *pulses;  /* per line */
    uint64_t *counts;  /* [instrument][CW_KINDS] */
    cw_stream *streams; /* per instrument */
    cw_batch quotes, trades;
    cw_clock clock;
    cw_moment now; /* of the read in hand; ts_exch of the message in hand */
    int64_t deadline; /* no line can fall silent and no top be stale before this */
    int64_t data_deadline; /* no top */
    cw_losses losses;
    uint32_t instrument_count;
    uint16_t venue_count, line_count;
    uint8_t takes_unknown; /* unknown symbols become instruments (replay, decode) */
    uint8_t latest_only;   /* feeding does not stop at the first signal */
    uint8_t is_sampling;   /* the read in hand is timed by stages */
    uint8_t reserved[5];
    uint64_t reads;
    int64_t stage_began;
    uint32_t stage_ns[CW_STAGES]; /* of the message in hand, while sampling */
    uint64_t messages;
    uint64_t errors[CW_E_COUNT];
    cw_histogram rx_to_signal; /* ns from the read to the signal in the ring */
    cw_histogram stages[CW_STAGES];
} cw_engine;

/* Bytes of memory that an engine of these limits needs, 64-byte aligned; 0: limits are absurd. */
size_t cw_engine_size(const cw_limits *limits);

/* Build an engine in `memory` of cw_engine_size(limits) bytes, 64-byte aligned and zeroed. */
cw_engine *cw_engine_init(void *memory, const cw_limits *limits, const cw_ops *ops);

/* Add a venue; *id is set. CW_FULL when there is no room. The layout must outlive the engine. */
int cw_engine_add_venue(cw_engine *self, const cw_layout *layout, int64_t liveness_limit_ns,
                        double fee_bps, int seq_is_rising, uint16_t *id);

/* Say by what the quotes of a venue's lines are merged; CW_MERGE_NONE until then. */
void cw_engine_set_merge_key(cw_engine *self, uint16_t venue, cw_merge_key key);

/* Say what the least deadline of an instrument's quotes is at a venue, above 0; INT64_MAX, as until
 * then: they have none. To be said before its instruments are added. */
void cw_engine_set_data_limit(cw_engine *self, uint16_t venue, int64_t data_limit_ns);

/* Add an instrument; *id is set. CW_FULL without room, CW_TAKEN when the venue has the symbol,
 * CW_E_SYMBOL_UNKNOWN for a bad one. */
int cw_engine_add_instrument(cw_engine *self, uint16_t venue, const uint8_t *symbol,
                             uint32_t symbol_len, double fee_bps, double multiplier, uint32_t *id);

/* Declare the pairs; all open routes must have been closed. CW_FULL as cw_crosses_set, or when
 * the ring has fewer than four slots a pair: all may close while those of one instrument change. */
int cw_engine_set_pairs(cw_engine *self, const cw_pair_terms *pairs, uint32_t count);

/* Let time pass: a line silent for longer than its limit is dead, a top that was not quoted within
 * its deadline is stale, and what was open on them is closed. A monotonic stamp that runs backwards is taken as standing still. Returns signals
 * written; the ring must have been drained. */
uint32_t cw_engine_advance(cw_engine *self, int64_t ts_now, int64_t mono_now);

/* A line is open: its stream starts afresh. One that was open is lost first; then there may be
 * signals. */
void cw_engine_open_line(cw_engine *self, uint16_t line, int64_t ts_now, int64_t mono_now);

/* A byte came on a line: it is alive, as of the engine's time. */
void cw_engine_hear(cw_engine *self, uint16_t line);

/* A line ended: what no twin takes over is unreadable, and what was open on it is closed. Returns
 * signals. */
uint32_t cw_engine_lose_line(cw_engine *self, uint16_t line, int64_t ts_now, int64_t mono_now);

/* Whose records are taken: what does not change during a read. */
typedef struct cw_origin {
    uint32_t epoch;
    uint16_t line;
    uint8_t seq_is_rising;
    uint8_t is_sampling;
} cw_origin;

static inline cw_origin cw_engine_origin(const cw_engine *self, uint16_t line);

/* One decoded record of `line`, in row; counts it, applies it, looks at its routes. Returns
 * signals written. */
static inline uint32_t cw_engine_take(cw_engine *self, uint16_t line, int scanned, uint8_t kind,
                                      uint32_t instrument, cw_record *row);

/* A message of `line` was lost to an error: what it may have changed is not readable until the
 * next quote. `instrument` is CW_NO_INSTRUMENT when it cannot be told. Returns signals. */
uint32_t cw_engine_distrust(cw_engine *self, uint16_t line, uint32_t instrument);

/* The stage that began at the last call ends now. */
void cw_engine_end_stage(cw_engine *self, cw_stage stage);

static inline void cw_engine_stage(cw_engine *self, cw_stage stage) {
    if (CW_UNLIKELY(self->is_sampling)) cw_engine_end_stage(self, stage);
}

/* ---- inline: once per message ---- */

/* Move the clock to a moment. */
static inline void cw_engine_move_clock(cw_engine *self, int64_t ts_now, int64_t mono_now) {
    self->now.ts_rx = ts_now;
    if (mono_now > self->now.mono_rx) self->now.mono_rx = mono_now;
}

/* When a line that says no more will be silent for too long. */
static inline int64_t cw_pulse_end(const cw_pulse *pulse) {
    int64_t end;
    return __builtin_add_overflow(pulse->last_mono, pulse->limit_ns, &end) ? INT64_MAX : end;
}

/* Give a top to instruments that the scanner made on the way. */
void cw_engine_adopt(cw_engine *self, uint32_t instrument, uint16_t line);

/* Time the signals that were written since `first`: all of them by the read, a sampled read's by
 * stages. */
void cw_engine_time_signals(cw_engine *self, uint64_t first);

/* Keep a row; it may stand in its place already. */
static inline void cw_batch_put(cw_batch *batch, const cw_record *row) {
    cw_record *place;
    if (batch->count == batch->capacity) return; /* nobody wants rows */
    place = &batch->rows[batch->count];
    if (CW_UNLIKELY(row != place)) *place = *row;
    batch->count++;
}

static inline cw_origin cw_engine_origin(const cw_engine *self, uint16_t line) {
    const cw_pulse *pulse = &self->pulses[line];
    cw_origin origin = {pulse->epoch, line, self->venues[pulse->venue].seq_is_rising,
                        self->is_sampling};
    return origin;
}

/* Apply a quote and look at its routes. Returns signals written. */
static inline uint32_t cw_engine_apply(cw_engine *self, cw_origin origin, const cw_quote *quote) {
    uint64_t before = self->ring.head;
    uint32_t written;
    if (cw_top_apply(&self->books, quote, self->now.mono_rx, origin.line, origin.epoch,
                     origin.seq_is_rising) != CW_OK) {
        if (CW_UNLIKELY(self->books.tops[quote->instrument].watch))
            cw_watch_repeat(self, quote->instrument);
        return 0;
    }
    if (CW_UNLIKELY(self->books.tops[quote->instrument].watch)) cw_watch_quote(self, quote);
    self->now.ts_exch = quote->ts_exch;
    if (CW_UNLIKELY(origin.is_sampling)) cw_engine_end_stage(self, CW_STAGE_BOOK);
    written = cw_crosses_look(&self->crosses, &self->books, quote->instrument, &self->now,
                              &self->ring);
    if (CW_UNLIKELY(origin.is_sampling)) cw_engine_end_stage(self, CW_STAGE_DETECT);
    if (CW_UNLIKELY(written && self->clock.now_ns)) cw_engine_time_signals(self, before);
    return written;
}

/* Remember the last trade of an instrument and which line carries them. */
static inline void cw_engine_note_trade(cw_engine *self, cw_origin origin, const cw_trade *trade) {
    cw_stream *stream = &self->streams[trade->instrument];
    if (CW_UNLIKELY(stream->trade_cause)) cw_watch_trade(self, origin.line, trade);
    stream->trade_ts = trade->ts_rx;
    stream->trade_id = trade->trade_id;
    stream->trade_epoch = origin.epoch;
    stream->trade_line = origin.line;
}

static inline void cw_engine_count(cw_engine *self, uint16_t line, uint8_t kind,
                                   uint32_t instrument) {
    if (CW_UNLIKELY(instrument >= self->books.count)) cw_engine_adopt(self, instrument, line);
    self->counts[instrument * CW_KINDS + kind]++;
}

static inline uint32_t cw_engine_take(cw_engine *self, uint16_t line, int scanned, uint8_t kind,
                                      uint32_t instrument, cw_record *row) {
    cw_engine_count(self, line, kind, instrument);
    if (CW_UNLIKELY(self->pulses[line].group)) return cw_merge_take(self, line, scanned, row);
    if (scanned == CW_SCAN_QUOTE) {
        row->quote.ts_rx = self->now.ts_rx;
        cw_batch_put(&self->quotes, row);
        return cw_engine_apply(self, cw_engine_origin(self, line), &row->quote);
    }
    if (scanned == CW_SCAN_TRADE) {
        row->trade.ts_rx = self->now.ts_rx;
        cw_engine_note_trade(self, cw_engine_origin(self, line), &row->trade);
        cw_batch_put(&self->trades, row);
    }
    return 0;
}

#endif
