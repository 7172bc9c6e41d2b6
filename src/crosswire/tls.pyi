import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Self, final

from typing_extensions import Buffer

from .wake import KernelDelay

__all__ = ["DirectReader", "PublicReader", "Records", "Spy", "find_fault"]

def find_fault() -> str: ...

@final
class Spy:
    @property
    def fault(self) -> str: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def check(
        self, ssl_object: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
    ) -> str: ...

@final
class DirectReader:
    is_paused: bool
    is_over: bool
    def run(self) -> None: ...
    def discard(self) -> None: ...
    def detach(self) -> None: ...
    def forget(self) -> None: ...
    def __init__(
        self,
        fd: int,
        ssl_object: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        get_buffer: Callable[[int], Buffer],
        buffer_updated: Callable[[int], None],
        delay: KernelDelay | None,
        on_turn: Callable[[], None],
        on_end: Callable[[BaseException | None], None],
        spy: Spy,
    ) -> None: ...

@final
class Records:
    @property
    def count(self) -> int: ...
    def note(self, data: Buffer) -> None: ...

@final
class PublicReader:
    is_paused: bool
    is_over: bool
    def run(self) -> None: ...
    def discard(self) -> None: ...
    def detach(self) -> None: ...
    def forget(self) -> None: ...
    def __init__(
        self,
        fd: int,
        ssl_object: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        get_buffer: Callable[[int], Buffer],
        buffer_updated: Callable[[int], None],
        delay: KernelDelay | None,
        on_turn: Callable[[], None],
        on_end: Callable[[BaseException | None], None],
        records: Records,
    ) -> None: ...
