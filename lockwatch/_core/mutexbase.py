"""What every mutex has: its state, its queue, its counters, and where it was made.

The fast path (`lockwatch._core.fastpath`) and the slow path (`lockwatch._core.mutex`) work on these
attributes; the state table stands in `lockwatch._core.mutex`.
"""

from __future__ import annotations

import sys
from itertools import count
from weakref import ref

from lockwatch._core import leftovers
from lockwatch._core.handover import OWNED, give_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any

    from lockwatch._core.agents import Agent
    from lockwatch._core.holds import Hold
    from lockwatch._core.mutex import Waiter
    from lockwatch._core.waits import Blockers, Wait

next_serial = count(1).__next__
"""Numbers locks in the order in which they are made; the twin in C puts its own in place."""


class MutexMethods:
    """What both kinds of mutex can do, whichever twin they are; the fields are those of `MutexBase`."""

    __slots__ = ()

    def blockers(self, wait: Wait, /) -> Blockers:
        """Say who could end ``wait``: policy, so the subclasses answer."""
        raise NotImplementedError

    def forget_waits(self, survivor: Agent, /) -> None:
        """Drop all waiters but one agent's, in the child after a fork."""
        lock: MutexBase = self  # type: ignore[assignment]
        lock._queue[:] = [waiter for waiter in lock._queue if waiter.agent is survivor]
        if not lock._queue:
            lock._starving = False

    def _made(self, depth: int, name: str | None) -> None:
        """Note the name, and where the lock was made: ``depth`` frames above the caller."""
        raise NotImplementedError

    def _odd_arguments(self, depth: int = 0) -> None:  # noqa: ARG002 - for those who warn
        """Refuse what else was given to the constructor, which was called ``depth`` frames above the caller."""
        raise TypeError(f"{type(self).__name__}() takes no arguments but name")

    def _refuse_release(self, hold: Hold | None, /) -> None:
        """Raise the error for a release that is not the caller's to make; ``hold`` is the present owner's, if any."""
        raise NotImplementedError

    def _is_signal(self) -> bool:
        """Return whether no owner can be told: lock order does not apply then."""
        return self._signal

    def _became_signal(self) -> None:
        """Note that the lock was released by another agent than its owner."""
        self._signal = True  # type: ignore[misc] # a field of MutexBase


class MutexBase(MutexMethods):
    """What both kinds of mutex have: the state, and where the lock was made.

    These are the fields of the Python twin; the C twin's answer to the same names.

    Attributes:
        _state: {} or {OWNED: hold}.
        _queue: The waiters, in the order in which they get the lock.
        _key: The lock's number, its key in the owner's table of holds.
        _ref: A weak reference to the lock.
        _starving: Whether the lock is in starvation mode.
        _signal: Whether it was seen released by another than its owner: no owner can be told from then on.
        _acquisitions, _contended, _handoffs: Counters; written by the owner alone.
        _created: Where it was made: (code object, instruction).
    """

    __slots__ = (
        "__weakref__",
        "_acquisitions",
        "_contended",
        "_created",
        "_handoffs",
        "_key",
        "_name",
        "_queue",
        "_ref",
        "_signal",
        "_starving",
        "_state",
    )

    _name: str | None

    def __init__(self) -> None:
        self._state: dict[int, Hold] = {}
        self._queue: list[Waiter] = []
        self._key = next_serial()
        self._ref = ref(self)
        self._starving = self._signal = False
        self._acquisitions = self._contended = self._handoffs = 0
        self._created: tuple[CodeType, int] | None = None
        self._name = None

    def __del__(
        self,
        held: Callable[[Any, Hold], None] = leftovers.dropped_held,
        free: Callable[[Any], None] = leftovers.dropped_free,
        finalizing: Callable[[], bool] = sys.is_finalizing,
    ) -> None:
        state = getattr(self, "_state", None)
        if state:  # dropped while held: the owner's table would keep the entry for ever
            hold = state.get(OWNED)
            if hold is not None:
                hold[0].holds.pop(self._key, None)
                if not finalizing():
                    held(self, hold)
        elif state is not None and not finalizing():
            free(self)

    def locked(self) -> bool:
        """Return whether somebody owns the lock."""
        return OWNED in self._state

    def _undo(self, hold: Hold) -> None:
        """F3: an exception came while we took the lock; nobody was told that we have it."""
        if self._state.get(OWNED) is hold:
            self._finish_release(hold)

    def _release_for(self, hold: Hold) -> None:
        """Release the lock in the place of its owner, who may be about to enter it in its table of holds (F2)."""
        self._became_signal()
        done = self._finish_release(hold)
        if hold[0].holds.get(self._key) is hold:
            hold[0].holds.pop(self._key, None)
        if not done:
            self._refuse_release(None)

    def _freed_another(self, freed: Hold | None) -> None:
        """M9: another thread was quicker, so it was not the hold that was read that we have freed, or none."""
        if freed is None:
            return self._refuse_release(None)
        freed[0].holds.pop(self._key, None)
        return None

    def _finish_release(self, hold: Hold) -> bool:
        """F3: an exception came while we released the lock; do what is left. Return as `give_up`."""
        if hold[0].holds.get(self._key) is hold:
            hold[0].holds.pop(self._key, None)
        return give_up(self, hold)
