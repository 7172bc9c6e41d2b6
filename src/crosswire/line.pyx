"""The line: the thin owner of ``cw_line``, one connection's bytes on their way into an Engine."""

cimport cython
from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from crosswire.engine cimport Engine, quantiles_of, within
from crosswire.kernels.base cimport (
    CW_E_FIRST, CW_E_MESSAGE_UNKNOWN, CW_FULL, CW_OK, CW_TAKEN, cw_code_name, cw_code_text,
)
from crosswire.kernels.buffer cimport cw_buffer_size
from crosswire.kernels.frame cimport CW_CLIENT, CW_SERVER, cw_close_code_for
from crosswire.kernels.line cimport (
    CW_FED_CONTROL, CW_FED_MORE, CW_FED_RECORDS, CW_FED_SIGNALS, CW_LINE_ERRORS, cw_inbox_entry,
    cw_line, cw_line_close, cw_line_cover, cw_line_error, cw_line_feed, cw_line_init, cw_line_join,
    cw_line_lose, cw_line_memory, cw_line_open, cw_line_tail,
)
from crosswire.kernels.merge cimport cw_group_check, cw_merged
from crosswire.kernels.stream cimport CW_GROUP_LINES
from crosswire.kernels.symbol cimport CW_NO_INSTRUMENT
from crosswire.records cimport _Block, c_heap, new_block

from .errors import MessageError, UsageError, VenueError

__all__ = ["Line"]

cdef enum:
    INBOX_SIZE = 1 << 16
    SMALL_SIZE = 1 << 16
    RX_SIZE_MIN = 4096


@cython.final
cdef class _Window:
    """Where the next bytes of a line go, as a writable buffer. It keeps their memory and not the
    line, which keeps its front window: neither would ever be given back."""

    cdef _Block block
    cdef uint8_t *start
    cdef Py_ssize_t size

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.start, self.size, 0, flags)


