"""TLS receive engines: a socket's records, decrypted straight into a protocol's buffer.

What costs on a feed of small records is neither the cipher nor the parser but what lies between:
the loop's own TLS makes Python objects of each read and moves its bytes twice. Here one ``recv``
takes all there is, and OpenSSL decrypts record after record from there into the buffer of a
``BufferedProtocol``, which is told once for many.

Two engines do so:

- ``direct`` calls ``SSL_read_ex`` of the very OpenSSL that Python's ``ssl`` is linked with, on the
  connection that Python made and verified. It relies on public functions of OpenSSL alone, found
  with ``dlsym``, and on no layout of a struct; :func:`find_fault` tells why it cannot be used.
- ``public`` needs nothing but ``ssl.SSLObject`` and ``ssl.MemoryBIO``.

Rules:
1. Python's ``ssl`` makes the context, verifies, shakes hands and encrypts what is sent. Nothing
   here can lower what it verifies.
2. All calls hold the GIL and come from the loop's thread; nothing blocks.
3. One turn of the loop decrypts at most ``TURN_SIZE`` bytes, and a protocol is told after
   ``STEP_SIZE`` at the latest, so that a burst delays neither other connections nor its own first
   message.
"""

import os
import ssl

cimport cython
from cpython.buffer cimport (
    PyBUF_READ, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from crosswire.wake cimport KernelDelay

from .errors import UsageError

__all__ = ["DirectReader", "PublicReader", "Records", "Spy", "find_fault"]

cdef enum:
    RAW_SIZE = 1 << 18
    STEP_SIZE = 1 << 14
    TURN_SIZE = 1 << 18
    RECORD_SIZE = (1 << 14) + 2048  # the most that a record of TLS 1.2 may have behind its header
    STAMP_EVERY = 7  # reads: being told of the kernel's stamp costs 0.1 to 0.3 us
    MODE_RELEASE_BUFFERS = 0x10
    CTRL_CLEAR_MODE = 78
    CTRL_PENDING = 10  # BIO_CTRL_PENDING
    CTRL_FLUSH = 11
    ERROR_WANT_READ = 2
    ERROR_ZERO_RETURN = 6
    RETRY_READ = 0x01 | 0x08  # BIO_FLAGS_READ, BIO_FLAGS_SHOULD_RETRY
    RETRY_ALL = 0x0F
    EX_INDEX_SSL = 0

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int fd, void *p, size_t n, int flags)
    int MSG_DONTWAIT

cdef extern from "<errno.h>" nogil:
    int c_errno "errno"
    int EAGAIN
    int EWOULDBLOCK
    int EINTR

cdef extern from "<dlfcn.h>" nogil:
    void *dlopen(const char *path, int mode)
    void *dlsym(void *handle, const char *name)
    int RTLD_NOW
    int RTLD_NOLOAD

# A recv that tells the kernel's stamp of the last packet of what it gives, in ns of UTC; 0: it has
# none. The control data is read by name where the system knows stamps in ns.
cdef extern from *:
    """
    #include <string.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #include <time.h>

    static ssize_t cw_recv_stamped(int fd, void *p, size_t n, int64_t *stamp_ns) {
        union { struct cmsghdr head; char room[128]; } control;
        struct iovec into = {p, n};
        struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1,
                                 .msg_control = &control, .msg_controllen = sizeof(control)};
        ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT);
        *stamp_ns = 0;
    #ifdef SCM_TIMESTAMPNS
        struct cmsghdr *c = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
        for (; c; c = CMSG_NXTHDR(&message, c))
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
                struct timespec t;
                if (c->cmsg_len < CMSG_LEN(sizeof(t))) continue;
                memcpy(&t, CMSG_DATA(c), sizeof(t));
                *stamp_ns = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
            }
    #endif
        return got;
    }
    """
    ssize_t cw_recv_stamped(int fd, void *p, size_t n, int64_t *stamp_ns) nogil

# new_func is called for every SSL of the process, perhaps without the GIL: it touches what is its
# own thread's alone.
cdef extern from *:
    """
    static _Thread_local void *cw_made_last;
    static _Thread_local int cw_made_count;

    static void cw_note_made(void *parent, void *p, void *data, int index, long argl, void *argp) {
        (void)p; (void)data; (void)index; (void)argl; (void)argp;
        cw_made_last = parent;
        cw_made_count++;
    }
    """
    void *cw_made_last
    int cw_made_count
    void cw_note_made(void *parent, void *p, void *data, int index, long argl, void *argp) nogil


