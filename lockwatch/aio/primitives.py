"""``lockwatch.aio.Condition``, ``Event``, ``Semaphore``, ``BoundedSemaphore``, ``Barrier``: asyncio's, on our locks.

Guarantee: the behaviour is that of asyncio, whose code runs; `Condition.wait` is that of 3.13 on every version, so
that no notification is lost to a task that is cancelled.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any

from lockwatch._core.holds import HOW
from lockwatch.aio import awaits, semaphores, stock
from lockwatch.aio.lock import Lock
from lockwatch.aio.origin import note
from lockwatch.aio.rlock import RLock
from lockwatch.locks.base import Uncopied

if TYPE_CHECKING:
    from lockwatch.aio.lock import Fairness


class Condition(Uncopied, asyncio.Condition):
    """A condition variable for tasks.

    Args:
        lock: The lock to use, a `Lock` or `RLock`; by default a `Lock` of its own.
        fairness: Of that lock.
        name: What to call it in reports.
    """

    __module__ = "lockwatch.aio"

    def __init__(self, lock: Any = None, *, fairness: Fairness = "go", name: str | None = None) -> None:
        super().__init__(Lock(fairness=fairness, name=name) if lock is None else lock)
        note(self, "asyncio.Condition", name)

    async def wait(self) -> bool:  # type: ignore[override]
        """Wait until notified; the lock is let go meanwhile, and taken again before this returns or raises.

        Returns:
            True.

        Raises:
            RuntimeError: The lock is not held.
            CancelledError: The task was cancelled; another waiter is notified in its place if this one was.
            DeadlockError: Nobody is left who could notify, or who could release the lock, and this task is the victim.
        """
        if not self.locked():
            raise RuntimeError("cannot wait on un-acquired lock")
        future = self._get_loop().create_future()  # type: ignore[attr-defined]
        waiters: Any = self._waiters
        lock = self._lock  # type: ignore[attr-defined]
        levels = lock._release_save() if isinstance(lock, RLock) else None
        take = _taking_again(lock, self.acquire)
        self.release()
        try:
            try:
                waiters.append(future)
                try:
                    await future
                    return True
                finally:
                    waiters.remove(future)
            finally:
                await self._take_again(take)
                if levels is not None:
                    lock._restore(levels)
        except BaseException:
            self._notify_one_for(future)
            raise

    async def _take_again(self, take: Any) -> None:
        """Acquire the lock, also while being cancelled; the last cancellation goes on then."""
        cancelled: CancelledError | None = None
        while True:
            try:
                await take()
                break
            except CancelledError as error:
                cancelled = error
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                cancelled = None  # no cycle of error and frame

    def _notify_one_for(self, gone: Any) -> None:
        """Notify another waiter in place of one that may have been notified before it was cancelled."""
        del gone
        for future in self._waiters:
            if not future.done():
                future.set_result(False)
                return


def _taking_again(lock: Any, acquire: Any) -> Any:
    """Return how to take a condition's lock again as it was taken: by ``async with``, its owner is who releases it."""
    if getattr(acquire, "__func__", None) is not Lock.acquire:
        return acquire  # a re-entrant one, whose owner is known anyhow; or somebody's own
    hold = lock._lockwatch.hold
    return partial(lock._take_again, hold is not None and hold[HOW])


awaits._BUILDERS[Condition.wait.__code__] = awaits._of_self("asyncio.Condition")


class Event(Uncopied, asyncio.Event):
    """An event for tasks.

    Args:
        name: What to call it in reports.
    """

    __module__ = "lockwatch.aio"

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__()
        note(self, "asyncio.Event", name)


class Semaphore(Uncopied, asyncio.Semaphore):
    """A semaphore for tasks that knows who holds its permits, as far as they were taken by ``async with``.

    Args:
        value: How many permits there are.
        name: What to call it in reports.

    Raises:
        ValueError: ``value`` is negative.
    """

    __module__ = "lockwatch.aio"

    def __init__(self, value: int = 1, *, name: str | None = None) -> None:
        super().__init__(value)
        record = semaphores.SemaphoreRecord(self, value)
        record._made(1, name)  # `BoundedSemaphore` is machinery
        self._lockwatch = record

    acquire = semaphores.acquire

    def release(self) -> None:
        """Give a permit back, whichever task took it."""
        semaphores.note_release(self)
        stock.semaphore_release(self)


class BoundedSemaphore(Semaphore, asyncio.BoundedSemaphore):
    """A semaphore that refuses more releases than acquires; else as `Semaphore`.

    Args:
        value: How many permits there are, and will ever be.
        name: What to call it in reports.

    Raises:
        ValueError: ``value`` is negative; at ``release``, all permits are there already.
    """

    __module__ = "lockwatch.aio"

    def __init__(self, value: int = 1, *, name: str | None = None) -> None:
        super().__init__(value, name=name)

    def release(self) -> None:
        """Give a permit back, whichever task took it.

        Raises:
            ValueError: All permits are there already.
        """
        if self._value < self._bound_value:  # type: ignore[attr-defined]
            semaphores.note_release(self)
        stock.bounded_release(self)


class Barrier(Uncopied, asyncio.Barrier):
    """A barrier for tasks.

    Args:
        parties: How many tasks meet.
        name: What to call it in reports.

    Raises:
        ValueError: ``parties`` is less than 1.
    """

    __module__ = "lockwatch.aio"

    def __init__(self, parties: int, *, name: str | None = None) -> None:
        super().__init__(parties)
        self._cond = Condition(fairness="fifo")
        note(self, "asyncio.Barrier", name)
