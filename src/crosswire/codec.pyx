"""Frames, masks, UTF-8, decimals and histograms for Python: the kernels, one call each.

The hot path does not pass here. These are for what a connection sends, for tests and examples.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from crosswire.kernels.base cimport CW_NEED_MORE, CW_OK, cw_code_name, cw_code_text
from crosswire.kernels.buffer cimport CW_GUARD_BEFORE
from crosswire.kernels.decimal cimport CW_DECIMAL_INEXACT, CW_DECIMAL_TEXT_MAX
from crosswire.kernels.frame cimport (
    CW_CLIENT, CW_SERVER, cw_frame, cw_frame_read, cw_frame_write, cw_opcode,
)
from crosswire.kernels.histogram cimport (
    cw_histogram, cw_histogram_clear, cw_histogram_quantile, cw_histogram_record,
)
from crosswire.kernels.ops cimport CW_LEVEL_AVX2, CW_LEVEL_AVX512, CW_LEVEL_BASE, cw_level, \
    cw_ops, cw_ops_for
from crosswire.kernels.utf8 cimport cw_utf8, cw_utf8_feed, cw_utf8_is_whole

from .errors import UsageError, VenueError

__all__ = ["Histogram", "decimal", "encode_frame", "mask", "read_header", "utf8_error"]

_LEVELS = {"base": CW_LEVEL_BASE, "avx2": CW_LEVEL_AVX2, "avx512": CW_LEVEL_AVX512}


cdef const cw_ops *_ops(str isa) except NULL:
    if isa not in _LEVELS:
        raise UsageError(f"isa {isa!r}; it may be {', '.join(_LEVELS)}")
    cdef cw_level level = _LEVELS[isa]
    return cw_ops_for(level)


cdef object _fail(int code, uint64_t at):
    return VenueError(cw_code_name(code).decode(), at, cw_code_text(code).decode())


def encode_frame(int opcode, payload=b"", key=None, bint is_final=True):
    """Return one WebSocket frame.

    Args:
        opcode: 0..2 or 8..10.
        payload: bytes-like.
        key: 4 unpredictable bytes to mask with, as a client must; ``None`` for a server.

    Raises:
        UsageError: impossible opcode, key, or a control frame longer than 125 bytes.
    """
    cdef Py_buffer view
    cdef uint8_t header[14]
    cdef uint8_t mask_key[4]
    cdef uint32_t n
    cdef uint8_t *out
    if opcode not in (0, 1, 2, 8, 9, 10):
        raise UsageError(f"opcode {opcode}")
    if key is not None and len(key) != 4:
        raise UsageError("a mask has 4 bytes")
    PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
    try:
        if opcode >= 8 and (view.len > 125 or not is_final):
            raise UsageError("a control frame has at most 125 bytes and one piece")
        if key is not None:
            for i in range(4):
                mask_key[i] = key[i]
        n = cw_frame_write(header, <cw_opcode>opcode, is_final, view.len,
                           mask_key if key is not None else NULL)
        frame = PyBytes_FromStringAndSize(NULL, n + view.len)
        out = <uint8_t *>PyBytes_AS_STRING(frame)
        memcpy(out, header, n)
        memcpy(out + n, view.buf, view.len)
        if key is not None:
            cw_ops_for(CW_LEVEL_AVX512).mask(out + n, view.len, mask_key, 0)
        return frame
    finally:
        PyBuffer_Release(&view)


def read_header(data, *, bint is_server=False):
    """Return (opcode, is_final, header size, payload size, mask or None), or None when more bytes
    are needed.

    Raises:
        VenueError: the header breaks RFC 6455.
    """
    cdef Py_buffer view
    cdef cw_frame frame
    cdef uint32_t at
    cdef int code
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        code = cw_frame_read(<uint8_t *>view.buf, view.len, CW_SERVER if is_server else CW_CLIENT,
                             &frame, &at)
    finally:
        PyBuffer_Release(&view)
    if code == CW_NEED_MORE:
        return None
    if code != CW_OK:
        raise _fail(code, at)
    key = PyBytes_FromStringAndSize(<char *>frame.mask, 4) if frame.is_masked else None
    return frame.opcode, bool(frame.is_final), frame.header_len, frame.payload_len, key


def mask(data, key, size_t phase=0, str isa="avx512"):
    """XOR a writable buffer with a 4-byte key, in place; ``phase`` bytes came before it."""
    cdef Py_buffer view
    cdef uint8_t mask_key[4]
    if len(key) != 4:
        raise UsageError("a mask has 4 bytes")
    for i in range(4):
        mask_key[i] = key[i]
    cdef const cw_ops *ops = _ops(isa)
    PyObject_GetBuffer(data, &view, PyBUF_WRITABLE)
    try:
        ops.mask(<uint8_t *>view.buf, view.len, mask_key, phase)
    finally:
        PyBuffer_Release(&view)


def utf8_error(*pieces, str isa="avx512"):
    """Return the offset of the first byte at which the joined pieces stop being UTF-8, their
    whole length when they end inside a character, or -1 when they are UTF-8."""
    cdef Py_buffer view
    cdef cw_utf8 state
    cdef size_t at = 0, ascii
    cdef Py_ssize_t before = 0
    cdef int code
    cdef const cw_ops *ops = _ops(isa)
    state.need = 0
    for piece in pieces:
        PyObject_GetBuffer(piece, &view, PyBUF_SIMPLE)
        ascii = 0 if state.need else ops.ascii_prefix(<uint8_t *>view.buf, view.len)
        code = cw_utf8_feed(&state, <uint8_t *>view.buf + ascii, view.len - ascii, &at)
        PyBuffer_Release(&view)
        if code != CW_OK:
            return before + <Py_ssize_t>(ascii + at)
        before += len(piece)
    return -1 if cw_utf8_is_whole(&state) else before


def decimal(text, str isa="avx512"):
    """Return (nearest double, is inexact) of decimal text.

    Args:
        text: bytes; see ``decimal.h`` for the grammar.

    Raises:
        VenueError: ``number-form``, ``number-length`` or ``number-range`` with the position.
    """
    cdef uint8_t room[512]
    cdef bytes data = bytes(text)
    cdef size_t n = len(data), copied = min(n, CW_DECIMAL_TEXT_MAX)
    cdef double value = 0.0
    cdef uint32_t flags = 0, at = 0
    memcpy(room + CW_GUARD_BEFORE, <char *>data, copied)
    cdef int code = _ops(isa).decimal(room + CW_GUARD_BEFORE, n, &value, &flags, &at)
    if code != CW_OK:
        raise _fail(code, at)
    return value, bool(flags & CW_DECIMAL_INEXACT)


@cython.final
cdef class Histogram:
    """Durations in log-linear buckets, at most 1/32 wide relative to their value."""

    cdef cw_histogram c

    def __cinit__(self):
        cw_histogram_clear(&self.c)

    def record(self, uint64_t value):
        """Count one value."""
        cw_histogram_record(&self.c, value)

    def quantile(self, double p):
        """Return an upper bound of the p-th part (0 < p <= 1) of all values; 0 without any."""
        return cw_histogram_quantile(&self.c, p)

    @property
    def count(self):
        return self.c.count

    @property
    def max(self):
        return self.c.max

    def summary(self):
        """Return ``{"p50", "p99", "p99_9", "max"}``."""
        return {"p50": self.quantile(0.5), "p99": self.quantile(0.99),
                "p99_9": self.quantile(0.999), "max": self.c.max}
