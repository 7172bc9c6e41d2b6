from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from crosswire.kernels.base cimport cw_error
from crosswire.kernels.buffer cimport cw_buffer
from crosswire.kernels.frame cimport cw_role
from crosswire.kernels.heap cimport cw_heap
from crosswire.kernels.ops cimport cw_ops

cdef extern from "crosswire/receiver.h" nogil:
    ctypedef struct cw_message:
        uint8_t *payload
        uint64_t at
        uint32_t len
        uint8_t opcode
        uint8_t is_view

    ctypedef struct cw_receiver_terms:
        cw_role role
        int checks_text
        void *rx
        uint32_t rx_capacity
        uint32_t small_size
        void *small
        cw_heap heap
        uint32_t message_max
        uint32_t fragments_max
        uint32_t controls_max

    ctypedef struct cw_receiver:
        cw_buffer rx
        uint8_t *large
        uint8_t has_close
        uint64_t frames
        uint64_t controls
        uint64_t ratio_alarms
        cw_error error

    int cw_receiver_init(cw_receiver *self, const cw_ops *ops,
                         const cw_receiver_terms *terms) noexcept
    void cw_receiver_open(cw_receiver *self) noexcept
    int cw_receiver_take_deflate(cw_receiver *self, int window_bits, int keeps_context) noexcept
    void cw_receiver_close(cw_receiver *self) noexcept
    uint8_t *cw_receiver_tail(cw_receiver *self, uint32_t *free_size) noexcept
    int cw_receiver_commit(cw_receiver *self, uint32_t n) noexcept
    int cw_receiver_next(cw_receiver *self, int64_t mono_now, cw_message *out) noexcept
    void cw_receiver_compact(cw_receiver *self) noexcept
    void cw_receiver_skip(cw_receiver *self, const uint8_t *p, uint64_t frames) noexcept
