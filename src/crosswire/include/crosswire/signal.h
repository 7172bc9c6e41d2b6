/* signal.h — the signal record: a 128-byte head and four legs of 64 bytes. */
#ifndef CROSSWIRE_SIGNAL_H
#define CROSSWIRE_SIGNAL_H

#include "base.h"

typedef enum cw_signal_kind { CW_SIGNAL_CROSS = 1 } cw_signal_kind;

typedef enum cw_signal_event {
    CW_SIGNAL_OPEN = 1,
    CW_SIGNAL_UPDATE = 2,
    CW_SIGNAL_CLOSE = 3
} cw_signal_event;

typedef enum cw_close_reason {
    CW_CLOSE_NONE = 0,
    CW_CLOSE_BUY_MOVED = 1,
    CW_CLOSE_SELL_MOVED = 2,
    CW_CLOSE_GATE = 4,   /* a book stopped being valid */
    CW_CLOSE_LIVENESS = 5, /* a venue fell silent */
    CW_CLOSE_LOST = 6,   /* a connection ended */
    CW_CLOSE_STALE = 7   /* a book was not quoted within its deadline */
} cw_close_reason;

/* Gate bits: 0 means actionable. */
#define CW_GATE_BOOK_A 0x1u
#define CW_GATE_BOOK_B 0x2u
#define CW_GATE_LIVENESS 0x8u

#define CW_NOT_SAMPLED 0xFFFFFFFFu

typedef struct cw_leg {
    uint16_t venue;
    int8_t side;      /* +1 buy, -1 sell */
    uint8_t fee_mode; /* 0 quote, 1 base, 2 third asset */
    uint32_t instrument;
    double vwap;  /* average price at qty */
    double limit; /* limit price */
    double qty;   /* base units */
    uint64_t book_seq;
    int64_t ts_exch;
    uint32_t age_us; /* since this leg's quote was received */
    uint32_t lag_us; /* CW_NOT_SAMPLED where unknown */
    int32_t skew_us;
    uint32_t skew_err_us; /* CW_NOT_SAMPLED where unknown */
} cw_leg;

typedef struct cw_signal {
    uint64_t seq;
    uint64_t opp_id;
    uint32_t rule_id;
    uint8_t kind, event, n_legs, close_reason;
    uint32_t gates, flags;
    int64_t ts_exch, ts_rx, mono_rx;
    uint32_t d_decode, d_book, d_detect, d_publish; /* ns; CW_NOT_SAMPLED where not measured */
    int64_t ts_open;
    double qty;          /* input asset of leg 0: base units bought */
    double notional_ref; /* cost of leg 0, fee included, in its quote currency */
    double profit_ref;   /* net profit in the quote currency */
    double ev_ref;       /* NaN where not computed */
    float gross_bps, net_bps, worst_bps, risk_bps;
    cw_leg legs[4];
} cw_signal;

_Static_assert(sizeof(cw_leg) == 64, "one cache line");
_Static_assert(sizeof(cw_signal) == 384, "six cache lines");

#endif
