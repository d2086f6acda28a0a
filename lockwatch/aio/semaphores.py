"""Semaphores of tasks: who holds the permits, and the waits for one.

Permits taken by ``async with`` come back from the task that took them. Those taken by a bare ``acquire()`` may come
back from anywhere, so they prove nothing.

=============================================================================  ====================================
permits                                                                        blockers of a wait
=============================================================================  ====================================
all held by ``async with``, and none was ever given back but by that           ANY of the tasks that hold one
otherwise                                                                      OPEN: anybody
=============================================================================  ====================================

asyncio's own coroutine does the waiting (`lockwatch.aio.driven`). Cost: without waiting one dictionary store more
each way.
"""

from __future__ import annotations

import sys
import weakref
from functools import wraps
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from lockwatch._core import tasks
from lockwatch._core.waits import ANY, NOBODY, OPEN, Blockers
from lockwatch.aio import stock
from lockwatch.aio.driven import drive
from lockwatch.aio.marks import mark_coroutine_function
from lockwatch.aio.origin import Origin
from lockwatch.aio.record import ATTRIBUTE, LockWait
from lockwatch.locks.machinery import is_machinery

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import CodeType

    from lockwatch._core.agents import Agent
    from lockwatch._core.waits import Wait

_ANYBODY = Blockers(OPEN)


class SemaphoreRecord(Origin):
    """What is known of one semaphore; the resource that its waiters wait for.

    Attributes:
        subject: A weak reference to the semaphore.
        capacity: How many permits there are; None if nobody saw it made.
        permits: How many each agent holds, of those taken by ``async with``.
        loose: Whether a permit ever came back otherwise.
    """

    __slots__ = ("capacity", "loose", "permits", "subject")

    def __init__(self, semaphore: Any, capacity: int | None = None) -> None:
        super().__init__("asyncio.Semaphore")
        self.subject = weakref.ref(semaphore)
        self.capacity = capacity
        self.permits: dict[Agent, int] = {}
        self.loose = False

    def blockers(self, wait: Wait, /) -> Blockers:
        """Name those who hold the permits, if all permits are accounted for."""
        semaphore = self.subject()
        future = getattr(wait, "future", None)
        if semaphore is None or semaphore._value > 0 or (future is not None and future.done()):
            return NOBODY
        if self.loose:
            return _ANYBODY
        holders = self.permits.copy()
        if holders and sum(holders.values()) == self.capacity:
            return Blockers(ANY, tuple(holders))
        return _ANYBODY

    def forget_waits(self, survivor: Agent, /) -> None:
        """Nothing is kept here."""

    def took(self, agent: Agent) -> None:
        """Note a permit taken by ``async with``."""
        self.permits[agent] = self.permits.get(agent, 0) + 1

    def gave_back(self, agent: Agent) -> None:
        """Note that one came back by the end of ``async with``."""
        left = self.permits.get(agent, 0) - 1
        if left > 0:
            self.permits[agent] = left
        elif self.permits.pop(agent, None) is None:
            self.loose = True  # it was taken otherwise, or before anybody looked


def record_of(semaphore: Any) -> SemaphoreRecord:
    """Return what is known of a semaphore; the first call for one that nobody saw made begins the record."""
    record: SemaphoreRecord | None = semaphore.__dict__.get(ATTRIBUTE)
    if record is None or record.subject() is not semaphore:
        record = semaphore._lockwatch = SemaphoreRecord(semaphore)
    return record


def noting_init(original: Any) -> Any:
    """Wrap ``Semaphore.__init__`` to note the number of permits, and where it was made."""

    @wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - stands in for one
        original(self, *args, **kwargs)
        record = self._lockwatch = SemaphoreRecord(self, self._value)
        record._made(1, None)

    return __init__


@mark_coroutine_function
@wraps(stock.semaphore_acquire)
def acquire(self: Any) -> Coroutine[Any, Any, bool]:
    """Take a permit, waiting until there is one. Returns a coroutine, which returns True.

    Raises:
        DeadlockError: Waiting would never end, and this task is the victim.
    """
    frame, within = stock.caller(sys._getframe(1))
    return _acquire(self, frame.f_code, frame.f_lasti, within)


async def _acquire(semaphore: Any, code: CodeType, lasti: int, within: bool) -> Any:
    record = record_of(semaphore)
    steps = stock.semaphore_acquire(semaphore)
    try:
        future = steps.send(None)
    except StopIteration as done:
        taken = done.value
    else:
        taken = await drive(
            steps, future, LockWait(tasks.current(), record, future, None, (code, lasti, monotonic_ns()))
        )
    if within:
        record.took(tasks.current())
    return taken


def note_release(semaphore: Any) -> None:
    """Note a permit that comes back: to be called by ``release``."""
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code is not stock.AEXIT and is_machinery(frame):
        frame = frame.f_back
    if frame is not None and frame.f_code is stock.AEXIT:
        record_of(semaphore).gave_back(tasks.current())
    else:
        record_of(semaphore).loose = True


def noting_release(original: Callable[[Any], None], ours: type) -> Callable[[Any], None]:
    """Wrap ``Semaphore.release`` to note what comes back, of semaphores that are not ``ours`` (they do that)."""

    @wraps(original)
    def release(self: Any) -> None:
        if not isinstance(self, ours):
            note_release(self)
        original(self)

    return release
