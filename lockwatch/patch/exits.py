"""The wait at the end of a program: ``threading._shutdown`` becomes a wait that the detector sees.

When the main thread is done, the interpreter looks up ``threading._shutdown`` by name and calls it; it waits
for all threads that are not daemons. If those are stuck, the program hangs after its last line. The wrapper
lets `lockwatch.locks.exitwait` do the waiting, which registers it first.

Guarantee: a wrapper that is no longer installed calls the original and does nothing else, so it does no harm
where another tool has wrapped it in turn and it cannot be taken out.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, cast

from lockwatch.locks.exitwait import wait_for_threads

if TYPE_CHECKING:
    from collections.abc import Callable


class _Wrapper:
    """One replacement of ``threading._shutdown``, and whether it is in force."""

    __slots__ = ("active", "original")

    def __init__(self, original: Callable[[], object]) -> None:
        self.original = original
        self.active = True

    def __call__(self) -> None:
        if self.active:
            wait_for_threads(self.original)
        else:
            self.original()


_wrapper: _Wrapper | None = None


def replace() -> None:
    """Wrap ``threading._shutdown``."""
    global _wrapper
    _wrapper = _Wrapper(cast("Callable[[], object]", threading._shutdown))  # type: ignore[attr-defined]
    threading._shutdown = _wrapper  # type: ignore[attr-defined]


def restore() -> None:
    """Take the wrapper out, or, if somebody wrapped it in turn, out of force."""
    global _wrapper
    if _wrapper is not None:
        _wrapper.active = False
        if threading._shutdown is _wrapper:  # type: ignore[attr-defined]
            threading._shutdown = _wrapper.original  # type: ignore[attr-defined]
    _wrapper = None
