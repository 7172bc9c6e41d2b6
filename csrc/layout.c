/* layout.c — the one place where a layout's indices are checked. */
#include "crosswire/layout.h"

static int node_is_valid(const cw_layout *self, const cw_layout_node *node) {
    if (node->key_len > CW_KEY_MAX) return 0;
    if (node->slot >= CW_SLOTS && node->slot != CW_SLOT_NONE) return 0;
    return node->child_first <= self->node_count &&
           node->child_count <= self->node_count - node->child_first;
}

#define BIT(slot) (1u << (slot))

/* The slots that a record has a place for; what is only counted may use any. */
static uint32_t slots_of(uint32_t record) {
    uint32_t both = BIT(CW_SLOT_SYMBOL) | BIT(CW_SLOT_TAG) | BIT(CW_SLOT_SEQ) | BIT(CW_SLOT_TS_MS);
    if (record == CW_QUOTE)
        return both | BIT(CW_SLOT_BID) | BIT(CW_SLOT_BID_QTY) | BIT(CW_SLOT_ASK) |
               BIT(CW_SLOT_ASK_QTY) | BIT(CW_SLOT_BIDS) | BIT(CW_SLOT_ASKS);
    if (record == CW_TRADE)
        return both | BIT(CW_SLOT_TRADE_ID) | BIT(CW_SLOT_PRICE) | BIT(CW_SLOT_QTY) |
               BIT(CW_SLOT_SIDE) | BIT(CW_SLOT_BUYER_IS_MAKER) | BIT(CW_SLOT_COUNT) |
               BIT(CW_SLOT_TRADE_KIND);
    return BIT(CW_SLOTS) - 1;
}

/* 1 when a slot that is read as one kind of JSON value is declared to be that kind. */
static int texts_are_valid(const cw_layout_message *message) {
    static const struct {
        uint8_t slot, text;
    } ONLY[] = {{CW_SLOT_SYMBOL, CW_TEXT_STRING},
                {CW_SLOT_SIDE, CW_TEXT_STRING},
                {CW_SLOT_TRADE_KIND, CW_TEXT_STRING},
                {CW_SLOT_BUYER_IS_MAKER, CW_TEXT_BOOL}};
    for (uint32_t i = 0; i < sizeof ONLY / sizeof *ONLY; i++)
        if ((message->used & BIT(ONLY[i].slot)) && message->text[ONLY[i].slot] != ONLY[i].text)
            return 0;
    return 1;
}

static int message_is_valid(const cw_layout_message *message) {
    if (message->tag_len > CW_TAG_MAX || message->record > CW_TRADE || message->kind >= 8)
        return 0;
    return (message->used & ~slots_of(message->record)) == 0 &&
           (message->any_of & ~(BIT(CW_SLOTS) - 1)) == 0 &&
           (message->required & ~message->used) == 0 &&
           (message->required & BIT(CW_SLOT_SYMBOL)) != 0 && texts_are_valid(message);
}

int cw_layout_is_valid(const cw_layout *self) {
    if (self->node_count == 0 || self->node_count > CW_LAYOUT_NODES_MAX) return 0;
    if (self->message_count > CW_LAYOUT_MESSAGES_MAX) return 0;
    if (self->word_len > sizeof self->word) return 0;
    if (self->each_node != 0xFFFF && self->each_node >= self->node_count) return 0;
    for (uint32_t i = 0; i < self->node_count; i++)
        if (!node_is_valid(self, &self->nodes[i])) return 0;
    for (uint32_t i = 0; i < self->message_count; i++)
        if (!message_is_valid(&self->messages[i])) return 0;
    return 1;
}
