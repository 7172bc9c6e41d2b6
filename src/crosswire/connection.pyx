"""One WebSocket connection without I/O: bytes in, messages out, and the other way round.

RFC 6455, both roles, behind the upgrade. What arrives is put together by ``cw_receiver``; pings are
answered, the closing handshake is kept, and a peer that breaks the protocol is told so with the
right code. Whoever owns the socket writes :meth:`Connection.data_to_send` after every call that may
have left something there.

Rules:
1. A close is sent once, and nothing behind it.
2. A received close is answered with its code; data that comes between our close and the peer's is
   still handed out.
3. The first error is the last: it is answered with a close, and nothing more is read.
4. At most 16 pings of one round are answered, and of those beyond them the newest, as section
   5.5.3 allows.
"""

import enum

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy

from crosswire.kernels.base cimport CW_FULL, CW_NEED_MORE, CW_OK, cw_code_name, cw_code_text
from crosswire.kernels.buffer cimport CW_GUARD_BEFORE, cw_buffer_size
from crosswire.kernels.deflate cimport (
    cw_deflate, cw_deflate_bound, cw_deflate_close, cw_deflate_message, cw_deflate_open,
)
from crosswire.kernels.frame cimport (
    CW_BINARY, CW_CLIENT, CW_CLOSE, CW_CONTINUATION, CW_CONTROL_MAX, CW_FRAME_HEADER_MAX, CW_PING,
    CW_PONG, CW_SERVER, CW_TEXT, cw_close_code_for, cw_close_code_is_valid, cw_frame_write,
    cw_opcode,
)
from crosswire.kernels.heap cimport cw_heap
from crosswire.kernels.ops cimport CW_LEVEL_AVX512, cw_ops, cw_ops_for
from crosswire.kernels.receiver cimport (
    cw_message, cw_receiver, cw_receiver_close, cw_receiver_commit, cw_receiver_compact,
    cw_receiver_init, cw_receiver_next, cw_receiver_open, cw_receiver_skip, cw_receiver_tail,
    cw_receiver_take_deflate, cw_receiver_terms,
)
from crosswire.records cimport _Block, new_block

from .errors import UsageError, VenueError
from .handshake import Deflation

__all__ = ["Connection", "ConnectionState", "Opcode"]

PONGS_MAX = 16
MASKS_AT_ONCE = 256  # drawn from the source of randomness in one call

cdef enum:
    SMALL_SIZE = 1 << 16
    NO_STATUS = 1005
    ABNORMAL = 1006
    COMPRESSED = 0x40  # RSV1, RFC 7692 section 6


class Opcode(enum.IntEnum):
    """What a message or control frame is."""

    TEXT = CW_TEXT
    BINARY = CW_BINARY
    CLOSE = CW_CLOSE
    PING = CW_PING
    PONG = CW_PONG


class ConnectionState(enum.Enum):
    """Where a connection is in its life, behind the upgrade."""

    OPEN = "open"
    CLOSING = "closing"
    """We sent a close and wait for the peer's."""
    CLOSED = "closed"
    """Both closes were sent, or the protocol was broken, or the stream ended."""


_OPEN, _CLOSING, _CLOSED = ConnectionState.OPEN, ConnectionState.CLOSING, ConnectionState.CLOSED


@cython.final
cdef class _Span:
    """Bytes of a receive buffer for Python, writable where the next ones go. It keeps their memory
    and not the connection: what is kept too long is old, and never dangling."""

    cdef object owner
    cdef void *large  # a block of the heap that came to be this span's own
    cdef uint8_t *start
    cdef Py_ssize_t size, users
    cdef bint is_read_only

    def __dealloc__(self):
        PyMem_RawFree(self.large)

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.start is NULL:
            raise BufferError("the message is over")
        PyBuffer_FillInfo(view, self, self.start, self.size, self.is_read_only, flags)
        self.users += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.users -= 1


ctypedef void *(*_resize_type)(void *, void *, size_t) noexcept nogil


cdef void *_resize(void *user, void *block, size_t size) noexcept:
    """The heap of a connection: Python's, which can be watched. All calls hold the GIL."""
    cdef Connection connection = <Connection>user
    if size:
        return PyMem_RawRealloc(block, size)
    if connection.shown is None or block != connection.shown_block or connection._hide():
        PyMem_RawFree(block)
    return NULL


