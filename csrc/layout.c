/* layout.c — the one place where a layout's indices are checked. */
#include "crosswire/layout.h"

static int node_is_valid(const cw_layout *self, const cw_layout_node *node) {
    if (node->key_len > CW_KEY_MAX) return 0;
    if (node->slot >= CW_SLOTS && node->slot != CW_SLOT_NONE) return 0;
    return node->child_first <= self->node_count &&
           node->child_count <= self->node_count - node->child_first;
}

static int message_is_valid(const cw_layout_message *message) {
    uint32_t all = (1u << CW_SLOTS) - 1;
    if (message->tag_len > CW_TAG_MAX || message->record > CW_TRADE || message->kind >= 8)
        return 0;
    return ((message->required | message->any_of | message->used) & ~all) == 0 &&
           (message->required & ~message->used) == 0 &&
           (message->required & (1u << CW_SLOT_SYMBOL)) != 0;
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
