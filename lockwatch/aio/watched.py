"""What stands in for the methods of ``asyncio.Lock`` under `install()`: asyncio's own, and a note of the owner.

Guarantee: asyncio's order and errors to the letter; its code does the work (`lockwatch.aio.driven`). A lock that
exists already gets its record when it is first used; if it is held then, anybody may be its owner.
"""

from __future__ import annotations

import sys
from functools import wraps
from typing import TYPE_CHECKING, Any

from lockwatch._core import tasks
from lockwatch.aio import driven, stock
from lockwatch.aio.marks import mark_coroutine_function
from lockwatch.aio.record import ATTRIBUTE, Record

if TYPE_CHECKING:
    from collections.abc import Coroutine


def record_of(lock: Any) -> Record:
    """Return what is known of a lock; the first call for one that nobody saw made begins the record."""
    record: Record | None = lock.__dict__.get(ATTRIBUTE)
    if record is None or record.subject() is not lock:
        record = lock._lockwatch = Record(lock)
    return record


def noting_init(original: Any) -> Any:
    """Wrap ``Lock.__init__`` to note where the lock was made."""

    @wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - stands in for one
        original(self, *args, **kwargs)
        record = self._lockwatch = Record(self)
        record._made(1, None)

    return __init__


@mark_coroutine_function
@wraps(stock.lock_acquire)
def acquire(self: Any) -> Coroutine[Any, Any, bool]:
    """Take the lock as ``asyncio.Lock`` does, and note the owner."""
    frame, within = stock.caller(sys._getframe(1))
    return driven.acquire(self, record_of(self), tasks.current(), frame.f_code, frame.f_lasti, within)


@wraps(stock.lock_release)
def release(self: Any) -> None:
    """Let go of the lock as ``asyncio.Lock`` does."""
    driven.release(self, record_of(self))