# ------------------------------------------------------------------ OpenSSL, as Python has it

ctypedef void *ptr

cdef struct _OpenSsl:
    int (*SSL_read_ex)(ptr connection, void *p, size_t n, size_t *made) noexcept nogil
    int (*SSL_get_error)(ptr connection, int returned) noexcept nogil
    int (*SSL_is_server)(ptr connection) noexcept nogil
    int (*SSL_has_pending)(ptr connection) noexcept nogil
    long (*SSL_ctrl)(ptr connection, int command, long larg, void *parg) noexcept nogil
    ptr (*SSL_get_rbio)(ptr connection) noexcept nogil
    ptr (*SSL_get_wbio)(ptr connection) noexcept nogil
    void (*SSL_set0_rbio)(ptr connection, ptr bio) noexcept nogil
    ptr (*SSL_get_ex_data)(ptr connection, int index) noexcept nogil
    int (*CRYPTO_get_ex_new_index)(int kind, long argl, void *argp, void *make, void *copy,
                                   void *drop) noexcept nogil
    ptr (*BIO_meth_new)(int kind, const char *name) noexcept nogil
    int (*BIO_meth_set_read)(ptr method, void *read) noexcept nogil
    int (*BIO_meth_set_ctrl)(ptr method, void *ctrl) noexcept nogil
    ptr (*BIO_new)(ptr method) noexcept nogil
    ptr (*BIO_s_mem)() noexcept nogil
    void (*BIO_set_data)(ptr bio, void *data) noexcept nogil
    void *(*BIO_get_data)(ptr bio) noexcept nogil
    void (*BIO_set_init)(ptr bio, int init) noexcept nogil
    void (*BIO_set_flags)(ptr bio, int flags) noexcept nogil
    void (*BIO_clear_flags)(ptr bio, int flags) noexcept nogil
    long (*BIO_ctrl)(ptr bio, int command, long larg, void *parg) noexcept nogil
    void (*ERR_clear_error)() noexcept nogil
    unsigned long (*ERR_peek_last_error)() noexcept nogil
    const char *(*ERR_reason_error_string)(unsigned long code) noexcept nogil
    const char *(*OpenSSL_version)(int kind) noexcept nogil

cdef _OpenSsl _lib
cdef ptr _method = NULL  # of our own BIO
cdef str _fault = None  # why there is no direct engine; "": there is


cdef int _find(void *handle, const char *name, void **out) except -1:
    out[0] = dlsym(handle, name)
    if out[0] is NULL:
        raise UsageError(f"the TLS library of this Python has no {name.decode()}")
    return 0


