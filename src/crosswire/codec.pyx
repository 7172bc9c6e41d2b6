"""Frames, masks, UTF-8, compression, decimals and histograms for Python: kernels, one call each.

The hot path does not pass here. These are for what a connection sends, for tests and examples.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from crosswire.kernels.base cimport (
    CW_E_FRAME_TOO_BIG, CW_E_MEMORY, CW_FULL, CW_NEED_MORE, CW_OK, cw_code_name, cw_code_text,
)
from crosswire.kernels.buffer cimport CW_GUARD_BEFORE
from crosswire.kernels.decimal cimport CW_DECIMAL_INEXACT, CW_DECIMAL_TEXT_MAX
from crosswire.kernels.deflate cimport (
    CW_DEFLATE_BITS_MAX, CW_DEFLATE_BITS_MIN, cw_deflate, cw_deflate_bound, cw_deflate_close,
    cw_deflate_message, cw_deflate_open,
)
from crosswire.kernels.frame cimport (
    CW_CLIENT, CW_SERVER, cw_frame, cw_frame_read, cw_frame_write, cw_opcode,
)
from crosswire.kernels.heap cimport cw_heap
from crosswire.kernels.histogram cimport (
    cw_histogram, cw_histogram_clear, cw_histogram_quantile, cw_histogram_record,
)
from crosswire.kernels.inflate cimport (
    CW_INFLATE_GZIP, CW_INFLATE_RAW, CW_INFLATE_ZLIB, CW_WINDOW_BITS_MAX, CW_WINDOW_BITS_MIN,
    cw_inflate, cw_inflate_close, cw_inflate_end, cw_inflate_feed, cw_inflate_form,
    cw_inflate_open,
)
from crosswire.kernels.ops cimport CW_LEVEL_AVX2, CW_LEVEL_AVX512, CW_LEVEL_BASE, cw_level, \
    cw_ops, cw_ops_for
from crosswire.kernels.utf8 cimport cw_utf8, cw_utf8_feed, cw_utf8_is_whole
from crosswire.records cimport c_heap

from .errors import UsageError, VenueError

cdef extern from "Python.h":
    # As cpython.bytes has them, but for a bytes object that is still being made.
    PyObject *new_bytes "PyBytes_FromStringAndSize"(char *p, Py_ssize_t n) except NULL
    int _PyBytes_Resize(PyObject **p, Py_ssize_t n) except -1

__all__ = [
    "Deflate", "Histogram", "Inflate", "decimal", "encode_frame", "mask", "read_header",
    "utf8_error",
]

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
    cdef size_t at = 0, whole
    cdef Py_ssize_t before = 0, size
    cdef int code
    cdef const cw_ops *ops = _ops(isa)
    state.need = 0
    for piece in pieces:
        PyObject_GetBuffer(piece, &view, PyBUF_SIMPLE)
        whole = 0 if state.need else ops.utf8_prefix(<uint8_t *>view.buf, view.len)
        code = cw_utf8_feed(&state, <uint8_t *>view.buf + whole, view.len - whole, &at)
        size = view.len
        PyBuffer_Release(&view)
        if code != CW_OK:
            return before + <Py_ssize_t>(whole + at)
        before += size
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


# ------------------------------------------------------------------ compression


cdef cw_heap _HEAP = c_heap()

_FORMS = {"raw": CW_INFLATE_RAW, "gzip": CW_INFLATE_GZIP, "zlib": CW_INFLATE_ZLIB}


cdef bytes _shortened(PyObject *made, Py_ssize_t n):
    """Take over a new bytes object, cut to ``n`` bytes."""
    _PyBytes_Resize(&made, n)  # it lets go of the object when it fails
    try:
        return <bytes>made
    finally:
        Py_XDECREF(made)


cdef enum:
    # With zlib's state and window below 64 KiB. What is longer goes to a bytes object at once.
    _SCRATCH_SIZE = 16384


@cython.final
cdef class Inflate:
    """Compressed messages of one connection, in the order of arrival.

    Args:
        form: ``raw`` for a message of permessage-deflate (RFC 7692) without its tail
            00 00 FF FF; ``gzip`` or ``zlib`` where a message is one such member and nothing else.
        window_bits: 8..15, what the sender agreed to; 15 reads all. With less, a message that
            breaks the agreement may be refused or read.
        keeps_context: for ``raw``, whether a message may refer to those before it.
        output_max: bytes that a message may have when it is read. No more than this and 64 KiB
            are ever allocated, however much is packed into a message; this much at once for a
            message of more than 16 KiB.

    Raises:
        UsageError: a form, a window or a limit that cannot be.
    """

    cdef cw_inflate c
    cdef size_t output_max
    cdef uint8_t scratch[_SCRATCH_SIZE]

    def __cinit__(self, str form="raw", int window_bits=15, bint keeps_context=True,
                  output_max=1 << 20):
        if form not in _FORMS:
            raise UsageError(f"form {form!r}; it may be {', '.join(_FORMS)}")
        if not CW_WINDOW_BITS_MIN <= window_bits <= CW_WINDOW_BITS_MAX:
            raise UsageError(f"window_bits {window_bits}; it may be 8 to 15")
        if not 1 <= output_max <= 1 << 62:
            raise UsageError(f"output_max {output_max}; it may be 1 to 2^62")
        self.output_max = output_max
        cdef cw_inflate_form number = _FORMS[form]
        if cw_inflate_open(&self.c, &_HEAP, number, window_bits, keeps_context) != CW_OK:
            raise MemoryError

    def __dealloc__(self):
        cw_inflate_close(&self.c)

    def message(self, data):
        """Return what a whole message says.

        After any error the object is closed: what follows a message that could not be read cannot
        be trusted, and with context cannot be read.

        Args:
            data: bytes-like, the payload of all frames of the message.

        Raises:
            VenueError: ``inflate``, or ``frame-too-big`` for more than ``output_max`` bytes; the
                position is how many bytes of ``data`` were read until then.
            UsageError: the object is closed.
        """
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            return self._message(<const uint8_t *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef bytes _message(self, const uint8_t *p, size_t n):
        cdef size_t at = 0, made = 0, room = min(self.output_max, <size_t>_SCRATCH_SIZE)
        cdef PyObject *long_one = NULL
        cdef int code
        if self.c.stream == NULL:
            raise UsageError("this Inflate is closed, since a message could not be read")
        code = _read_on(&self.c, p, n, &at, self.scratch, room, &made)
        if code == CW_FULL and room < self.output_max:
            try:
                long_one = new_bytes(NULL, self.output_max)
            except MemoryError:
                cw_inflate_close(&self.c)
                raise
            memcpy(PyBytes_AS_STRING(<object>long_one), self.scratch, made)
            code = _read_on(&self.c, p, n, &at, <uint8_t *>PyBytes_AS_STRING(<object>long_one),
                            self.output_max, &made)
        code = _finish(&self.c, code, p, n, &at)
        if code != CW_OK:
            Py_XDECREF(long_one)
            cw_inflate_close(&self.c)
            raise MemoryError if code == CW_E_MEMORY else _fail(code, at)
        if long_one == NULL:
            return PyBytes_FromStringAndSize(<char *>self.scratch, made)
        return _shortened(long_one, made)


cdef int _read_on(cw_inflate *self, const uint8_t *p, size_t n, size_t *at, uint8_t *out,
                  size_t room, size_t *made) noexcept:
    """Read from byte ``at`` on, into ``out`` from byte ``made`` on, until it holds ``room``."""
    cdef size_t used, more
    cdef int code = cw_inflate_feed(self, p + at[0], n - at[0], &used, out + made[0],
                                    room - made[0], &more)
    at[0] += used
    made[0] += more
    return code


cdef int _finish(cw_inflate *self, int code, const uint8_t *p, size_t n, size_t *at) noexcept:
    """End a message of which as much was read as it may have."""
    cdef uint8_t beyond
    cdef size_t made = 0
    if code == CW_FULL:  # one byte of room tells whether it would have more
        code = _read_on(self, p, n, at, &beyond, 1, &made)
        if made:
            return CW_E_FRAME_TOO_BIG
    return code if code != CW_OK else cw_inflate_end(self, NULL, 0, &made)


@cython.final
cdef class Deflate:
    """Messages for one connection, compressed for permessage-deflate (RFC 7692).

    Args:
        window_bits: 9..15; messages refer back 2 to this power at most.
        keeps_context: whether messages may refer to those before them.
        level: 0 (stored) to 9 (smallest), or -1, zlib's choice.

    Raises:
        UsageError: a window or a level that zlib cannot write.
    """

    cdef cw_deflate c

    def __cinit__(self, int window_bits=15, bint keeps_context=True, int level=6):
        if not CW_DEFLATE_BITS_MIN <= window_bits <= CW_DEFLATE_BITS_MAX:
            raise UsageError(f"window_bits {window_bits}; it may be 9 to 15")
        if not -1 <= level <= 9:
            raise UsageError(f"level {level}; it may be -1 to 9")
        if cw_deflate_open(&self.c, &_HEAP, window_bits, keeps_context, level) != CW_OK:
            raise MemoryError

    def __dealloc__(self):
        cw_deflate_close(&self.c)

    def message(self, data):
        """Return a whole message compressed, without its tail 00 00 FF FF.

        The caller sends it in frames of which the first has RSV1 set.

        Args:
            data: bytes-like.
        """
        cdef Py_buffer view
        cdef PyObject *made = NULL
        cdef size_t n, room
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            room = cw_deflate_bound(view.len)
            made = new_bytes(NULL, room)
            cw_deflate_message(&self.c, <const uint8_t *>view.buf, view.len,
                               <uint8_t *>PyBytes_AS_STRING(<object>made), room, &n)
        finally:
            PyBuffer_Release(&view)
        return _shortened(made, n)
