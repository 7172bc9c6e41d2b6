"""What a Line needs of its Engine."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t

from crosswire.kernels.engine cimport cw_batch, cw_engine
from crosswire.kernels.histogram cimport cw_histogram
from crosswire.records cimport _Block


cdef class Engine:
    cdef cw_engine *c
    cdef _Block memory
    cdef list kept  # C memory that lives as long as the engine
    cdef list venue_names
    cdef dict venue_ids
    cdef list kinds
    cdef object ring_rows
    cdef object quote_rows, trade_rows
    cdef object _on_signals, _on_quotes, _on_trades
    cdef bint is_feeding
    cdef uint32_t rows_max
    cdef readonly uint64_t callback_errors
    cdef object __weakref__

    cdef uint16_t _venue(self, str name) except? 0xFFFF
    cdef uint32_t _instrument(self, object instrument) except? 0xFFFFFFFF
    cdef int _check_consumer(self, object callback) except -1
    cdef object _set_batch(self, cw_batch *batch, object callback, object dtype)
    cdef int _begin(self) except -1
    cdef int _call(self, object callback, object rows) except -1
    cdef int _give_signals(self) except -1
    cdef int _give_rows(self) except -1
    cdef int _note_failure(self, str what) except -1


cdef uint32_t within(str name, object value, uint32_t least, uint32_t most) except? 0
cdef dict quantiles_of(const cw_histogram *h)
