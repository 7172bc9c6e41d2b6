cdef extern from "crosswire/decimal.h" nogil:
    enum:
        CW_DECIMAL_TEXT_MAX
        CW_DECIMAL_INEXACT