cdef int _load() except -1:
    """Find every function, and make the BIO's method; UsageError tells what is missing."""
    global _method
    import _ssl
    cdef void *handle
    cdef bytes path = os.fsencode(getattr(_ssl, "__file__", "") or "")
    if not path:
        raise UsageError("the TLS library of this Python is part of it")
    handle = dlopen(path, RTLD_NOW | RTLD_NOLOAD)
    if handle is NULL:
        raise UsageError("the ssl module of this Python cannot be opened")
    _find(handle, b"SSL_read_ex", <void **>&_lib.SSL_read_ex)
    _find(handle, b"SSL_get_error", <void **>&_lib.SSL_get_error)
    _find(handle, b"SSL_is_server", <void **>&_lib.SSL_is_server)
    _find(handle, b"SSL_has_pending", <void **>&_lib.SSL_has_pending)
    _find(handle, b"SSL_ctrl", <void **>&_lib.SSL_ctrl)
    _find(handle, b"SSL_get_rbio", <void **>&_lib.SSL_get_rbio)
    _find(handle, b"SSL_get_wbio", <void **>&_lib.SSL_get_wbio)
    _find(handle, b"SSL_set0_rbio", <void **>&_lib.SSL_set0_rbio)
    _find(handle, b"SSL_get_ex_data", <void **>&_lib.SSL_get_ex_data)
    _find(handle, b"CRYPTO_get_ex_new_index", <void **>&_lib.CRYPTO_get_ex_new_index)
    _find(handle, b"BIO_meth_new", <void **>&_lib.BIO_meth_new)
    _find(handle, b"BIO_meth_set_read", <void **>&_lib.BIO_meth_set_read)
    _find(handle, b"BIO_meth_set_ctrl", <void **>&_lib.BIO_meth_set_ctrl)
    _find(handle, b"BIO_new", <void **>&_lib.BIO_new)
    _find(handle, b"BIO_s_mem", <void **>&_lib.BIO_s_mem)
    _find(handle, b"BIO_set_data", <void **>&_lib.BIO_set_data)
    _find(handle, b"BIO_get_data", <void **>&_lib.BIO_get_data)
    _find(handle, b"BIO_set_init", <void **>&_lib.BIO_set_init)
    _find(handle, b"BIO_set_flags", <void **>&_lib.BIO_set_flags)
    _find(handle, b"BIO_clear_flags", <void **>&_lib.BIO_clear_flags)
    _find(handle, b"BIO_ctrl", <void **>&_lib.BIO_ctrl)
    _find(handle, b"ERR_clear_error", <void **>&_lib.ERR_clear_error)
    _find(handle, b"ERR_peek_last_error", <void **>&_lib.ERR_peek_last_error)
    _find(handle, b"ERR_reason_error_string", <void **>&_lib.ERR_reason_error_string)
    _find(handle, b"OpenSSL_version", <void **>&_lib.OpenSSL_version)
    version = _lib.OpenSSL_version(0).decode()
    if version != ssl.OPENSSL_VERSION or ssl.OPENSSL_VERSION_INFO < (1, 1, 1):
        raise UsageError(f"the functions found are of {version}, not of {ssl.OPENSSL_VERSION}")
    if _lib.CRYPTO_get_ex_new_index(EX_INDEX_SSL, 0, NULL, <void *>cw_note_made, NULL, NULL) < 0:
        raise UsageError("the TLS library tells of no connection that it makes")
    _method = _lib.BIO_meth_new(0, b"crosswire")
    if _method is NULL:
        raise MemoryError
    _lib.BIO_meth_set_read(_method, <void *>_source_read)
    _lib.BIO_meth_set_ctrl(_method, <void *>_source_ctrl)
    return 0


def find_fault():
    """Return why the direct engine cannot be used in this process, in words; ``""``: it can."""
    global _fault
    if _fault is None:
        try:
            _load()
            _fault = ""
        except UsageError as error:
            _fault = str(error)
    return _fault


# ------------------------------------------------------------------ our BIO: bytes of the last recv

cdef struct _Source:
    const uint8_t *p
    size_t n


cdef int _source_read(ptr bio, char *out, int n) noexcept nogil:
    cdef _Source *source = <_Source *>_lib.BIO_get_data(bio)
    cdef size_t given = source.n if source.n < <size_t>n else <size_t>n
    _lib.BIO_clear_flags(bio, RETRY_ALL)
    if given == 0:
        _lib.BIO_set_flags(bio, RETRY_READ)
        return -1
    memcpy(out, source.p, given)
    source.p += given
    source.n -= given
    return <int>given


cdef long _source_ctrl(ptr bio, int command, long larg, void *parg) noexcept nogil:
    if command == CTRL_PENDING:
        return <long>(<_Source *>_lib.BIO_get_data(bio)).n
    return command == CTRL_FLUSH


# ------------------------------------------------------------------ which SSL* is Python's

@cython.final
cdef class Spy:
    """Sees which connection OpenSSL makes for a ``SSLContext.wrap_bio`` inside its ``with`` block.

    Attributes:
        fault: why the direct engine must not be used on it, in words, once the block is left and
            :meth:`check` was called; ``""``: it may.
    """

    cdef ptr connection
    cdef object owner  # Python's, once it was checked: the connection lives as long as it does
    cdef readonly str fault

    def __cinit__(self):
        self.fault = find_fault()

    def __enter__(self):
        global cw_made_count
        cw_made_count = 0
        return self

    def __exit__(self, *exc):
        if not self.fault:
            if cw_made_count != 1:
                self.fault = f"{cw_made_count} connections were made in place of one"
            else:
                self.connection = cw_made_last

    def check(self, ssl_object, incoming, outgoing):
        """Hold what was seen against what Python has, behind the first step of the handshake.

        Args:
            ssl_object: of ``wrap_bio``.
            incoming, outgoing: its two ``MemoryBIO``, with what is under way in them.

        Returns:
            the fault, as the attribute.
        """
        if self.fault:
            return self.fault
        if <uintptr_t>_lib.SSL_get_ex_data(self.connection, 0) != id(ssl_object._sslobj):
            self.fault = "the connection that was made is not Python's"
        elif _lib.SSL_is_server(self.connection):
            self.fault = "the connection that was made is a server's"
        elif (_pending(_lib.SSL_get_wbio(self.connection)) != outgoing.pending or
              _pending(_lib.SSL_get_rbio(self.connection)) != incoming.pending):
            self.fault = "the connection that was made does not use Python's buffers"
        else:
            self.owner = ssl_object._sslobj
        return self.fault