# Not cleared by the collector, which would take the memory from under __dealloc__; whatever makes a
# cycle through a line's callbacks can be cleared instead.
@cython.no_gc_clear
@cython.final
cdef class Line:
    """One connection's receive buffer, frame state and layout prediction.

    The receive engine writes into :meth:`window` and then calls :meth:`received`; :meth:`feed`
    does both for bytes that one has. A line outlives its connections: :meth:`open` begins the
    next one. Its place in the engine is never given back.

    Args:
        engine: where the records go.
        venue: name of a venue that was added to it.
        group: 0, or 1 to 65535: lines of one group, four at most, carry the same streams of one
            venue. A quote or trade that came on one of them is not handed over again.
        place: 0 to 3: lines of one place in a group are there in turn, as where one relieves
            another; ``None``: a place of its own. :attr:`gaps_filled` goes by places.
        is_server: read masked frames, as a server does.
        read_size: bytes that one read may bring, 64 to 2^24.
        message_max: largest message in bytes, at most 2^30; a larger one fails the connection.
        fragments_max: most fragments of one message.
        controls_max: most control frames in one second; 0 allows any number.

    Attributes:
        engine: its engine.
        on_control: called with (opcode, bytes) for every control frame and every message that is
            no data, in the order of arrival.
        recorder: called with (bytes, ts_rx, mono_rx) for every read, before it is parsed.

    A callback that raises is logged and counted in ``engine.callback_errors``.

    Raises:
        UsageError: the venue is unknown, a size is out of range, there is no room for another
            line, or it cannot be of that group.
    """

    cdef cw_line *c
    cdef readonly Engine engine
    cdef _Block memory, rx, inbox, small
    cdef cw_merged *merged
    cdef uint32_t read_size
    cdef _Window tail
    cdef object front_window
    cdef public object on_control
    cdef public object recorder
    cdef uint64_t errors_read

    def __cinit__(self, Engine engine not None, str venue not None, *, group=0, place=None,
                  bint is_server=False, uint32_t read_size=16384, uint32_t message_max=8 << 20,
                  uint32_t fragments_max=65536, uint32_t controls_max=1000):
        if not 64 <= read_size <= 1 << 24 or message_max > 1 << 30:
            raise UsageError("read_size must be 64..2^24 and message_max at most 2^30")
        cdef uint16_t venue_id = engine._venue(venue)
        cdef cw_line_memory memory
        cdef _Block merged
        cdef uint16_t group_id = self._group_id(engine, venue, venue_id, group, place)
        self.engine = engine
        self.read_size = read_size
        memory.receiver.role = CW_SERVER if is_server else CW_CLIENT
        memory.receiver.rx_capacity = max(4 * read_size, <uint32_t>RX_SIZE_MIN)
        memory.receiver.small_size = SMALL_SIZE
        memory.receiver.message_max = message_max
        memory.receiver.fragments_max = fragments_max
        memory.receiver.controls_max = controls_max
        memory.receiver.heap = c_heap()
        memory.inbox_capacity = INBOX_SIZE
        self.rx = new_block(cw_buffer_size(memory.receiver.rx_capacity))
        self.small = new_block(cw_buffer_size(memory.receiver.small_size))
        self.inbox = new_block(memory.inbox_capacity)
        self.memory = new_block(sizeof(cw_line))
        memory.receiver.rx = self.rx.data
        memory.receiver.small = self.small.data
        memory.inbox = self.inbox.data
        self.tail = _Window.__new__(_Window)
        self.tail.block = self.rx
        self.c = <cw_line *>self.memory.data
        if cw_line_init(self.c, engine.c, venue_id, &memory) != CW_OK:
            raise UsageError("no room for another line; see Engine(lines_max=)")
        if group_id:
            merged = new_block(sizeof(cw_merged))
            engine.kept.append(merged)
            self.merged = <cw_merged *>merged.data
            cw_line_join(self.c, group_id, self.merged)
            if place is not None:
                engine.c.pulses[self.c.id].place = place

    cdef int _group_id(self, Engine engine, str venue, uint16_t venue_id, object group,
                       object place) except -1:
        """The number of a group that this line may join, or a UsageError that says why not."""
        cdef uint16_t number = <uint16_t>within("group", group, 0, 65535)
        if number == 0:
            return 0
        if place is not None:
            within("place", place, 0, CW_GROUP_LINES - 1)
        cdef int code = cw_group_check(engine.c, venue_id, number)
        if code == CW_FULL:
            raise UsageError(f"group {group} has {CW_GROUP_LINES} lines, which is the most")
        if code == CW_TAKEN:
            raise UsageError(f"group {group} is of another venue than {venue!r}")
        if code != CW_OK:
            raise UsageError(f"{venue!r} can have no group: its quotes have no key that two "
                             "connections share")
        return number

    def __dealloc__(self):
        if self.c is not NULL:
            cw_line_close(self.c)

    # ---- life

    def open(self, int64_t ts_now, int64_t mono_now):
        """Say that the connection is open: stream state starts afresh, counters go on."""
        self.engine._begin()
        try:
            cw_line_open(self.c, ts_now, mono_now)
            self.engine._give_signals()
        finally:
            self.engine.is_feeding = False

    def cover(self, int64_t ts_now, int64_t mono_now):
        """Say that from now on the line carries every stream of its group: all subscriptions were
        acknowledged and have settled. When another line of the group is lost or falls silent, its
        tops go over to this one and stay readable. Holds until :meth:`open`, :meth:`lose` or the
        connection's end.

        Raises:
            UsageError: the line is not open, or called from inside a callback.
        """
        if not self.engine.c.pulses[self.c.id].is_open:
            raise UsageError("a line covers between open() and lose() only")
        self.engine._begin()
        cw_line_cover(self.c, ts_now, mono_now)
        self.engine.is_feeding = False

    def lose(self, int64_t ts_now, int64_t mono_now):
        """Say that the connection ended: its tops are no longer readable unless another line of its
        group takes them over, what was open on it is closed, and the signals are handed over."""
        self.engine._begin()
        try:
            cw_line_lose(self.c, ts_now, mono_now)
            self.engine._give_signals()
        finally:
            self.engine.is_feeding = False

    # ---- bytes

    cpdef object window(self):
        """Return a writable memoryview of where the next bytes go, valid until the next call."""
        cdef uint32_t size
        self.tail.start = cw_line_tail(self.c, &size)
        self.tail.size = size if size < self.read_size else self.read_size
        if self.c.receiver.rx.received == 0:  # nothing is waiting: the view is always the same
            if self.front_window is None:
                self.front_window = PyMemoryView_FromObject(self.tail)
            return self.front_window
        return PyMemoryView_FromObject(self.tail)

    cpdef int received(self, uint32_t n, int64_t ts_rx, int64_t mono_rx) except -1:
        """Parse the ``n`` bytes that were written into the window, all with one stamp.

        Returns:
            0, or 1 when the connection is to be closed: see :attr:`error` and :attr:`is_closed`.

        Raises:
            UsageError: more bytes than the window has, the line was never opened, or called
                from inside a callback.
        """
        cdef uint32_t fed
        if n > self.tail.size:
            raise UsageError(f"{n} bytes received into a window of {self.tail.size}")
        if not (self.engine.c.pulses[self.c.id].is_open or self.c.is_done):
            raise UsageError("a line takes bytes between open() and lose() only")
        self.engine._begin()
        self.tail.size = 0
        try:
            if self.c.is_done:  # the engine takes none of it, and a recording holds what it took
                return 1
            if self.recorder is not None:
                self._record(n, ts_rx, mono_rx)
            fed = cw_line_feed(self.c, n, ts_rx, mono_rx)
            while True:
                if fed & CW_FED_SIGNALS:
                    self.engine._give_signals()
                if fed & CW_FED_RECORDS or not fed & CW_FED_MORE:
                    self.engine._give_rows()
                if fed & CW_FED_CONTROL:
                    self._give_control()
                if not fed & CW_FED_MORE:
                    break
                fed = cw_line_feed(self.c, 0, ts_rx, mono_rx)
        finally:
            self.engine.is_feeding = False
        return self.c.is_done

    def feed(self, data, int64_t ts_rx, int64_t mono_rx):
        """Copy bytes in and parse them, all with one stamp.

        Args:
            data: bytes-like, any length.

        Returns:
            0, or 1 when the connection is to be closed.
        """
        cdef Py_buffer view
        cdef Py_ssize_t at = 0, n
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            while at < view.len and not self.c.is_done:
                self.window()
                n = min(self.tail.size, view.len - at)
                memcpy(self.tail.start, <char *>view.buf + at, n)
                self.received(<uint32_t>n, ts_rx, mono_rx)
                at += n
        finally:
            PyBuffer_Release(&view)
        return self.c.is_done

    cdef int _record(self, uint32_t n, int64_t ts_rx, int64_t mono_rx) except -1:
        data = PyBytes_FromStringAndSize(<char *>self.tail.start, n)
        try:
            self.recorder(data, ts_rx, mono_rx)
        except Exception:
            self.engine._note_failure("a recorder")
        return 0

    cdef int _give_control(self) except -1:
        cdef uint32_t at = 0
        cdef cw_inbox_entry entry
        while at < self.c.inbox_len:
            memcpy(&entry, self.inbox.data + at, sizeof(entry))
            at += sizeof(entry)
            payload = PyBytes_FromStringAndSize(<char *>self.inbox.data + at, entry.len)
            at += (entry.len + 3) & ~<uint32_t>3
            if self.on_control is not None:
                try:
                    self.on_control(entry.opcode, payload)
                except Exception:
                    self.engine._note_failure("on_control")
        self.c.inbox_len = 0
        return 0

    def reject(self):
        """Count a control message that nobody understands as the error ``message-unknown``."""
        self.engine.c.errors[CW_E_MESSAGE_UNKNOWN - CW_E_FIRST] += 1

    # ---- what there is

    @property
    def id(self):
        return self.c.id

    @property
    def group(self):
        """The group that it is of; 0: it is alone."""
        return self.engine.c.pulses[self.c.id].group

    @property
    def is_covering(self):
        """It carries every stream of its group."""
        return bool(self.engine.c.pulses[self.c.id].is_covering)

    @property
    def wins(self):
        """Records that came on this line first, of a line in a group."""
        return self.merged.wins if self.merged is not NULL else 0

    @property
    def duplicates(self):
        """Records that had come on another line of the group, or were not newer."""
        return self.merged.duplicates if self.merged is not NULL else 0

    @property
    def gaps_filled(self):
        """Wins while another line of the group was not covering: without this one they would have
        been missing or late."""
        return self.merged.gaps_filled if self.merged is not NULL else 0

    def margin_ns(self):
        """Return ``{"count", "p50", "p99", "p99_9", "max"}`` of ns from a quote that came on this
        line first to its first copy on another line of the group."""
        return quantiles_of(&self.merged.margin if self.merged is not NULL else NULL)

    @property
    def is_done(self):
        """Nothing more is read: a close frame came, the protocol was broken, or it was lost."""
        return bool(self.c.is_done)

    @property
    def is_closed(self):
        """A close frame was received."""
        return bool(self.c.receiver.has_close)

    @property
    def is_live(self):
        """The connection is open and not silent, as of the engine's time."""
        return bool(self.engine.c.pulses[self.c.id].is_live)

    @property
    def error(self):
        """The protocol error that broke the connection, as a VenueError, or None."""
        cdef int code = self.c.receiver.error.code
        if code == CW_OK:
            return None
        return VenueError(cw_code_name(code).decode(), self.c.receiver.error.at,
                          cw_code_text(code).decode())

    @property
    def close_code(self):
        """The close code that answers :attr:`error`."""
        cdef int code = self.c.receiver.error.code
        return cw_close_code_for(code) if code else 1000

    @property
    def byte_count(self):
        return self.c.bytes

    @property
    def frame_count(self):
        return self.c.receiver.frames

    @property
    def message_count(self):
        return self.c.messages

    @property
    def error_count(self):
        """Messages lost to an error."""
        return self.c.error_count

    @property
    def predictions(self):
        """(messages read by a template, messages that took the order-free scan)."""
        return self.c.scanner.hits, self.c.scanner.misses

    def message_errors(self):
        """Return the message errors since the last call as :class:`MessageError`, oldest first;
        at most the last 16 are kept."""
        cdef uint64_t i = self.errors_read
        cdef cw_line_error *e
        found = []
        if self.c.error_count > CW_LINE_ERRORS and i < self.c.error_count - CW_LINE_ERRORS:
            i = self.c.error_count - CW_LINE_ERRORS
        while i < self.c.error_count:
            e = &self.c.errors[i % CW_LINE_ERRORS]
            instrument = None if e.instrument == CW_NO_INSTRUMENT else e.instrument
            code, text = cw_code_name(e.error.code), cw_code_text(e.error.code)
            found.append(MessageError(code.decode(), e.error.at, e.message, instrument,
                                      text.decode()))
            i += 1
        self.errors_read = i
        return found
