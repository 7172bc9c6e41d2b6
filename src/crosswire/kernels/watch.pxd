from libc.stdint cimport uint8_t, uint32_t

from crosswire.kernels.engine cimport cw_engine
from crosswire.kernels.loss cimport cw_loss

cdef extern from "crosswire/watch.h" nogil:
    int cw_watch_open_loss(const cw_engine *self, uint32_t instrument, uint8_t record,
                           cw_loss *loss) noexcept
