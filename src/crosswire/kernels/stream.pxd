cdef extern from "crosswire/stream.h" nogil:
    enum:
        CW_GROUP_LINES

    ctypedef struct cw_stream:
        pass
