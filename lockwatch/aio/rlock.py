"""``lockwatch.aio.RLock``: a lock for tasks that its owner may take again. asyncio has none.

Policy as of ``lockwatch.RLock``: nobody but the owner may release it; so its owner is always known.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

from lockwatch import misuse
from lockwatch._core import hooks, settings
from lockwatch._core.holds import AGENT
from lockwatch._core.taskpath import READY, current_agent
from lockwatch.aio import stock
from lockwatch.aio.lock import Lock
from lockwatch.aio.marks import mark_coroutine_function
from lockwatch.aio.record import ACQUIRES, OwnedRecord, new_hold

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine
    from types import CodeType, TracebackType

    from lockwatch._core.agents import Agent


class RLock(Lock):
    """A re-entrant mutual exclusion lock for tasks that tells deadlocks. Scheduled as `Lock`; arguments as there."""

    __module__ = "lockwatch.aio"

    _record_type = OwnedRecord
    _lockwatch: OwnedRecord  # pyright: ignore[reportIncompatibleVariableOverride]

    @mark_coroutine_function
    def acquire(self) -> Coroutine[Any, Any, Literal[True]]:
        """Take the lock, waiting until it is free; its owner takes one more level of it at once.

        The task that calls this is the owner, also if the coroutine is run by a task of its own.

        Returns:
            A coroutine, which returns True.

        Raises:
            DeadlockError, CancelledError, RuntimeError: As from `Lock.acquire`.
        """
        frame, within = stock.caller(sys._getframe(1))
        return _acquire(self, current_agent(), frame.f_code, frame.f_lasti, within)

    def try_acquire(self) -> bool:
        """Take the lock, or one more level of it, if that needs no waiting. Returns whether it was taken."""
        if self._is_owned():
            self._lockwatch.count += 1
            return True
        if not self._is_free():
            return False
        self._take(sys._getframe(1), False)
        return True

    def release(self) -> None:
        """Let go of one level of the lock; the last one frees it.

        Raises:
            MisuseError: The lock is not held by this task (a RuntimeError). The message names the owner and where it
                took the lock.
        """
        record = self._lockwatch
        hold = record.hold
        if hold is None or hold[AGENT] is not current_agent():
            self._refuse_release()
        if record.count:
            record.count -= 1
        else:
            self._way.release(self, record)

    def __aenter__(self) -> Awaitable[None]:  # type: ignore[override]
        frame = sys._getframe(1)
        if self._is_owned():
            self._lockwatch.count += 1
        elif self._is_free():
            self._take(frame, True)
            if settings.order:
                self._learn_order()
        else:
            return _entered(self, current_agent(), frame.f_code, frame.f_lasti)
        return READY  # type: ignore[no-any-return]

    def __aexit__(  # type: ignore[override]
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> Awaitable[None]:
        self.release()
        return READY  # type: ignore[no-any-return]

    def _is_owned(self) -> bool:
        hold = self._lockwatch.hold
        return hold is not None and hold[AGENT] is current_agent()

    def _release_save(self) -> int:
        """Forget all levels but one, for Condition, which lets go of that one; return how many there were beyond it."""
        count, self._lockwatch.count = self._lockwatch.count, 0
        return count

    def _restore(self, count: int) -> None:
        """Have as many levels again, if this task has the lock."""
        if self._is_owned():
            self._lockwatch.count = count

    def _refuse_release(self) -> None:
        record = self._lockwatch
        hold = record.hold
        what = f"cannot release un-acquired lock: {record._title()}"
        if hold is None:
            raise hooks.misuse(f"{what} is not held by anybody")
        misuse.wrong_release(record, hold, current_agent())
        raise hooks.misuse(f"{what} is not held by this task; {record._holder(hold)}")


async def _acquire(lock: RLock, caller: Agent, code: CodeType, lasti: int, how: bool) -> Any:
    record = lock._lockwatch
    hold = record.hold
    me = new_hold(record, current_agent(), caller, code, lasti, how)[AGENT]
    if hold is not None and hold[AGENT] is me:
        record.count += 1
        return True
    return await lock._way.acquire(lock, record, me, code, lasti, how)


ACQUIRES.add(_acquire.__code__)


async def _entered(lock: RLock, caller: Agent, code: CodeType, lasti: int) -> None:
    await _acquire(lock, caller, code, lasti, True)