cdef long _pending(ptr bio) except -1:
    return 0 if bio is NULL else _lib.BIO_ctrl(bio, CTRL_PENDING, 0, NULL)


# ------------------------------------------------------------------ the readers

cdef class _Reader:
    """What is common to both engines: reads of the socket, and what the protocol is told.

    Args:
        fd: a connected socket that does not block.
        ssl_object: its connection, behind the handshake.
        incoming: the ``MemoryBIO`` that it reads from; what the handshake left there comes first.
        get_buffer, buffer_updated: the protocol's.
        delay: where the kernel's stamps are counted, if it was asked for them; or ``None``.
        on_turn: called without arguments behind each turn in which OpenSSL may want to send.
        on_end: called with ``None`` at the end of the stream, or with the error that ended it; of
            no more than one turn.

    Attributes:
        is_paused: nothing is read or handed over while it is set.
        is_over: the stream ended, or what came is thrown away.
    """

    cdef int fd
    cdef object ssl_object, incoming, get_buffer, buffer_updated, on_turn, on_end
    cdef KernelDelay delay
    cdef unsigned int unstamped_left  # reads until the next is asked for its stamp
    cdef public bint is_paused, is_over
    cdef bint is_held  # bytes of the last recv are not decrypted yet
    cdef bint is_closed  # the peer said that no more comes
    cdef object broken  # the error of OpenSSL behind which nothing comes
    cdef uint8_t *raw

    def __cinit__(self, *args):
        self.raw = <uint8_t *>malloc(RAW_SIZE)
        if self.raw is NULL:
            raise MemoryError

    def __init__(self, int fd, ssl_object, incoming, get_buffer, buffer_updated,
                 KernelDelay delay, on_turn, on_end):
        self.fd = fd
        self.delay = delay
        self.ssl_object = ssl_object
        self.incoming = incoming
        self.get_buffer = get_buffer
        self.buffer_updated = buffer_updated
        self.on_turn = on_turn
        self.on_end = on_end
        self.is_held = True  # what the handshake left

    def __dealloc__(self):
        free(self.raw)

    def detach(self):
        """Let the connection go, which outlives this reader."""

    def forget(self):
        """Forget whom to tell, behind the end: they hold this reader, and would live until the next
        collection of garbage."""
        self.get_buffer = self.buffer_updated = self.on_turn = self.on_end = None

    cdef int take(self, size_t n) except -1:
        """``n`` raw bytes are there to be decrypted."""
        raise NotImplementedError

    cdef Py_ssize_t decrypt(self, Py_buffer *view, size_t room) except -1:
        """Decrypt into a view; 0: more bytes are needed, or the peer said that it is over."""
        raise NotImplementedError

    cdef bint has_replies(self):
        """Whether OpenSSL may want to send."""
        return True

    cdef ssize_t receive(self) noexcept:
        """Take what there is; of every few reads, count how long it lay there."""
        cdef int64_t stamp_ns = 0
        cdef ssize_t n
        if self.delay is None or self.unstamped_left:
            n = recv(self.fd, self.raw, RAW_SIZE, MSG_DONTWAIT)
            if n > 0 and self.unstamped_left:
                self.unstamped_left -= 1
            return n
        n = cw_recv_stamped(self.fd, self.raw, RAW_SIZE, &stamp_ns)
        if stamp_ns:  # what came before the kernel began to stamp has none
            self.delay.note(stamp_ns)
            self.unstamped_left = STAMP_EVERY - 1
        return n

    def run(self):
        """Take what there is; the loop calls it when the socket is readable."""
        cdef size_t turn = 0
        cdef ssize_t n
        cdef int code
        try:
            while not (self.is_paused or self.is_over):
                if self.is_held:
                    self._hand_over()
                    if self.is_held or self.is_over or turn >= TURN_SIZE:
                        break
                n = self.receive()
                if n > 0:
                    turn += n
                    self.take(n)
                    self.is_held = True
                    if n < RAW_SIZE:  # the socket is empty: asking again would only say so
                        turn = TURN_SIZE
                elif n == 0:
                    self._end(None)
                else:
                    code = c_errno  # before anything else can change it
                    if code == EAGAIN or code == EWOULDBLOCK:
                        break
                    if code != EINTR:
                        self._end(OSError(code, os.strerror(code)))
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._end(error)
        if not self.is_over and self.has_replies():
            self.on_turn()

    def discard(self):
        """Throw away what comes; the loop calls it in place of :meth:`run` while the end waits for
        the peer's."""
        cdef ssize_t n = recv(self.fd, self.raw, RAW_SIZE, MSG_DONTWAIT)
        if n == 0 or (n < 0 and c_errno not in (EAGAIN, EWOULDBLOCK, EINTR)):
            self.on_end(None)

    cdef int _hand_over(self) except -1:
        """Decrypt what was received, and tell the protocol in steps."""
        cdef Py_buffer view
        cdef Py_ssize_t made, step
        while not (self.is_paused or self.is_over):
            buffer = self.get_buffer(-1)
            if self.is_paused or self.is_over:  # by that call
                break
            PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
            try:
                if view.len == 0:
                    raise RuntimeError("get_buffer() returned an empty buffer")
                step = view.len if view.len < STEP_SIZE else STEP_SIZE
                made = self.decrypt(&view, step)
            finally:
                PyBuffer_Release(&view)
            if made < step:
                self.is_held = False  # before the call: a loop that runs inside it may receive more
            if made:
                self.buffer_updated(made)
            if made < step:
                if self.broken is not None:
                    raise self.broken
                if self.is_closed:
                    self._end(None)
                break
        return 0

    cdef int _end(self, error) except -1:
        if not self.is_over:
            self.is_over = True
            self.on_end(error)
        return 0


