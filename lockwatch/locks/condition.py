"""``lockwatch.Condition``, and the ``wait`` that `install()` gives to every ``threading.Condition``.

The behaviour is CPython's, to the letter: the same queue, with something for each waiter that ``notify``
releases. What differs is how the waiter sleeps on its own: in the graph, so that it can be found asleep, and
be woken as a victim. So waiters of both kinds, ours and those that began to wait before, work on one
condition.

Assumes: ``Condition._waiters`` and the private protocol ``_is_owned``, ``_release_save``,
``_acquire_restore``, as they are from 3.11 to 3.15.
"""

from __future__ import annotations

import sys
import threading
from math import nan
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, cast

from lockwatch._core import agents, blocking, lockorder, parking, settings
from lockwatch._core.originals import allocate_lock
from lockwatch._core.timeouts import check_timeout
from lockwatch.locks.rlock import RLock
from lockwatch.locks.things import thing_of

if TYPE_CHECKING:
    from _thread import LockType
    from types import FrameType


class Waiter:
    """What stands in a queue of a condition for one waiter: ``notify`` releases it as if it were a raw lock.

    Attributes:
        parker: What the waiter sleeps on.
        notified: Whether it was let go. The parker does not tell: it is taken again as soon as the waiter wakes.
    """

    __slots__ = ("notified", "parker")

    def __init__(self, parker: LockType) -> None:
        self.parker = parker
        self.notified = False

    def release(self) -> None:
        """Let the waiter go; first it is noted that it was."""
        self.notified = True
        self.parker.release()


def wait(self: Any, timeout: float | None = None) -> bool:
    """Wait until notified or until the time is up.

    The lock of the condition is let go meanwhile, and taken again before this returns or raises.

    Args:
        self: The condition, whose lock the caller owns.
        timeout: How long to wait, in seconds; None for ever.

    Returns:
        True if notified, False if the time was up.

    Raises:
        RuntimeError: The caller does not own the lock.
        ValueError: The time-out is NaN, on versions that refuse that.
        OverflowError, TypeError: As from ``acquire``: a time-out above ``threading.TIMEOUT_MAX``, or no number.
        DeadlockError: Nobody is left who could notify, and this thread is the victim. Not with a time-out.
    """
    if not self._is_owned():
        raise RuntimeError("cannot wait on un-acquired lock")
    polls = timeout is not None and (timeout <= 0 or not (timeout > 0 or _REFUSES_NAN))
    parker = parking.new_parker()
    waiter: Any = parker if polls else Waiter(parker)
    self._waiters.append(waiter)
    saved = self._release_save()
    notified = False
    try:
        # `Semaphore.acquire(timeout=0)` comes here each time that there is no permit, as for each submit of a pool.
        notified = parker.acquire(False) if polls else _sleep(self, waiter, timeout, sys._getframe(1))
        return notified
    finally:
        if settings.order_raises:
            _restore(self, saved)
        else:
            self._acquire_restore(saved)
        if not notified:
            try:
                self._waiters.remove(waiter)
            except ValueError:
                pass


def _restore(condition: Any, saved: Any) -> None:
    """Take the lock again. An order that can deadlock is reported, not raised: ``with`` is to find its lock taken."""
    serial = agents.current().serial
    lockorder.restoring.add(serial)
    try:
        condition._acquire_restore(saved)
    finally:
        lockorder.restoring.discard(serial)


def _sleep(condition: Any, waiter: Waiter, timeout: float | None, frame: FrameType) -> bool:
    timeout_ns = None if timeout is None else check_timeout(True, timeout)
    since_ns = monotonic_ns()
    if blocking.nap(waiter.parker, timeout_ns):
        return True
    thing, caller = thing_of(condition, frame)
    thing.waiter = waiter
    code, lasti = (None, -1) if caller is None else (caller.f_code, caller.f_lasti)
    return blocking.block(
        blocking.ParkedWait(
            agents.current(), thing, waiter.parker, timeout_ns, code, lasti, since_ns=since_ns
        )
    )


class Condition(threading.Condition):
    """A condition variable whose waits are in the graph; else ``threading.Condition``.

    Args:
        lock: The lock to use, a `Lock` or `RLock`; by default an `RLock` of its own.
    """

    __module__ = "lockwatch"  # where its users know it from: the standard library's repr shows it

    def __init__(self, lock: Any = None) -> None:
        super().__init__(cast("Any", RLock()) if lock is None else lock)

    wait = wait


def _refuses_nan() -> bool:
    condition = Condition(allocate_lock())
    with condition:
        try:
            threading.Condition.wait(condition, nan)
        except ValueError:
            return True
    return False


_REFUSES_NAN = _refuses_nan()
"""Whether NaN as a time-out is an error (from some 3.14.x on), or as good as 0."""
