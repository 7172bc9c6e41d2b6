import enum
from collections.abc import Callable, Iterator
from typing import Self, final

from typing_extensions import Buffer

from .errors import VenueError
from .handshake import Deflation

__all__ = ["Connection", "ConnectionState", "Opcode"]

class Opcode(enum.IntEnum):
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10

class ConnectionState(enum.Enum):
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"

@final
class Connection:
    def __new__(
        cls,
        *,
        is_server: bool,
        random_bytes: Callable[[int], bytes] | None = None,
        read_size: int = 65536,
        message_max: int = ...,
        fragments_max: int = 65536,
        controls_max: int = 1000,
        deflation: Deflation | None = None,
    ) -> Self: ...
    @property
    def state(self) -> ConnectionState: ...
    @property
    def close_code(self) -> int | None: ...
    @property
    def close_reason(self) -> str | None: ...
    @property
    def error(self) -> VenueError | None: ...
    @property
    def frame_count(self) -> int: ...
    def window(self) -> memoryview: ...
    def received(self, n: int, mono_rx: int) -> None: ...
    def next_message(self) -> tuple[int, memoryview] | None: ...
    def receive(self, data: Buffer, mono_rx: int = 0) -> Iterator[tuple[int, memoryview]]: ...
    def receive_eof(self) -> None: ...
    def send(self, opcode: int, payload: Buffer = b"", *, is_final: bool = True) -> None: ...
    def ping(self, payload: Buffer = b"") -> None: ...
    def pong(self, payload: Buffer = b"") -> None: ...
    def close(self, code: int = 1000, reason: str = "") -> None: ...
    def put_frames(self, frames: bytes) -> None: ...
    def data_to_send(self) -> bytes: ...