@cython.no_gc_clear  # __dealloc__ needs the connection
@cython.final
cdef class DirectReader(_Reader):
    """The ``direct`` engine: OpenSSL reads from the last recv's bytes, through a BIO of ours.

    Takes a :class:`Spy` that found no fault behind the arguments of both engines. The connection
    must not be used by :meth:`close`'s caller afterwards but to write.
    """

    cdef ptr connection
    # Of Python's ssl, which frees the connection with it. The SSLObject is not enough: a collection
    # of garbage empties it before this reader is gone.
    cdef object owner
    cdef _Source source
    cdef bytes rest

    def __init__(self, int fd, ssl_object, incoming, get_buffer, buffer_updated,
                 KernelDelay delay, on_turn, on_end, Spy spy not None):
        cdef ptr bio
        _Reader.__init__(self, fd, ssl_object, incoming, get_buffer, buffer_updated, delay,
                         on_turn, on_end)
        if spy.fault or spy.owner is None:
            raise UsageError(f"no direct engine: {spy.fault or 'nothing was seen and checked'}")
        bio = _lib.BIO_new(_method)
        if bio is NULL:
            raise MemoryError
        self.connection, self.owner = spy.connection, spy.owner
        spy.owner = None  # one reader a connection
        self.rest = incoming.read()
        self.source.p = <const uint8_t *>self.rest
        self.source.n = len(self.rest)
        _lib.BIO_set_data(bio, &self.source)
        _lib.BIO_set_init(bio, 1)
        _lib.SSL_set0_rbio(self.connection, bio)
        # CPython lets OpenSSL give its buffer back behind each record: 17 KB that a feed takes anew
        # for each.
        _lib.SSL_ctrl(self.connection, CTRL_CLEAR_MODE, MODE_RELEASE_BUFFERS, NULL)

    def __dealloc__(self):
        self._detach()

    def detach(self):
        """Let the connection go: it outlives this reader, whose bytes it must not read."""
        self._detach()

    cdef int _detach(self) noexcept:
        if self.connection is not NULL:
            _lib.SSL_set0_rbio(self.connection, _lib.BIO_new(_lib.BIO_s_mem()))
            self.connection = NULL
        return 0

    cdef int take(self, size_t n) except -1:
        self.source.p = self.raw
        self.source.n = n
        return 0

    cdef bint has_replies(self):
        return self.connection is not NULL and _pending(_lib.SSL_get_wbio(self.connection)) != 0

    cdef Py_ssize_t decrypt(self, Py_buffer *view, size_t room) except -1:
        cdef size_t made, total = 0
        cdef int code
        if self.connection is NULL:
            return 0
        _lib.ERR_clear_error()  # of whoever left one: SSL_get_error would take it for ours
        while total < room:
            if _lib.SSL_read_ex(self.connection, <uint8_t *>view.buf + total, room - total,
                                &made) == 1:
                total += made
                # Another call would find nothing, at the price of an error that it makes.
                if self.source.n == 0 and not _lib.SSL_has_pending(self.connection):
                    break
                continue
            code = _lib.SSL_get_error(self.connection, 0)
            if code == ERROR_ZERO_RETURN:
                self.is_closed = True
            elif code != ERROR_WANT_READ:
                self.broken = _error()
            _lib.ERR_clear_error()
            break
        return total


