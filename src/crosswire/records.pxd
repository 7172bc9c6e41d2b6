"""C memory with an owner of its own, and arrays over it."""

from libc.stdint cimport uint8_t

from crosswire.kernels.heap cimport cw_heap


cdef class _Block:
    cdef void *start
    cdef uint8_t *data  # 64-byte aligned
    cdef Py_ssize_t size


# A new block of `size` bytes. Pages that are never touched cost nothing.
cdef _Block new_block(size_t size)

# A read-only array over `count` rows of a block, the first at `first`; it keeps the block.
cdef object rows_of(_Block block, void *first, Py_ssize_t count, object dtype)

# The C library's allocator, for kernels that cannot be lent all memory at the start.
cdef cw_heap c_heap() noexcept
