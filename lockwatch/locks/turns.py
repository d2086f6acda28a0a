"""A semaphore with one permit that is used as a mutex has an owner, and so a place in the order of locks.

Whoever takes the one permit has its *turn*: a lock of ours that nobody ever waits for, as the permit lets in one at a
time. It stands in the owner's table of holds, so what is nested in it is learned like any other order, and reports
show it.

=============================================  ===============================================================
the permit was taken                           the turn
=============================================  ===============================================================
by ``with``                                    taken: it comes back from whoever took it
by ``acquire()`` in a function that also says  taken
``release``
by another ``acquire()``                       taken once a taker was seen to give it back, else only noted
and given back by another thread, or more      ends for good, for all semaphores made there: it is a signal
than there are
=============================================  ===============================================================

Guarantees: never waits, and never lets a semaphore behave otherwise, but that under ``order="raise"`` an acquire
against the order raises and takes no permit.

Assumes: `take` is called after the permit was taken, `give` before it is given back; so whoever calls them is alone.

Cost: about a quarter of a microsecond each way with the C fast path, else a whole one; nothing for semaphores that
began with another number of permits.
"""

from __future__ import annotations

import sys
import threading
from time import monotonic_ns
from typing import TYPE_CHECKING, Any
from weakref import ref

from lockwatch._core import agents, lockorder, settings
from lockwatch._core.fastpath import PlainMutex, specialise_turns
from lockwatch._core.handover import OWNED
from lockwatch._core.holds import AGENT, HOW
from lockwatch._core.leftovers import signal_classes
from lockwatch.locks.base import WatchedLock
from lockwatch.locks.lock import PlainPolicy
from lockwatch.locks.machinery import is_machinery

if TYPE_CHECKING:
    from lockwatch._core.agents import Agent

ATTRIBUTE = "_lockwatch_turn"
_ORIGINALS = (threading.BoundedSemaphore.release, threading.Semaphore.release)


@specialise_turns
class Turn(PlainMutex, PlainPolicy, WatchedLock):
    """The one permit of a semaphore, as a lock.

    Attributes:
        proven: 0 until a taker was seen to give it back; then one more than there were classes of signals by then.
        taker: Who took it by a bare ``acquire()`` before that.
    """

    __slots__ = ("_semaphore", "proven", "taker")

    kind = "Semaphore"

    def __init__(self, semaphore: Any) -> None:
        super().__init__()
        self._semaphore = ref(semaphore)
        self.proven = 0
        self.taker: Agent | None = None

    @property
    def subject(self) -> Any:
        """The semaphore: what is held here is what others wait for."""
        return self._semaphore() or self

    def take_for_caller(self, _by_with: bool, _waits: bool, /) -> bool:
        """Take it for the first caller that is not machinery, if all is as usual; return whether."""
        return False

    def give_back(self) -> bool:
        """Give it back if the caller has it; return whether."""
        return False

    def _class_key(self) -> tuple[int, int]:
        code, lasti = self._created  # type: ignore[misc]
        return id(code), -1 - lasti  # not that of the lock that is made there, too, within the semaphore


def begin(semaphore: Any, permits: object) -> None:
    """Give a new semaphore its turn, if it has one permit."""
    if permits == 1 and ATTRIBUTE not in semaphore.__dict__:
        semaphore.__dict__[ATTRIBUTE] = Turn(semaphore)


def take(semaphore: Any, turn: Turn, waits: bool, by_with: bool) -> bool:
    """Note that the caller has taken the permit.

    Args:
        semaphore: The semaphore.
        turn: Its turn.
        waits: Whether it would have waited for ever.
        by_with: Whether it is given back at the end of a ``with``.

    Returns:
        Whether the turn says who has the permit.

    Raises:
        LockOrderError: Under ``order="raise"``, for an order that can deadlock; the permit is back then.
    """
    if not settings.order:
        return False
    try:
        if turn.proven > len(signal_classes) and turn.take_for_caller(by_with, waits):
            return True
        return _take_unusual(semaphore, turn, waits, by_with)
    except BaseException:
        hold = turn._state.get(OWNED)
        if hold is not None and hold[AGENT] is agents.current():
            _end(turn, hold)
        _ORIGINALS[not isinstance(semaphore, threading.BoundedSemaphore)](semaphore)
        raise


def _take_unusual(semaphore: Any, turn: Turn, waits: bool, by_with: bool) -> bool:
    frame = sys._getframe(2)
    while is_machinery(frame) and frame.f_back is not None:
        frame = frame.f_back
    me = agents.current()
    if turn._is_signal() or not (by_with or turn.proven or "release" in frame.f_code.co_names):
        turn.taker = me
        return False
    turn.taker = None
    hold = (me, turn._ref, frame.f_code, frame.f_lasti, monotonic_ns(), by_with)
    if turn._state.setdefault(OWNED, hold) is not hold:
        semaphore.__dict__.pop(ATTRIBUTE, None)  # there are more permits than we know of
        return False
    if me.holds.__class__ is dict:  # else the twin in C has listed it
        me.holds[turn._key] = hold
    turn._acquisitions += 1
    if waits and len(me.holds) > 1:
        lockorder.note(me, turn, hold)
    return True


def owner_by_with(semaphore: Any) -> Agent | None:
    """Return who has the one permit and took it by ``with``, if the turn says so."""
    turn: Turn | None = semaphore.__dict__.get(ATTRIBUTE)
    hold = None if turn is None else turn._state.get(OWNED)
    return hold[AGENT] if hold is not None and hold[HOW] else None


def give(semaphore: Any, turn: Turn, permits: object) -> None:
    """Note that permits are about to come back."""
    if permits == 1 and turn.proven and turn.give_back():
        return
    hold, taker = turn._state.get(OWNED), turn.taker
    owner = taker if hold is None else hold[AGENT]
    if hold is not None:
        _end(turn, hold)
    turn.taker = None
    if permits != 1:
        semaphore.__dict__.pop(ATTRIBUTE, None)
    elif owner is agents.current():
        turn.proven = len(signal_classes) + 1
    elif owner is not None:
        turn._became_signal()
    elif semaphore._value > 0:
        semaphore.__dict__.pop(ATTRIBUTE, None)  # one more than before


def _end(turn: Turn, hold: Any) -> None:
    holds = hold[AGENT].holds
    if holds.__class__ is dict:
        holds.pop(turn._key, None)
    turn._state.pop(OWNED, None)