cdef int _check_zlib(int code) except -1:
    if code == CW_FULL:
        raise UsageError("a window has 8 to 15 bits, and a level is -1 to 9")
    if code != CW_OK:
        raise MemoryError
    return 0


@cython.no_gc_clear  # the collector would take the receiver's memory from under __dealloc__
@cython.final
cdef class Connection:
    """One WebSocket connection, behind its upgrade.

    Args:
        is_server: the role: a server reads masked frames and writes plain ones.
        random_bytes: source of ``n`` unpredictable bytes, for the masks of a client. It must not
            use the connection.
        read_size: bytes that one read may bring, 256 to 2^24.
        message_max: largest message in bytes, at most 2^30; a larger one closes with 1009.
        fragments_max: most fragments of one message; more close with 1009.
        controls_max: most control frames in one second; more close with 1008. 0: any number.
        deflation: what the upgrade agreed on compressed messages; ``None``: there are none.

    Attributes:
        state: a :class:`ConnectionState`.
        close_code, close_reason: what the peer's close said: 1005 where it gave no code, 1006 where
            the stream ended without a close; ``None`` before the end.

    Raises:
        UsageError: a size is out of range, or a client has no source of randomness.
    """

    cdef cw_receiver c
    cdef cw_deflate deflate
    cdef cw_heap heap
    cdef const cw_ops *ops
    cdef _Block rx, small
    cdef bint is_server
    cdef uint32_t read_size
    cdef _Span tail
    cdef void *shown_block  # the receiver's large block, while it is handed out
    cdef _Span shown
    cdef object shown_view
    cdef int64_t mono_now
    cdef object random_bytes
    cdef bytes masks
    cdef Py_ssize_t masks_used
    cdef list outgoing
    cdef int pong_count
    cdef bytes newest_ping
    cdef int fragmented  # opcode of the message of ours that is under way, 0: none
    cdef bint is_deflating, is_receiving
    cdef bint is_putting  # a frame is being made
    cdef bint has_sent_close
    cdef readonly object state
    cdef readonly object close_code
    cdef readonly str close_reason

    def __cinit__(self, *, bint is_server, random_bytes=None, read_size=65536,
                  message_max=1 << 20, fragments_max=65536, controls_max=1000, deflation=None):
        cdef cw_receiver_terms terms
        cdef uint32_t small_size
        if not 256 <= read_size <= 1 << 24 or not 0 <= message_max <= 1 << 30:
            raise UsageError("read_size must be 256..2^24 and message_max at most 2^30")
        if not (0 <= fragments_max < 1 << 32 and 0 <= controls_max < 1 << 32):
            raise UsageError("fragments_max and controls_max must be below 2^32")
        if not is_server and random_bytes is None:
            raise UsageError("a client needs random_bytes for its masks")
        self.is_server = is_server
        self.random_bytes = random_bytes
        self.read_size = read_size
        self.rx = new_block(cw_buffer_size(2 * self.read_size))
        small_size = min(SMALL_SIZE, message_max)
        self.small = new_block(cw_buffer_size(small_size))
        self.ops = cw_ops_for(CW_LEVEL_AVX512)
        terms.role = CW_SERVER if is_server else CW_CLIENT
        terms.checks_text = 1
        terms.rx = self.rx.data
        terms.rx_capacity = 2 * self.read_size
        terms.small = self.small.data
        terms.small_size = small_size
        self.heap.resize = <_resize_type>_resize
        self.heap.user = <void *>self
        terms.heap = self.heap
        terms.message_max = message_max
        terms.fragments_max = fragments_max
        terms.controls_max = controls_max
        if cw_receiver_init(&self.c, self.ops, &terms) != CW_OK:
            raise UsageError("impossible sizes")
        cw_receiver_open(&self.c)
        if deflation is not None:
            self._take(deflation)
        self.tail = self._span(self.rx, NULL, 0, False)
        self.masks = b""
        self.outgoing = []
        self.state = _OPEN

    def __dealloc__(self):
        self.shown_view = None  # it may be in use
        cw_receiver_close(&self.c)
        cw_deflate_close(&self.deflate)

    # ---- bytes in

    def window(self):
        """Return a writable memoryview of where the next bytes go, valid until the next call; it
        is never empty once :meth:`next_message` returned ``None``."""
        cdef uint32_t size
        if self.state is _CLOSED:  # nothing is read any more
            cw_receiver_skip(&self.c, self.c.rx.data + self.c.rx.received, 0)
        cw_receiver_compact(&self.c)
        self.tail.start = cw_receiver_tail(&self.c, &size)
        self.tail.size = size if size < self.read_size else self.read_size
        return PyMemoryView_FromObject(self.tail)

    def received(self, uint32_t n, int64_t mono_rx):
        """Say that ``n`` bytes were written into the window.

        Args:
            mono_rx: monotonic ns of the read.

        Raises:
            UsageError: more bytes than the window has.
        """
        if n > self.tail.size:
            raise UsageError(f"{n} bytes received into a window of {self.tail.size}")
        self.tail.size = 0
        self.mono_now = mono_rx
        cw_receiver_commit(&self.c, n)

    def next_message(self):
        """Return the next (opcode, payload) that came, or ``None`` when more bytes are needed.

        The payload is a read-only memoryview, valid until the next call of any method: its bytes
        are others then, or it is released. A ping was answered, a close handled, when it is
        returned. Behind an error or a close there is nothing.
        """
        cdef cw_message message
        cdef _Span span
        cdef int code
        self._check_idle()
        if self.state is _CLOSED:
            return None
        code = cw_receiver_next(&self.c, self.mono_now, &message)
        if code == CW_NEED_MORE:
            if self.c.has_close:  # there was no memory to take it
                self._end(0, b"")
                self._finish()
            return None
        if code != CW_OK:
            self._end(cw_close_code_for(code), b"")
            self._finish()
            return None
        if message.opcode == CW_PING:
            self._note_ping(PyBytes_FromStringAndSize(<char *>message.payload, message.len))
        elif message.opcode == CW_CLOSE:
            self._take_close(message.payload, message.len)
        span = self._span(self.rx if message.is_view else self.small, message.payload, message.len,
                          True)
        if self.c.large is not NULL and message.payload == self.c.large:
            self.shown, self.shown_block = span, self.c.large - CW_GUARD_BEFORE
            self.shown_view = PyMemoryView_FromObject(span)
            return message.opcode, self.shown_view
        return message.opcode, PyMemoryView_FromObject(span)

    def receive(self, data, int64_t mono_rx=0):
        """Take bytes of any length; yield every (opcode, payload) as :meth:`next_message` does.

        Raises:
            UsageError: the generator before was not run to its end.
        """
        cdef Py_ssize_t at = 0, n
        if self.is_receiving:
            raise UsageError("the bytes that were received before are not all taken")
        view = memoryview(data).cast("B")
        self.is_receiving = True
        while at < len(view) and self.state is not _CLOSED:
            window = self.window()
            n = min(len(window), len(view) - at)
            window[:n] = view[at:at + n]
            self.received(n, mono_rx)
            at += n
            while (message := self.next_message()) is not None:
                yield message
        self.is_receiving = False

    def receive_eof(self):
        """Say that the stream ended; without a close before, that is code 1006."""
        if self.close_code is None:
            self.close_code, self.close_reason = ABNORMAL, ""
        self._finish()

    # ---- messages out

    def send(self, int opcode, payload=b"", *, bint is_final=True):
        """Put one message, or a fragment of one, in line.

        Args:
            opcode: TEXT or BINARY; fragments behind the first are put with the same opcode.
            payload: bytes-like; that text is UTF-8 is the caller's care.
            is_final: ``False``: more fragments follow. Fragments are never compressed.

        Raises:
            UsageError: another opcode, or the connection is not open.
        """
        if opcode not in (CW_TEXT, CW_BINARY):
            raise UsageError(f"opcode {opcode} is no message; see ping(), pong() and close()")
        if self.fragmented and opcode != self.fragmented:
            raise UsageError(f"the fragments before this one have opcode {self.fragmented}")
        self._check_open()
        if self.is_deflating and is_final and not self.fragmented:
            self.is_deflating = False  # for good, where a message is lost that our window knows
            self._put(<cw_opcode>opcode, self._deflated(payload), True, COMPRESSED)
            self.is_deflating = True
            return
        self._put(<cw_opcode>(CW_CONTINUATION if self.fragmented else opcode), payload, is_final)
        self.fragmented = 0 if is_final else opcode

    def ping(self, payload=b""):
        """Put a ping in line, of at most 125 bytes.

        Raises:
            UsageError: it is longer, or the connection is not open.
        """
        self._put_control(CW_PING, payload)

    def pong(self, payload=b""):
        """Put an unasked pong in line; pings are answered without it. Raises as :meth:`ping`."""
        self._put_control(CW_PONG, payload)

    def close(self, int code=1000, str reason not None=""):
        """Begin the closing handshake; does nothing when a close was sent before.

        Raises:
            UsageError: a code that may not be sent, or a reason longer than 123 bytes.
        """
        cdef bytes text
        try:
            text = reason.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"the reason is no text that can be sent: {error}") from None
        if not cw_close_code_is_valid(code):
            raise UsageError(f"close code {code} may not be sent")
        if len(text) > CW_CONTROL_MAX - 2:
            raise UsageError(f"the reason has {len(text)} bytes; a close takes 123")
        if self.has_sent_close:
            return
        self._end(code, text)
        if self.state is _OPEN:
            self.state = _CLOSING

    def put_frames(self, bytes frames not None):
        """Put ready-made frames in line, as a server does that encodes once for many readers.

        Raises:
            UsageError: the connection is not open, or a fragmented message is under way.
        """
        self._check_open()
        if self.fragmented:
            raise UsageError("a fragmented message is under way")
        self.outgoing.append(frames)

    def data_to_send(self):
        """Return the bytes that are to be written to the socket now; empty when there are none."""
        self._answer_newest()
        self.pong_count = 0
        data = self.outgoing[0] if len(self.outgoing) == 1 else b"".join(self.outgoing)
        self.outgoing.clear()
        return data

    # ---- what there is

    @property
    def error(self):
        """What broke the connection, as a VenueError with its stream offset, or ``None``."""
        cdef int code = self.c.error.code
        if code == CW_OK:
            return None
        return VenueError(cw_code_name(code).decode(), self.c.error.at,
                          cw_code_text(code).decode())

    @property
    def frame_count(self):
        """Frames received."""
        return self.c.frames

    @property
    def ratio_alarms(self):
        """Messages of 64 KiB or more that had expanded to a hundred times their compressed bytes
        or more, within ``message_max``: no feed compresses so well."""
        return self.c.ratio_alarms

    # ---- steps

    cdef _Span _span(self, _Block owner, uint8_t *start, Py_ssize_t size, bint is_read_only):
        cdef _Span span = _Span.__new__(_Span)
        span.owner = owner
        span.start = start
        span.size = size
        span.is_read_only = is_read_only
        return span

    cdef bint _hide(self) noexcept:
        """End the view of the large block. 0 where there are others, made from it: the block is
        theirs then, and goes with them."""
        cdef _Span span = self.shown
        if self.shown_view is not None:
            try:
                self.shown_view.release()
            except BufferError:
                pass
        self.shown = self.shown_view = None
        if span.users:
            span.large = self.shown_block
        else:
            span.start = NULL
        return not span.users

    cdef int _take(self, deflation) except -1:
        """Compress and expand as the upgrade agreed. zlib cannot write with a window of 8 bits, so
        there our messages stay as they are, which is always allowed."""
        if not isinstance(deflation, Deflation):
            raise UsageError(f"{deflation!r} is no Deflation")
        _check_zlib(cw_receiver_take_deflate(&self.c, deflation.read_bits,
                                             deflation.reads_context))
        if deflation.write_bits == 8:
            return 0
        _check_zlib(cw_deflate_open(&self.deflate, &self.heap, deflation.write_bits,
                                    deflation.writes_context, deflation.level))
        self.is_deflating = True
        return 0

    cdef bytes _deflated(self, payload):
        cdef Py_buffer view
        cdef size_t made, room
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        try:
            room = cw_deflate_bound(view.len)
            out = PyBytes_FromStringAndSize(NULL, room)
            if cw_deflate_message(&self.deflate, <const uint8_t *>view.buf, view.len,
                                  <uint8_t *>PyBytes_AS_STRING(out), room, &made) != CW_OK:
                raise MemoryError
        finally:
            PyBuffer_Release(&view)
        return out[:made]

    cdef int _check_open(self) except -1:
        if self.has_sent_close or self.state is not _OPEN:
            raise UsageError(f"the connection is {self.state.value}; nothing more can be sent")
        return 0

    cdef int _note_ping(self, bytes payload) except -1:
        """Answer a ping in its place; of too many, the newest at the end."""
        if self.has_sent_close:
            return 0
        if self.pong_count == PONGS_MAX:
            self.newest_ping = payload
            return 0
        self.pong_count += 1
        return self._put(CW_PONG, payload, True)

    cdef int _answer_newest(self) except -1:
        if self.newest_ping is not None:
            self._put(CW_PONG, self.newest_ping, True)
            self.newest_ping = None
        return 0

    cdef int _take_close(self, const uint8_t *p, uint32_t n) except -1:
        if n < 2:
            self.close_code, self.close_reason = NO_STATUS, ""
        else:
            self.close_code = p[0] << 8 | p[1]
            self.close_reason = (<char *>p)[2:n].decode()
        self._end(self.close_code if n else 0, b"")
        self._finish()
        return 0

    cdef int _finish(self) except -1:
        """Nothing is read any more: give back what the heap gave for it."""
        self.state = _CLOSED
        cw_receiver_close(&self.c)
        return 0

    cdef int _end(self, int code, bytes reason) except -1:
        """Put the one close in line, without a code where it is 0."""
        if self.has_sent_close:
            return 0
        self._answer_newest()
        self._put(CW_CLOSE, code.to_bytes(2, "big") + reason if code else b"", True)
        self.has_sent_close = True
        return 0

    cdef int _put_control(self, cw_opcode opcode, payload) except -1:
        self._check_open()
        return self._put(opcode, payload, True)

    cdef int _put(self, cw_opcode opcode, payload, bint is_final,
                  uint8_t reserved_bits=0) except -1:
        cdef Py_buffer view
        cdef uint8_t header[CW_FRAME_HEADER_MAX]
        cdef uint8_t key[4]
        cdef uint32_t n
        cdef uint8_t *out
        self._check_idle()
        self.is_putting = True
        try:
            if not self.is_server:
                self._next_mask(key)
            PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        finally:
            self.is_putting = False
        try:
            if opcode >= CW_CLOSE and view.len > CW_CONTROL_MAX:
                raise UsageError(f"a control frame takes {CW_CONTROL_MAX} bytes, not {view.len}")
            n = cw_frame_write(header, opcode, is_final, view.len, NULL if self.is_server else key)
            frame = PyBytes_FromStringAndSize(NULL, n + view.len)
            out = <uint8_t *>PyBytes_AS_STRING(frame)
            header[0] |= reserved_bits
            memcpy(out, header, n)
            memcpy(out + n, view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        if not self.is_server:
            self.ops.mask(out + n, len(frame) - n, key, 0)
        self.outgoing.append(frame)
        return 0

    cdef int _check_idle(self) except -1:
        """Refuse what is called by the source of masks, or by a payload that is asked for its
        bytes: a frame is half made."""
        if self.is_putting:
            raise UsageError("random_bytes and payloads must not use the connection")
        return 0

    cdef int _next_mask(self, uint8_t *key) except -1:
        """Take four unpredictable bytes, each used once."""
        cdef bytes fresh
        if self.masks_used + 4 > len(self.masks):
            fresh = self.random_bytes(4 * MASKS_AT_ONCE)
            if fresh is None or len(fresh) < 4:
                raise UsageError("random_bytes gave fewer bytes than it was asked for")
            self.masks, self.masks_used = fresh, 0
        memcpy(key, PyBytes_AS_STRING(self.masks) + self.masks_used, 4)
        self.masks_used += 4
        return 0
