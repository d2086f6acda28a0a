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

Cost: about a microsecond each way; nothing for semaphores that began with another number of permits.
"""

from __future__ import annotations

import threading
from time import monotonic_ns
from typing import TYPE_CHECKING, Any
from weakref import ref

from lockwatch._core import agents, lockorder, settings
from lockwatch._core.fastpath import PlainMutex
from lockwatch._core.holds import AGENT
from lockwatch._core.mutex import OWNED
from lockwatch.locks.base import WatchedLock
from lockwatch.locks.lock import PlainPolicy
from lockwatch.locks.machinery import is_machinery

if TYPE_CHECKING:
    from types import FrameType

    from lockwatch._core.agents import Agent

ATTRIBUTE = "_lockwatch_turn"
_ORIGINALS = (threading.BoundedSemaphore.release, threading.Semaphore.release)


class Turn(PlainMutex, PlainPolicy, WatchedLock):
    """The one permit of a semaphore, as a lock.

    Attributes:
        proven: Whether a bare ``acquire()`` was seen to be ended by its taker.
        taker: Who took it by a bare ``acquire()`` before that.
    """

    __slots__ = ("_semaphore", "proven", "taker")

    kind = "Semaphore"

    def __init__(self, semaphore: Any) -> None:
        super().__init__()
        self._semaphore = ref(semaphore)
        self.proven = False
        self.taker: Agent | None = None

    @property
    def subject(self) -> Any:
        """The semaphore: what is held here is what others wait for."""
        return self._semaphore() or self

    def _class_key(self) -> tuple[int, int]:
        code, lasti = self._created  # type: ignore[misc]
        return id(code), -1 - lasti  # not that of the lock that is made there, too, within the semaphore


def begin(semaphore: Any, permits: object) -> None:
    """Give a new semaphore its turn, if it has one permit."""
    if permits == 1 and ATTRIBUTE not in semaphore.__dict__:
        semaphore.__dict__[ATTRIBUTE] = Turn(semaphore)


def take(semaphore: Any, frame: FrameType, *, waits: bool, by_with: bool) -> None:
    """Note that the caller has taken the permit.

    Args:
        semaphore: The semaphore.
        frame: The frame that took it.
        waits: Whether it would have waited for ever.
        by_with: Whether it is given back at the end of a ``with``.

    Raises:
        LockOrderError: Under ``order="raise"``, for an order that can deadlock; the permit is back then.
    """
    turn: Turn | None = semaphore.__dict__.get(ATTRIBUTE)
    if turn is None or not settings.order:
        return
    while is_machinery(frame) and frame.f_back is not None:
        frame = frame.f_back
    me = agents.current()
    if turn._is_signal() or not (by_with or turn.proven or "release" in frame.f_code.co_names):
        turn.taker = me
        return
    turn.taker = None
    hold = (me, turn._ref, frame.f_code, frame.f_lasti, monotonic_ns(), by_with)
    if turn._state.setdefault(OWNED, hold) is not hold:
        semaphore.__dict__.pop(ATTRIBUTE, None)  # there are more permits than we know of
        return
    if me.holds.__class__ is dict:  # else the twin in C has listed it
        me.holds[turn._key] = hold
    turn._acquisitions += 1
    if waits and len(me.holds) > 1:
        try:
            lockorder.note(me, turn, hold)
        except BaseException:
            _end(turn, hold)
            _ORIGINALS[not isinstance(semaphore, threading.BoundedSemaphore)](semaphore)
            raise


def give(semaphore: Any, permits: object) -> None:
    """Note that permits are about to come back."""
    turn: Turn | None = semaphore.__dict__.get(ATTRIBUTE)
    if turn is None:
        return
    hold, taker = turn._state.get(OWNED), turn.taker
    owner = taker if hold is None else hold[AGENT]
    if hold is not None:
        _end(turn, hold)
    turn.taker = None
    if permits != 1:
        semaphore.__dict__.pop(ATTRIBUTE, None)
    elif owner is agents.current():
        turn.proven = True
    elif owner is not None:
        turn._became_signal()
    elif semaphore._value > 0:
        semaphore.__dict__.pop(ATTRIBUTE, None)  # one more than before


def _end(turn: Turn, hold: Any) -> None:
    holds = hold[AGENT].holds
    if holds.__class__ is dict:
        holds.pop(turn._key, None)
    turn._state.pop(OWNED, None)
