"""``lockwatch.Lock``: in place of ``threading.Lock``.

Policy on top of the mechanism: not re-entrant, may be released by any thread, and therefore possibly a
    signal. Guarantee: a
lock that was ever seen released by another thread than its owner, and all locks made at the same place, have
no owner as far as the detector is concerned (DESIGN section 4, "a lock used as a signal"). Cost of that: one
comparison per `release`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lockwatch import releases
from lockwatch._core import agents, hooks, leftovers, ontop, orderbook, settings
from lockwatch._core.fastpath import PlainMutex, specialised
from lockwatch._core.frames import calls
from lockwatch._core.handover import OWNED
from lockwatch._core.holds import AGENT, CODE, HOW, LASTI
from lockwatch._core.mutex import acquire_slow
from lockwatch._core.waits import ALL, NOBODY, OPEN, Blockers
from lockwatch.locks.base import Watched, WatchedLock
from lockwatch.locks.sight import GIVES_BACK, in_sight, suspended_in_sight

ontop.waits_in(acquire_slow, "waiter")

if TYPE_CHECKING:
    from types import CodeType

    from lockwatch._core.agents import Agent
    from lockwatch._core.holds import Hold
    from lockwatch._core.waits import Wait

CO_GENERATOR = 0x20
_GENERATORS = CO_GENERATOR | 0x200  # CO_ASYNC_GENERATOR
_ASYNCHRONOUS = 0x80 | 0x200  # CO_COROUTINE, CO_ASYNC_GENERATOR; importing inspect takes milliseconds
_signal_classes = leftovers.signal_classes
"""Lock classes that are signals, by the creation site: (id of the code object, instruction) -> the code object."""


class PlainPolicy(Watched):
    """Who could release a lock that anybody may release: threads' `Lock`, and the plain lock of tasks."""

    __slots__ = ()

    def blockers(self, wait: Wait, /) -> Blockers:
        """Say who could end ``wait``: the owner; anybody, if the lock is known to be a signal.

        A lock taken by a bare ``acquire()``, and wanted by another, may be a signal that is used for the first time.
        """
        hold = self._owner()
        if hold is None or hold is getattr(wait, "hold", None):
            return NOBODY
        owner = agents.responsible(wait, hold)
        if self._is_signal():
            return Blockers(OPEN, (owner,), hold)
        if wait.hope and self._soft(wait, hold):
            return Blockers(ALL, (owner,), hold, partial(self._somebody_elses, wait, hold))
        if wait.hope and wait.doubted is hold:
            return Blockers(ALL, (owner,), hold, partial(self._may_be_let_go, hold[CODE]))
        return Blockers(ALL, (owner,), hold)

    def _soft(self, wait: Wait, hold: Hold, /) -> bool:
        """Whether ``wait`` may be one for a signal that was never released so far."""
        return not hold[HOW] and not by_with(wait)

    def _somebody_elses(self, wait: Wait, hold: Hold, idle: set[int], /) -> bool:
        """Whether somebody else may release it: not if owner and waiter do, which leaves nothing to others."""
        return not both_release(wait, hold) and self._in_sight(idle)

    def _in_sight(self, idle: set[int], /) -> bool:
        """Whether somebody else could release it, having it in sight."""
        return in_sight(self, idle)

    def _may_be_let_go(self, code: CodeType, idle: set[int]) -> bool:
        """Whether an awake thread sees the lock, or the suspended generator that took it by ``with``."""
        if code.co_flags & CO_GENERATOR:
            return suspended_in_sight(code, idle)
        return in_sight(self, idle, global_verbs=GIVES_BACK)

    def _class_key(self) -> tuple[int, int]:
        code, lasti = self._created  # type: ignore[misc]
        return id(code), lasti

    def _is_signal(self) -> bool:
        return self._signal or (
            bool(_signal_classes) and self._created is not None and self._class_key() in _signal_classes
        )

    def _became_signal(self) -> None:
        """Note that another thread than the owner released it: it and its class are signals from now on."""
        known, self._signal = self._is_signal(), True  # type: ignore[misc] # a field
        if known:
            return
        if self._created is not None:
            _signal_classes[self._class_key()] = self._created[0]
        if settings.order:
            orderbook.forget(self)  # type: ignore[arg-type]


@specialised
class Lock(PlainMutex, PlainPolicy, WatchedLock):
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

    def doubt(self, wait: Wait, /) -> bool:
        """Look where the owner of a lock in a knot stands, and say whether another thread may release it after all.

        So it is if the function that took the lock runs no more: a generator with the ``with`` in it is resumed
        by any thread, an ``ExitStack`` is handed on. After a bare ``acquire()`` it is also so if that function
        does not ``release()`` anything: then somebody else is meant to, also if it is the owner who waits.
        """
        hold = self._state.get(OWNED)
        if hold is None or wait.doubted is hold:
            return False
        owner: Agent = hold[AGENT]
        code: CodeType = hold[CODE]
        if hold[HOW]:
            sure = bool(code.co_flags & _ASYNCHRONOUS) or _runs(
                code, owner
            )  # a loop resumes in its own thread
        else:
            sure = "release" in code.co_names and (owner is wait.agent or owner.ended or _runs(code, owner))
        if sure:
            return False
        wait.doubted = hold
        return True

    def _refuse_release(self, _hold: Hold | None, /) -> None:
        raise hooks.misuse(f"release unlocked lock: {self._title()} is not held by anybody")


def both_release(wait: Wait, hold: Hold) -> bool:
    """Whether two calls that run took a lock and want it, by ``acquire()``, and release it whatever way they take.

    Then it is a mutex to them. As a signal it would get one release more, by whoever lets the waiter go, and the last
    of the three would find it unlocked.
    """
    code, owner = wait.code, hold[AGENT]
    if code is None or (code.co_flags | hold[CODE].co_flags) & _GENERATORS:
        return False
    least = 2 if owner is wait.agent and code is hold[CODE] else 1
    return (
        _running(hold[CODE], owner) >= least
        and releases.keeps_count(hold[CODE], hold[LASTI])
        and releases.keeps_count(code, wait.lasti)
    )


def _runs(code: CodeType, owner: Agent) -> bool:
    """Whether the function is on the stack of a thread."""
    return _running(code, owner) > 0


def _running(code: CodeType, owner: Agent) -> int:
    """Count the calls of a function on the stack of a thread, or in the coroutines that a task stands in."""
    if owner.ended:
        return 0
    if owner.kind != "thread":
        return sum(frame.f_code is code for frame in owner.coroutine_frames())
    return calls(code, owner.ident)


def by_with(wait: Wait) -> bool:
    """Whether the wait is that of a ``with`` block."""
    hold = getattr(wait, "hold", None)
    return hold is not None and bool(hold[HOW])
