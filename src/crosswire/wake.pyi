from collections.abc import Callable
from types import TracebackType
from typing import Self, final

from typing_extensions import disjoint_base

__all__ = ["KernelDelay", "Spin", "StampedReads"]

@final
class KernelDelay:
    def quantiles_ns(self) -> dict[str, int]: ...

@disjoint_base
class StampedReads:
    def __init__(
        self,
        get: Callable[[], memoryview],
        take: Callable[[int, int, int], int],
        clocks: tuple[Callable[[], int], Callable[[], int]] | None,
    ) -> None: ...
    def _divert(
        self, get: Callable[[], memoryview], take: Callable[[int, int, int], int]
    ) -> None: ...
    def _finish(self) -> None: ...
    def get_buffer(self, sizehint: int) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> None: ...

@final
class Spin:
    @property
    def turns(self) -> int: ...
    @property
    def is_spinning(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
