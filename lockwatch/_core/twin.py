"""The uncontended lock in Python: one compare-and-swap, a few stores, and never a look at the wait-for graph.

The reference for the behaviour of the twin in C (``_fastpath.c``), and what runs where that one cannot;
`lockwatch._core.fastpath` chooses.

Representation. ``_state`` is a dictionary that is empty while the lock is free and maps `OWNED` to the `hold
<lockwatch._core.holds>` of its owner while it is not. Acquiring is ``_state.setdefault(OWNED, hold) is
hold``: one C call, so it is a compare-and-swap with the GIL (no switch inside it: the key is a small int, no
Python code runs) and without it (the dictionary's own critical section); and since the hold names owner,
place and time, they are published in that very step. That matters for exceptions, too: if one arrives right
after the call, the state says whether we own the lock, where the result of a ``lock.acquire(False)`` would be
lost. Releasing is ``_state.pop(OWNED)``.

Invariants (numbers are repeated in `lockwatch._core.mutex`):
  F1  Whoever takes the hold out of ``_state`` then looks at ``_queue``, and wakes its head if there is one. A
      waiter puts itself into ``_queue`` first and looks at ``_state`` then. So one of the two sees the other:
      no lost wake-up.
  F2  The owner's table of holds lists the lock by its number while the owner is in its critical section.
  F3  An acquire that fails by an exception leaves the lock as it was; a release that is interrupted is
      completed first. (What no Python code can guard is the first instruction of ``__exit__``, where a signal
      handler may raise; the C twin can.)

Cost: measured in ``benchmarks``; the parts are thread-local look-up, ``sys._getframe``, monotonic clock, one
tuple, two dictionary stores. The two classes spell the same steps out twice, as each call would cost as much
as the steps.
"""

from __future__ import annotations

import sys
import threading
from time import monotonic_ns

from lockwatch._core import agents, lockorder, settings
from lockwatch._core.agents import _local
from lockwatch._core.handover import OWNED, may_keep, release_slow, wake_next
from lockwatch._core.holds import AGENT
from lockwatch._core.mutex import acquire_slow
from lockwatch._core.mutexbase import MutexBase
from lockwatch._core.timeouts import check_timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

_getframe = sys._getframe
_THREADING = threading.__dict__
_register = agents._register


def take_nested(lock: MutexBase, hold: Any) -> bool:
    """Finish an acquire under other locks: enter it in the owner's table, and have its place in the order learned."""
    me = hold[0]
    me.holds[lock._key] = hold
    lock._acquisitions += 1
    lockorder.note(me, lock, hold)
    return True


