"""What is done for every read of a connection, in compiled code: its stamps, and its way to a line.

A feed wakes up for one message at a time; what Python does then, however little, costs more than
the message. So what a protocol does for each read lies here: :class:`StampedReads`.

To be woken up is most of what a single message costs in time, and who never sleeps need not be
woken: :class:`Spin`. It takes a whole processor.
"""

import asyncio

cimport cython
from libc.stdint cimport int64_t, uint64_t
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec
from posix.types cimport clockid_t

from crosswire.kernels.histogram cimport (
    cw_histogram_clear, cw_histogram_quantile, cw_histogram_record,
)

__all__ = ["KernelDelay", "Spin", "StampedReads"]


cdef int64_t clock_ns(clockid_t clock) noexcept nogil:
    """What one of the system's clocks shows, in ns."""
    cdef timespec t
    clock_gettime(clock, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


@cython.final
cdef class KernelDelay:
    """How long reads lay in the kernel: from its stamp of the last packet to the read, in ns.

    Both are of the system's UTC clock; where that was set back in between, it counts as 0.
    """

    def __cinit__(self):
        cw_histogram_clear(&self.c)

    cdef void note(self, int64_t stamp_ns) noexcept nogil:
        """Count a read that was made just now, of which the last packet came at ``stamp_ns``."""
        cdef int64_t took = clock_ns(CLOCK_REALTIME) - stamp_ns
        cw_histogram_record(&self.c, <uint64_t>(took if took > 0 else 0))

    def quantiles_ns(self):
        """Return ``{"count", "p50", "p99", "p99_9", "max"}``; all 0 where nothing was counted."""
        return {"count": self.c.count, "p50": cw_histogram_quantile(&self.c, 0.5),
                "p99": cw_histogram_quantile(&self.c, 0.99),
                "p99_9": cw_histogram_quantile(&self.c, 0.999), "max": self.c.max}


cdef class StampedReads:
    """``get_buffer`` and ``buffer_updated`` of a ``BufferedProtocol`` that derives from this first.

    Args:
        get: returns the buffer of the next read; called without arguments.
        take: called with (n, ts_rx, mono_rx) for every read of ``n`` bytes; what it returns is
            whether the connection is to be finished.
        clocks: functions for UTC and monotonic ns, of a simulated world; ``None``: the system's,
            which are read without a call.
    """

    cdef object _get, _take, _time_ns, _monotonic_ns
    cdef bint _has_own_clocks

    def __init__(self, get, take, clocks):
        self._has_own_clocks = clocks is not None
        if clocks is not None:
            self._time_ns, self._monotonic_ns = clocks
        self._divert(get, take)

    def _divert(self, get, take):
        """Let the next reads go elsewhere."""
        self._get = get
        self._take = take

    def _finish(self):
        """``take`` said that the connection is to be finished."""
        raise NotImplementedError

    def get_buffer(self, sizehint):
        """Return where the next bytes go."""
        return self._get()

    def buffer_updated(self, nbytes):
        """Stamp a read, and hand it over."""
        if self._has_own_clocks:
            is_over = self._take(nbytes, self._time_ns(), self._monotonic_ns())
        else:
            is_over = self._take(nbytes, clock_ns(CLOCK_REALTIME), clock_ns(CLOCK_MONOTONIC))
        if is_over:
            self._finish()


@cython.final
cdef class Spin:
    """Keeps the running event loop awake inside its ``with`` block, or from :meth:`start` to
    :meth:`stop`.

    A loop does not sleep while a callback waits to be called. So one always waits, which does
    nothing but to wait again for the next turn. A turn calls what waited when it began, then looks
    for input and for timers that are due: nobody waits for longer than that.

    It belongs to the thread of the loop. Several in one loop are as good as one. Time must pass by
    itself: a loop of simulated time, which jumps when there is nothing to do, would stand still.

    Attributes:
        turns: of the loop while it was spinning.
    """

    cdef readonly uint64_t turns
    cdef object call_soon, again, handle

    @property
    def is_spinning(self):
        """Whether it was started and not stopped."""
        return self.handle is not None

    def start(self):
        """Begin, in the running loop; once more is as good as once.

        Raises:
            RuntimeError: no loop is running.
        """
        if self.handle is None:
            self.call_soon = asyncio.get_running_loop().call_soon
            self.again = self._turn
            self.handle = self.call_soon(self.again)

    def stop(self):
        """End, and leave nothing in the loop; once more is as good as once."""
        if self.handle is not None:
            self.handle.cancel()
            self.call_soon = self.again = self.handle = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.stop()

    def _turn(self):
        self.turns += 1
        self.handle = self.call_soon(self.again)
