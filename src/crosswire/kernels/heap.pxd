cdef extern from "crosswire/heap.h" nogil:
    ctypedef struct cw_heap:
        void *(*resize)(void *user, void *block, size_t size) noexcept
        void *user
