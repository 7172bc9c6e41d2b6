from libc.stdint cimport uint8_t, uint32_t

cdef extern from "crosswire/symbol.h" nogil:
    enum:
        CW_NO_INSTRUMENT

    ctypedef struct cw_symbol:
        uint8_t text[32]
        uint32_t len
        uint32_t instrument

    ctypedef struct cw_symbols:
        cw_symbol *slots
        uint32_t capacity
