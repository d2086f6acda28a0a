"""``lockwatch.aio.Lock``: in place of ``asyncio.Lock``.

Policy as of ``lockwatch.Lock``: not re-entrant; may be released by any task, and is therefore possibly a signal.

Guarantees: ``acquire`` is called where it is written, so that the place is known, and awaited where the program
likes; ``async with`` on a free lock does not touch the loop. Cost: see ``benchmarks``; on a free lock one look-up
of the running task, a clock, a tuple and two dictionary stores, and no coroutine.
"""

from __future__ import annotations

import asyncio
import sys
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Literal

from lockwatch._core import hooks, settings
from lockwatch._core.taskpath import READY, TaskLock, current_agent, specialised
from lockwatch.aio import driven, go, order, stock
from lockwatch.aio.marks import mark_coroutine_function
from lockwatch.aio.record import Record
from lockwatch.locks.base import LockStatistics, Uncopied

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine
    from types import CodeType, FrameType

    from lockwatch._core.holds import Hold

Fairness = Literal["go", "fifo"]

_getframe = sys._getframe


@specialised
class Lock(Uncopied, TaskLock, asyncio.Lock):  # type: ignore[misc]
    """A mutual exclusion lock for tasks that tells deadlocks, with all of ``asyncio.Lock``'s contract.

    Args:
        fairness: "go": scheduled as Go's ``sync.Mutex``: the running task may overtake waiting ones (barging), until
            one of them has waited longer than ``starvation_threshold`` (1 ms); then the lock is handed over in FIFO
            order. "fifo": asyncio's own strict order.
        name: What to call it in reports; by default the name that the code gives it where it is made.

    Raises:
        ValueError: There is no such fairness.
    """

    __module__ = "lockwatch.aio"

    _record_type: type[Record] = Record
    _lockwatch: Record

    def __init__(self, *, fairness: Fairness = "go", name: str | None = None) -> None:
        super().__init__()
        if fairness not in {"go", "fifo"}:
            raise ValueError(f"fairness must be 'go' or 'fifo', not {fairness!r}")
        self._strict = fairness == "fifo"
        self._way: Any = driven if self._strict else go
        record = self._lockwatch = self._record_type(self)
        record._made(1, name)
        if not self._strict:
            self._waiters = record._queue

    @property
    def name(self) -> str | None:
        """The name given to the lock, or else the one that the code gives it where it was made."""
        return self._lockwatch.name

    def statistics(self) -> LockStatistics:
        """Return a snapshot of the lock's counters and present state."""
        return self._lockwatch.statistics()

    @mark_coroutine_function
    def acquire(self) -> Coroutine[Any, Any, Literal[True]]:
        """Take the lock, waiting until it is free.

        The task that calls this is the owner, also if the coroutine is run by a task of its own.

        Returns:
            A coroutine, which returns True.

        Raises:
            DeadlockError: Waiting would never end, and this task is the victim.
            CancelledError: The task was cancelled; it does not have the lock then.
            RuntimeError: The lock has been waited for in another event loop.
        """
        frame, within = stock.caller(_getframe(1))
        acquiring: Coroutine[Any, Any, Literal[True]] = self._acquire(frame.f_code, frame.f_lasti, within)
        return acquiring

    def _take_again(self, how: bool) -> Any:
        """As `acquire`, for a lock that was let go for a while: ``how`` it was taken before."""
        frame, _ = stock.caller(_getframe(1))
        return self._acquire(frame.f_code, frame.f_lasti, how)

    def _acquire(self, code: CodeType, lasti: int, how: bool) -> Any:
        return self._way.acquire(self, self._lockwatch, current_agent(), code, lasti, how)

    def try_acquire(self) -> bool:
        """Take the lock if that needs no waiting; never overtakes waiters in starvation mode, nor with "fifo".

        Returns:
            Whether it was taken.
        """
        if not self._is_free():
            return False
        self._take(_getframe(1), False)
        return True

    def _is_free(self) -> bool:
        if self._strict:
            return not self._locked and not self._waiters
        return go.may_take(self, self._lockwatch)

    def _take(self, frame: FrameType, how: bool) -> None:
        record = self._lockwatch
        self._locked = True
        record.took((current_agent(), record._ref, frame.f_code, frame.f_lasti, monotonic_ns(), how))

    def assert_owned(self) -> None:
        """Raise unless the running task holds the lock; for code that must be called with it.

        Raises:
            MisuseError: It does not.
        """
        self._lockwatch._assert_owner(current_agent(), owned=True)

    def assert_not_owned(self) -> None:
        """Raise if the running task holds the lock; for code that must be called without it.

        Raises:
            MisuseError: It does; the message says where it took it.
        """
        self._lockwatch._assert_owner(current_agent(), owned=False)

    def _learn_order(self) -> None:
        """Have the order of the locks that the owner holds now learned; released again if that raises."""
        record = self._lockwatch
        hold = record.hold
        if hold is not None:
            order.learn(self, record, hold, self._way.release)

    def release(self) -> None:
        """Let go of the lock, whichever task took it.

        Raises:
            MisuseError: The lock is not held (a RuntimeError, as from ``asyncio.Lock``).
        """
        if not self._locked:
            self._refuse_release()
        record = self._lockwatch
        record.released_by(current_agent())
        self._way.release(self, record)

    def _enter_slowly(self, hold: Hold, /) -> Awaitable[None]:
        record = self._lockwatch
        if self._strict:
            return driven.enter(self, record, hold)
        if self._locked or record._starving:
            return go.wait_for(self, record, hold)
        self._locked = True  # it was freed, and who is awake has not taken it yet
        record.took(hold)
        if settings.order:
            self._learn_order()
        return READY  # type: ignore[no-any-return]

    def _exit_slowly(self) -> None:
        if not self._locked:
            self._refuse_release()
        self._way.release(self, self._lockwatch)

    def _refuse_release(self) -> None:
        raise hooks.misuse(f"release unlocked lock: {self._lockwatch._title()} is not held by anybody")

    def _check(self) -> None:
        """Assert the invariants that hold between two steps of the loop; for tests."""
        self._lockwatch._check()
