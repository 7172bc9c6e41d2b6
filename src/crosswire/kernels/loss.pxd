from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "crosswire/loss.h" nogil:
    ctypedef enum cw_loss_cause:
        CW_LOSS_NONE
        CW_LOSS_LOST
        CW_LOSS_SILENT
        CW_LOSS_MESSAGE
        CW_LOSS_STALE

    ctypedef struct cw_loss:
        int64_t last_good_ts
        int64_t first_good_ts
        uint64_t last_seq
        uint64_t first_seq
        uint32_t instrument
        uint16_t line
        uint8_t record
        uint8_t cause

    ctypedef struct cw_losses:
        uint64_t dropped

    int cw_losses_take(cw_losses *self, cw_loss *loss) noexcept
