/* scan_record.h — the values of a message to a record. */

/* The slots of one record, read. */
typedef struct values {
    union {
        double d;
        uint64_t u;
    } slot[CW_SLOTS];
    uint32_t seen;
    uint32_t flags;
    uint32_t instrument;
} values;

#define BIT(slot) (1u << (slot))
#define PRICES                                                                                  \
    (BIT(CW_SLOT_BID) | BIT(CW_SLOT_BID_QTY) | BIT(CW_SLOT_ASK) | BIT(CW_SLOT_ASK_QTY) |        \
     BIT(CW_SLOT_PRICE) | BIT(CW_SLOT_QTY))

_Static_assert(CW_DECIMAL_INEXACT == CW_FLAG_INEXACT, "flags of a decimal go into the record's");

/* A time in ms that fits in 63 bits of ns. */
#define TS_MS_MAX (INT64_MAX / 1000000)

static inline void write_quote(const values *v, cw_quote *q, uint16_t venue) {
    int has_both = v->slot[CW_SLOT_BID].d > 0 && v->slot[CW_SLOT_BID_QTY].d > 0 &&
                   v->slot[CW_SLOT_ASK].d > 0 && v->slot[CW_SLOT_ASK_QTY].d > 0;
    q->ts_exch = (int64_t)v->slot[CW_SLOT_TS_MS].u * 1000000;
    q->ts_rx = 0;
    q->seq = v->slot[CW_SLOT_SEQ].u;
    q->bid = v->slot[CW_SLOT_BID].d;
    q->bid_qty = v->slot[CW_SLOT_BID_QTY].d;
    q->ask = v->slot[CW_SLOT_ASK].d;
    q->ask_qty = v->slot[CW_SLOT_ASK_QTY].d;
    q->instrument = v->instrument;
    q->venue = venue;
    q->flags = (uint16_t)(v->flags | (has_both ? 0 : CW_FLAG_ONE_SIDED));
}

static inline void write_trade(const values *v, cw_trade *t, uint16_t venue) {
    int is_sell = v->seen & BIT(CW_SLOT_BUYER_IS_MAKER)
                      ? v->slot[CW_SLOT_BUYER_IS_MAKER].u != 0
                      : v->slot[CW_SLOT_SIDE].u != 0;
    t->ts_exch = (int64_t)v->slot[CW_SLOT_TS_MS].u * 1000000;
    t->ts_rx = 0;
    t->seq = v->slot[CW_SLOT_SEQ].u;
    t->trade_id = v->slot[CW_SLOT_TRADE_ID].u;
    t->price = v->slot[CW_SLOT_PRICE].d;
    t->qty = v->slot[CW_SLOT_QTY].d;
    t->count = v->seen & BIT(CW_SLOT_COUNT) ? (uint32_t)v->slot[CW_SLOT_COUNT].u : 1;
    t->side = is_sell ? -1 : 1;
    t->kind = (uint8_t)v->slot[CW_SLOT_TRADE_KIND].u;
    t->reserved = 0;
    t->instrument = v->instrument;
    t->venue = venue;
    t->flags = (uint16_t)v->flags;
}

static inline int write_record(const values *v, const cw_layout_message *message, cw_record *row,
                               uint16_t venue) {
    if (message->record == CW_QUOTE) {
        write_quote(v, &row->quote, venue);
        return CW_SCAN_QUOTE;
    }
    write_trade(v, &row->trade, venue);
    return CW_SCAN_TRADE;
}
