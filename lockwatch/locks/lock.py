"""``lockwatch.Lock``: in place of ``threading.Lock``.

Policy on top of the mechanism: not re-entrant, may be released by any thread, and therefore possibly a
    signal. Guarantee: a
lock that was ever seen released by another thread than its owner, and all locks made at the same place, have
no owner as far as the detector is concerned (DESIGN section 4, "a lock used as a signal"). Cost of that: one
comparison per `release`.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from lockwatch._core import agents, hooks, orderbook, settings
from lockwatch._core.fastpath import PlainMutex
from lockwatch._core.holds import HOW
from lockwatch._core.mutex import OWNED
from lockwatch._core.waits import ALL, NOBODY, OPEN, Blockers
from lockwatch.locks.base import WatchedLock
from lockwatch.locks.sight import in_sight

if TYPE_CHECKING:
    from types import CodeType

    from lockwatch._core.holds import Hold
    from lockwatch._core.waits import Wait

_signal_classes: dict[tuple[int, int], CodeType] = {}
"""Lock classes that are signals, by the creation site: (id of the code object, instruction) -> the code object."""


class Lock(PlainMutex, WatchedLock):
    """A mutual exclusion lock that tells deadlocks, with all of ``threading.Lock``'s contract.

    Scheduled as Go's ``sync.Mutex``: a running thread may overtake waiting ones (barging), until one of them
    has waited longer than ``starvation_threshold`` (1 ms); then the lock is handed over in FIFO order.

    Args:
        name: What to call it in reports; by default the name that the code gives it where it is made.

    Cost: uncontended one compare-and-swap and a few stores; a blocked acquire also looks along the chain of those
    it waits for. Memory: nothing per acquisition is left after release.
    """

    __slots__ = ()

    kind = "Lock"

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__()
        self._made(1, name)

    acquire_lock = PlainMutex.acquire
    release_lock = PlainMutex.release
    locked_lock = PlainMutex.locked

    def try_acquire(self) -> bool:
        """Take the lock if that needs no waiting; never overtakes waiters in starvation mode.

        Returns whether it was taken.
        """
        return self._acquire_with(False, -1, sys._getframe(1))

    def blockers(self, wait: Wait, /) -> Blockers:
        """Say who could end ``wait``: the owner; anybody, if the lock is known to be a signal.

        A lock taken by a bare ``acquire()``, and wanted by another, may be a signal that is used for the first time.
        """
        hold = self._state.get(OWNED)
        if hold is None or hold is getattr(wait, "hold", None):
            return NOBODY
        owner = agents.responsible(wait, hold)
        if self._is_signal():
            return Blockers(OPEN, (owner,), hold)
        if wait.hope and not hold[HOW] and not _by_with(wait):
            return Blockers(ALL, (owner,), hold, partial(in_sight, self))
        return Blockers(ALL, (owner,), hold)

    def _is_owned(self) -> bool:
        """Return whether the lock is locked, for Condition: it would find out by a costly ``acquire(False)``."""
        return OWNED in self._state

    def _class_key(self) -> tuple[int, int]:
        code, lasti = self._created  # type: ignore[misc]
        return id(code), lasti

    def _is_signal(self) -> bool:
        return self._signal or (self._created is not None and self._class_key() in _signal_classes)

    def _became_signal(self) -> None:
        """Note that another thread than the owner released it: it and its class are signals from now on."""
        self._signal = True
        if self._created is not None:
            _signal_classes[self._class_key()] = self._created[0]
        if settings.order:
            orderbook.forget(self)

    def _refuse_release(self, _hold: Hold | None, /) -> None:
        raise hooks.misuse(f"release unlocked lock: {self._title()} is not held by anybody")


def _by_with(wait: Wait) -> bool:
    hold = getattr(wait, "hold", None)
    return hold is not None and bool(hold[HOW])