class PlainMutex(MutexBase):
    """A mutex that is not re-entrant and may be released by any agent, as ``threading.Lock``."""

    __slots__ = ()

    def __init__(self, *args: object, name: str | None = None, **kwargs: object) -> None:
        if args or kwargs:
            self._odd_arguments(1)
        super().__init__()
        self._made(1, name)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, waiting until it is free.

        Args:
            blocking: False to try once and not to wait.
            timeout: How long to wait, in seconds; -1 for ever. Only together with ``blocking``.

        Returns:
            True if the lock was taken, False if not (``blocking=False``, or the time was up).

        Raises:
            DeadlockError: Waiting would never end, and this thread is the victim. A wait with a time-out
                never raises it.
            ValueError, OverflowError, TypeError: Bad arguments, as for ``threading.Lock.acquire``.
        """
        if timeout != -1 or blocking is not True:
            return self._acquire_with(blocking, timeout, _getframe(1))
        try:
            me = _local.agent
        except AttributeError:
            me = _register()
        frame = _getframe(1)
        hold = (me, self._ref, frame.f_code, frame.f_lasti, monotonic_ns(), False)
        try:
            if self._state.setdefault(OWNED, hold) is hold and (not self._queue or may_keep(self, hold)):
                holds = me.holds
                if holds and settings.order:
                    return take_nested(self, hold)
                holds[self._key] = hold
                self._acquisitions += 1
                return True
        except BaseException:
            self._undo(hold)
            raise
        return acquire_slow(self, hold, None)

    def __enter__(self) -> bool:
        try:
            me = _local.agent
        except AttributeError:
            me = _register()
        frame = _getframe(1)
        if frame.f_globals is _THREADING:
            frame = frame.f_back or frame  # `with condition`: that line, not Condition.__enter__
        hold = (me, self._ref, frame.f_code, frame.f_lasti, monotonic_ns(), True)
        try:
            if self._state.setdefault(OWNED, hold) is hold and (not self._queue or may_keep(self, hold)):
                holds = me.holds
                if holds and settings.order:
                    return take_nested(self, hold)
                holds[self._key] = hold
                self._acquisitions += 1
                return True
        except BaseException:
            self._undo(hold)
            raise
        return acquire_slow(self, hold, None)

    def try_acquire(self) -> bool:
        """Take the lock if that needs no waiting; never overtakes waiters in starvation mode.

        Returns whether it was taken.
        """
        return self._acquire_with(False, -1, _getframe(1))

    def _acquire_with(self, blocking: Any, timeout: Any, frame: Any) -> bool:
        """Take the lock with arguments: try it once, or until a deadline."""
        timeout_ns = check_timeout(blocking, timeout)
        hold = (agents.current(), self._ref, frame.f_code, frame.f_lasti, monotonic_ns(), False)
        try:
            if self._state.setdefault(OWNED, hold) is hold and (not self._queue or may_keep(self, hold)):
                if timeout_ns is None and settings.order and hold[0].holds:
                    return take_nested(self, hold)
                hold[0].holds[self._key] = hold
                self._acquisitions += 1
                return True
        except BaseException:
            self._undo(hold)
            raise
        if timeout_ns == 0:
            return False
        return acquire_slow(self, hold, timeout_ns)

    def release(self) -> None:
        """Let go of the lock, whichever thread took it.

        Raises:
            MisuseError: The lock is not held (a RuntimeError, as from ``threading.Lock``).
        """
        hold = None
        try:
            hold = self._state.get(OWNED)
            if hold is None:
                return self._refuse_release(None)
            try:
                me = _local.agent
            except AttributeError:
                me = _register()
            owner = hold[0]
            if owner is not me:
                return self._release_for(hold)
            owner.holds.pop(self._key, None)
            if self._queue:
                return release_slow(self, hold)
            freed = self._state.pop(OWNED, None)
            if self._queue:
                wake_next(self)  # F1
            return None if freed is hold else self._freed_another(freed)
        except BaseException:
            if hold is not None:
                self._finish_release(hold)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        hold = None
        try:
            hold = self._state.get(OWNED)
            if hold is None:
                return self._refuse_release(None)
            hold[0].holds.pop(self._key, None)
            if self._queue:
                return release_slow(self, hold)
            freed = self._state.pop(OWNED, None)
            if self._queue:
                wake_next(self)  # F1
            return None if freed is hold else self._freed_another(freed)
        except BaseException:
            if hold is not None:
                self._finish_release(hold)
            raise

    def _is_owned(self) -> bool:
        """Return whether the lock is locked, for Condition: it would find out by a costly ``acquire(False)``."""
        return OWNED in self._state

    acquire_lock = acquire
    release_lock = release

    def locked_lock(self) -> bool:
        """Return whether somebody owns the lock."""
        return OWNED in self._state


class RecursiveMutex(MutexBase):
    """A mutex that its owner may take again; only the owner may release it, as ``threading.RLock``.

    Attributes:
        _count: How often the owner took it beyond the first time; written by the owner alone.
    """

    __slots__ = ("_count",)

    def __init__(self, *args: object, name: str | None = None, **kwargs: object) -> None:
        if args or kwargs:
            self._odd_arguments(1)
        super().__init__()
        self._count = 0
        self._made(1, name)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, waiting until it is free; its owner takes one more level of it at once.

        Args:
            blocking: False to try once and not to wait.
            timeout: How long to wait, in seconds; -1 for ever. Only together with ``blocking``.

        Returns:
            True if the lock was taken, False if not (``blocking=False``, or the time was up).

        Raises:
            DeadlockError: Waiting would never end, and this thread is the victim. A wait with a time-out
                never raises it.
            ValueError, OverflowError, TypeError: Bad arguments, as for ``threading.RLock.acquire``.
        """
        if timeout != -1 or blocking is not True:
            return self._acquire_with(blocking, timeout, _getframe(1))
        try:
            me = _local.agent
        except AttributeError:
            me = _register()
        frame = _getframe(1)
        hold = (me, self._ref, frame.f_code, frame.f_lasti, monotonic_ns(), False)
        try:
            now = self._state.setdefault(OWNED, hold)
            if now is hold:
                if not self._queue or may_keep(self, hold):
                    holds = me.holds
                    if holds and settings.order:
                        return take_nested(self, hold)
                    holds[self._key] = hold
                    self._acquisitions += 1
                    return True
            elif now[0] is me:
                self._count += 1
                return True
        except BaseException:
            self._undo(hold)
            raise
        return acquire_slow(self, hold, None)

    def __enter__(self) -> bool:
        try:
            me = _local.agent
        except AttributeError:
            me = _register()
        frame = _getframe(1)
        if frame.f_globals is _THREADING:
            frame = frame.f_back or frame  # `with condition`: that line, not Condition.__enter__
        hold = (me, self._ref, frame.f_code, frame.f_lasti, monotonic_ns(), True)
        try:
            now = self._state.setdefault(OWNED, hold)
            if now is hold:
                if not self._queue or may_keep(self, hold):
                    holds = me.holds
                    if holds and settings.order:
                        return take_nested(self, hold)
                    holds[self._key] = hold
                    self._acquisitions += 1
                    return True
            elif now[0] is me:
                self._count += 1
                return True
        except BaseException:
            self._undo(hold)
            raise
        return acquire_slow(self, hold, None)

    def try_acquire(self) -> bool:
        """Take the lock if that needs no waiting; never overtakes waiters in starvation mode.

        Returns whether it was taken.
        """
        return self._acquire_with(False, -1, _getframe(1))

    def _acquire_with(self, blocking: Any, timeout: Any, frame: Any) -> bool:
        """Take the lock with arguments: try it once, or until a deadline."""
        timeout_ns = check_timeout(blocking, timeout)
        hold = (agents.current(), self._ref, frame.f_code, frame.f_lasti, monotonic_ns(), False)
        try:
            now = self._state.setdefault(OWNED, hold)
            if now is hold:
                if not self._queue or may_keep(self, hold):
                    if timeout_ns is None and settings.order and hold[0].holds:
                        return take_nested(self, hold)
                    hold[0].holds[self._key] = hold
                    self._acquisitions += 1
                    return True
            elif now[0] is hold[0]:
                self._count += 1
                return True
        except BaseException:
            self._undo(hold)
            raise
        if timeout_ns == 0:
            return False
        return acquire_slow(self, hold, timeout_ns)

    def release(self) -> None:
        """Let go of one level of the lock; the last one frees it.

        Raises:
            MisuseError: The lock is not held by this thread (a RuntimeError, as from ``threading.RLock``).
                The message names the owner and where it took the lock.
        """
        hold = None
        try:
            now = self._state.get(OWNED)
            try:
                me = _local.agent
            except AttributeError:
                me = _register()
            if now is None or now[0] is not me:
                return self._refuse_release(now)
            if self._count:
                self._count -= 1
                return None
            hold = now
            me.holds.pop(self._key, None)
            if self._queue:
                return release_slow(self, hold)
            self._state.pop(OWNED, None)
            if self._queue:
                wake_next(self)  # F1
            return None
        except BaseException:
            if hold is not None:
                self._finish_release(hold)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self.release()

    def _is_owned(self) -> bool:
        """Return whether the calling thread owns the lock (for Condition)."""
        hold = self._state.get(OWNED)
        return hold is not None and hold[AGENT] is agents.current()