cdef object _error():
    """What OpenSSL says was wrong, as Python's ``ssl`` raises it."""
    cdef const char *reason = _lib.ERR_reason_error_string(_lib.ERR_peek_last_error())
    words = "unknown error" if reason is NULL else reason.decode()
    error = ssl.SSLError(ssl.SSLErrorNumber.SSL_ERROR_SSL, f"[SSL] {words}")
    error.library, error.reason = "SSL", words.upper().replace(" ", "_")
    return error


@cython.final
cdef class Records:
    """Counts the TLS records of a stream from its first byte on, by their headers (RFC 8446, 5.1).

    Who knows that no record is complete need not ask OpenSSL for one, whose answer would be an
    exception.

    Attributes:
        count: of complete records that came and, as far as is known, were not read yet; never less
            than there are.
    """

    cdef readonly size_t count
    cdef size_t left  # bytes of the record whose header came
    cdef unsigned int have  # bytes of a header that is not complete
    cdef uint8_t header[5]
    cdef bint is_odd  # what comes are no records: OpenSSL is to say so

    def note(self, const uint8_t[::1] data):
        """Count what comes next in the stream."""
        if data.shape[0]:
            self.note_raw(&data[0], data.shape[0])

    cdef void note_raw(self, const uint8_t *p, size_t n) noexcept nogil:
        cdef size_t step
        if self.is_odd:
            self.count += 1
            return
        while n:
            if self.left:
                step = self.left if self.left < n else n
                self.left -= step
                p += step
                n -= step
                if self.left == 0:
                    self.count += 1
                continue
            self.header[self.have] = p[0]
            self.have += 1
            p += 1
            n -= 1
            if self.have == 5:
                self.have = 0
                self.left = <size_t>self.header[3] << 8 | self.header[4]
                if (not 20 <= self.header[0] <= 24 or self.header[1] != 3 or self.left == 0
                        or self.left > RECORD_SIZE):
                    self.is_odd = True
                    self.count += 1
                    return


cdef object _AS_MUCH = 1 << 16  # as the place holds


@cython.final
cdef class _Place:
    """Where the next record goes: a buffer that is moved on, where a view for each would be made
    and thrown away. It is nowhere between two calls."""

    cdef char *p
    cdef size_t n

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.p, self.n, 0, flags)


@cython.no_gc_clear
@cython.final
cdef class PublicReader(_Reader):
    """The ``public`` engine: ``MemoryBIO.write`` and ``SSLObject.read``, called from here.

    Args:
        records: counted all that was written to ``incoming``.
    """

    cdef object read
    cdef Records records
    cdef _Place place

    def __init__(self, int fd, ssl_object, incoming, get_buffer, buffer_updated,
                 KernelDelay delay, on_turn, on_end, Records records):
        _Reader.__init__(self, fd, ssl_object, incoming, get_buffer, buffer_updated, delay,
                         on_turn, on_end)
        self.read = ssl_object.read
        self.records = records
        self.place = _Place()

    cdef int take(self, size_t n) except -1:
        self.incoming.write(PyMemoryView_FromMemory(<char *>self.raw, n, PyBUF_READ))
        self.records.note_raw(self.raw, n)
        return 0

    cdef Py_ssize_t decrypt(self, Py_buffer *view, size_t room) except -1:
        cdef size_t total = 0, made
        cdef _Place place = self.place
        cdef Records records = self.records
        try:
            while records.count and total < room:
                place.p = <char *>view.buf + total
                place.n = room - total
                made = self.read(_AS_MUCH, place)
                if made == 0:
                    self.is_closed = True
                    break
                total += made
                if total < room:  # else there may be more of that record
                    records.count -= 1
        except ssl.SSLWantReadError:
            records.count = 0
        except ssl.SSLError as error:
            self.broken = error
        finally:
            place.n = 0
        return total
