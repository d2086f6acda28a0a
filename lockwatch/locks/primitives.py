"""``lockwatch.Event``, ``Semaphore``, ``BoundedSemaphore``, ``Barrier``: the standard library's, on our locks.

Guarantee: the behaviour is that of ``threading``, whose code runs; the waits are in the graph
(`lockwatch.locks.things`).

A semaphore knows who holds its permits, as far as they were taken by ``with``: those come back from whoever
took them. Permits taken by a bare ``acquire()`` often come back from another thread (a semaphore that counts
the room in a buffer), so they prove nothing. One with a single permit has a place in the order of locks, which
says who has it (`lockwatch.locks.turns`); for the others there is a table.

Assumed atomic: one store into, or pop from, the table of permits; each agent touches its own entry alone.
"""

from __future__ import annotations

import sys
import threading
from functools import wraps
from typing import TYPE_CHECKING, Any

from lockwatch._core import agents
from lockwatch.locks import turns
from lockwatch.locks.condition import Condition
from lockwatch.locks.lock import Lock
from lockwatch.locks.turns import ATTRIBUTE as TURN

if TYPE_CHECKING:
    from collections.abc import Callable

_acquire = threading.Semaphore.acquire
"""What ``with`` calls in ``threading``, too, also where a subclass has an ``acquire`` of its own."""


def enter_semaphore(self: Any) -> bool:
    """Take a permit by ``with``: this thread will give it back."""
    taken: bool = _acquire(self)
    turn = self.__dict__.get(TURN)
    if turn is not None and turns.take(self, turn, True, True):
        return taken
    try:
        permits = self._lockwatch_permits
    except AttributeError:
        permits = self.__dict__.setdefault("_lockwatch_permits", {})
    me = agents.current()
    permits[me] = permits.get(me, 0) + 1
    return taken


def exit_semaphore(self: Any, t: object, v: object, tb: object) -> None:
    """Give the permit back."""
    del t, v, tb
    forget_permit(self)
    self.release()


_EXIT = exit_semaphore.__code__


def forget_permit(semaphore: Any) -> None:
    """Take one permit of this thread's out of the semaphore's table."""
    permits = semaphore.__dict__.get("_lockwatch_permits")
    if permits:
        me = agents.current()
        left = permits.get(me, 0) - 1
        if left > 0:
            permits[me] = left
        else:
            permits.pop(me, None)


def watched_acquire(original: Callable[..., bool]) -> Callable[..., bool]:
    """Wrap ``acquire`` to note who has the one permit of a semaphore that is used as a mutex."""

    @wraps(original)
    def acquire(self: Any, blocking: bool = True, timeout: float | None = None) -> bool:
        taken = original(self, blocking, timeout)
        if taken and (turn := self.__dict__.get(TURN)) is not None:
            turns.take(self, turn, timeout is None and bool(blocking), False)
        return taken

    return acquire


def watched_release(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``release`` to note permits that come back otherwise than by ``with``: they may come from anybody."""

    @wraps(original)
    def release(self: Any, n: int = 1) -> None:
        turn = self.__dict__.get(TURN)
        if turn is not None:
            turns.give(self, turn, n)
        if sys._getframe(1).f_code is not _EXIT:
            self._lockwatch_loose = True
        original(self, n)

    return release


def note_capacity(initialise: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``Semaphore.__init__`` to note how many permits there are."""

    def __init__(self: Any, value: int = 1) -> None:  # noqa: N807 - stands in for one
        initialise(self, value)
        self._lockwatch_capacity = value
        turns.begin(self, value)

    return __init__


def watched_event_wait(original: Callable[..., bool]) -> Callable[..., bool]:
    """Wrap ``Event.wait`` to return at once when the event is set; its lock, which is ours, is not needed for that."""

    @wraps(original)
    def wait(self: Any, timeout: float | None = None) -> bool:
        return self._flag or original(self, timeout)

    return wait


class Event(threading.Event):
    """An event whose waits are in the graph; else ``threading.Event``."""

    __module__ = "lockwatch"  # where its users know it from: the standard library's repr shows it

    def __init__(self) -> None:
        super().__init__()
        self._cond = Condition(Lock())


class Semaphore(threading.Semaphore):
    """A semaphore that knows who holds its permits; else ``threading.Semaphore``.

    Args:
        value: How many permits there are.

    Raises:
        ValueError: ``value`` is negative.
    """

    __module__ = "lockwatch"

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)
        self._cond = Condition(Lock())
        self._lockwatch_capacity = value
        turns.begin(self, value)

    __enter__ = enter_semaphore  # type: ignore[assignment]
    __exit__ = exit_semaphore
    acquire = watched_acquire(threading.Semaphore.acquire)
    release = watched_release(threading.Semaphore.release)


class BoundedSemaphore(threading.BoundedSemaphore):
    """A semaphore that refuses more releases than acquires; else as `Semaphore`.

    Args:
        value: How many permits there are, and will ever be.

    Raises:
        ValueError: ``value`` is negative; at ``release``, all permits are there already.
    """

    __module__ = "lockwatch"

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)
        self._cond = Condition(Lock())
        self._lockwatch_capacity = value
        turns.begin(self, value)

    __enter__ = enter_semaphore  # type: ignore[assignment]
    __exit__ = exit_semaphore
    acquire = watched_acquire(threading.Semaphore.acquire)
    release = watched_release(threading.BoundedSemaphore.release)


class Barrier(threading.Barrier):
    """A barrier whose waits are in the graph; else ``threading.Barrier``.

    Args:
        parties: How many threads meet.
        action: Called by one of them before they go on.
        timeout: Default time-out of ``wait``, in seconds; None for none.
    """

    __module__ = "lockwatch"

    def __init__(
        self, parties: int, action: Callable[[], None] | None = None, timeout: float | None = None
    ) -> None:
        super().__init__(parties, action, timeout)
        self._cond = Condition(Lock())
