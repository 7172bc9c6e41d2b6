cdef extern from "crosswire/heap.h" nogil:
    ctypedef struct cw_heap:
        void *(*resize)(void *user, void *block, size_t size) noexcept nogil
        void *user

    void *cw_heap_take(const cw_heap *self, size_t size) noexcept
    void cw_heap_give(const cw_heap *self, void *block) noexcept
