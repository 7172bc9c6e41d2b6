from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef extern from "crosswire/layout.h" nogil:
    enum:
        CW_SLOTS
        CW_KEY_MAX
        CW_TAG_MAX
        CW_LAYOUT_NODES_MAX
        CW_LAYOUT_MESSAGES_MAX

    ctypedef struct cw_layout_node:
        uint8_t key[24]
        uint16_t key_len
        uint16_t index
        uint16_t child_first
        uint16_t child_count
        uint8_t slot

    ctypedef struct cw_layout_message:
        uint8_t tag[24]
        uint16_t tag_len
        uint8_t record
        uint8_t kind
        uint32_t required
        uint32_t any_of
        uint32_t used
        uint8_t text[18]

    ctypedef struct cw_layout:
        cw_layout_node nodes[96]
        cw_layout_message messages[16]
        uint16_t node_count
        uint16_t message_count
        uint16_t each_node
        uint16_t word_len
        uint8_t word[16]

    int cw_layout_is_valid(const cw_layout *self) noexcept
