/* record.h — the flat records: what a message becomes. Little-endian, 64 bytes, one cache line.
 * `ts_*` are UTC nanoseconds, 0 = unknown. The numpy dtypes are computed from these structs. */
#ifndef CROSSWIRE_RECORD_H
#define CROSSWIRE_RECORD_H

#include "base.h"

typedef enum cw_record_kind { CW_COUNTED = 0, CW_QUOTE = 1, CW_TRADE = 2 } cw_record_kind;

/* Bits of `flags`, common to all records. */
#define CW_FLAG_INEXACT 0x1u   /* a number had more than 15 significant digits */
#define CW_FLAG_ONE_SIDED 0x2u /* a side is empty: its price or its size is 0 */
#define CW_FLAG_ID_HASHED 0x4u /* trade_id is a hash of an id too wide or not a number */

typedef struct cw_quote {
    int64_t ts_exch, ts_rx;
    uint64_t seq;
    double bid, bid_qty, ask, ask_qty;
    uint32_t instrument;
    uint16_t venue;
    uint16_t flags;
} cw_quote;

typedef struct cw_trade {
    int64_t ts_exch, ts_rx;
    uint64_t seq;
    uint64_t trade_id;
    double price, qty;
    uint32_t count; /* fills in this print; 1 where the venue does not say */
    int8_t side;    /* aggressor: +1 buy, -1 sell */
    uint8_t kind;   /* 0 ordinary, 1 other (insurance fund, ADL) */
    uint16_t reserved;
    uint32_t instrument;
    uint16_t venue;
    uint16_t flags;
} cw_trade;

typedef union cw_record {
    cw_quote quote;
    cw_trade trade;
    uint8_t bytes[64];
} cw_record;

_Static_assert(sizeof(cw_quote) == 64, "one cache line");
_Static_assert(sizeof(cw_trade) == 64, "one cache line");
_Static_assert(sizeof(cw_record) == 64, "one cache line");

#endif
