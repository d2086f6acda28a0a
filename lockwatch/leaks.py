"""Leaks: locks that nobody will release any more, or whose release was skipped, become findings.

What is certain, and when it is said:

  * A thread or task has ended and holds a re-entrant lock: at once, since nobody else may release that.
  * It holds a plain lock, and every way through the function that took it releases it (`lockwatch.releases`), or an
    exception went through that function: at once. If it releases the lock on some ways only, the lock may be on its
    way to another thread: so it is said at interpreter exit, if it is still held then.
  * A lock dies while it is held: by the same signs.
  * The main thread holds one at interpreter exit: only if the function that took it releases it as well.
  * A wait is a long one (over a second), and the owner has left the function that was to release the lock: ``stall``.

Nothing is said of other plain locks (a signal, a gate, a lock for life), of what is known to be a signal, of daemon
threads that run at exit, and of threads that a fork left behind.

Guarantees: as of `lockwatch.diagnosis`: reads only, imports nothing when used, never raises into the program. One
problem, which is a place where a lock of one class was taken, is said once.

Cost: some milliseconds for each agent that ends with a lock; nothing for all others.
"""

import atexit
import threading
import time
from collections.abc import Callable
from typing import Any

from lockwatch import delivery, diagnosis, findings, releases, remarks
from lockwatch._core import agents, hooks, leftovers, watchdog
from lockwatch._core.agents import Agent
from lockwatch._core.frames import calls
from lockwatch._core.holds import AGENT, CODE, LASTI, LOCK, Hold
from lockwatch._core.leftovers import Dropped, Passing
from lockwatch._core.waits import Wait
from lockwatch.naming import lock_name, site

_REENTRANT = frozenset({"RLock", "asyncio.RLock"})
"""Locks that nobody but their owner may release."""
_LOCKS = frozenset({"Lock", "asyncio.Lock"}) | _REENTRANT
_FIX = "release it in a `finally`, or take it by `with`"


def _ended(agent: Agent) -> None:
    """Report what an agent that has just ended holds and nobody will release."""
    try:
        for lock, hold in _held(agent):
            if _lost_for_sure(lock, hold):
                _left_held(agent, lock, hold)
    except Exception as error:
        delivery.note_internal("leak report", error)


def _loses(agent: Agent) -> bool:
    try:
        return any(_lost_for_sure(lock, hold) for lock, hold in _held(agent))
    except Exception as error:
        delivery.note_internal("leak report", error)
        return False


def left_over() -> tuple[tuple[Agent, Any, Hold], ...]:
    """Return what is held by threads and tasks that have ended: agent, lock and hold, whether certain or not."""
    return tuple(
        (agent, lock, hold) for agent in leftovers.still_there() for lock, hold in _held(agent, mutexes=False)
    )


def last_look() -> None:
    """Report also what those who ended have left held and nobody has released until now; for the end of a run.

    A plain lock that its function releases on some of its ways may have been on its way to another thread: that has
    had the time to release it by now. What the watchdog has begun to tell has been delivered on return.
    """
    leftovers.work_off()
    try:
        for agent in leftovers.still_there():
            for lock, hold in _held(agent):
                if _lost_for_sure(lock, hold) or _lost_by_now(hold):
                    _left_held(agent, lock, hold)
    except Exception as error:
        delivery.note_internal("leak report", error)
    watchdog.await_look()


def _held(agent: Agent, *, mutexes: bool = True) -> list[tuple[Any, Hold]]:
    """Return an agent's locks that are there and held by it yet; without those that are known to be signals."""
    found: list[tuple[Any, Hold]] = []
    if agent.lost_in_fork:
        return found
    for hold in list(agent.holds.copy().values()):
        lock = hold[LOCK]()
        if lock is None or lock.kind not in _LOCKS or not lock.locked():
            continue
        if mutexes and lock._is_signal():
            continue
        if lock.kind in _REENTRANT or lock._owner() is hold:
            found.append((lock, hold))
    return found


def _lost_for_sure(lock: Any, hold: Hold) -> bool:
    """Whether nobody is to release what an ended agent holds."""
    if lock.kind in _REENTRANT:
        return True
    if _suspended(hold):
        return False
    says = releases.releases(hold[CODE], hold[LASTI])
    passing = leftovers.passing.get(hold[AGENT].serial)
    thrown = passing is not None and any(code is hold[CODE] for code, _ in passing.places)
    return says == releases.ALWAYS or (says == releases.SOMETIMES and thrown)


def _lost_by_now(hold: Hold) -> bool:
    """Whether nobody has released it who was to, as it is the end of the run."""
    if _suspended(hold):
        return False
    return releases.releases(hold[CODE], hold[LASTI]) == releases.SOMETIMES


def _suspended(hold: Hold) -> bool:
    """Whether the code that took it may not have ended: a generator; for threads a coroutine, too."""
    flags = releases.GENERATORS if hold[AGENT].kind == "task" else releases.SUSPENDED
    return bool(hold[CODE].co_flags & flags)


def _left_held(agent: Agent, lock: Any, hold: Hold) -> None:
    what = diagnosis.resource_label(lock)
    value = diagnosis.hold_value(hold, time.monotonic_ns())
    if value is not None:
        remarks.say(
            "leak",
            f"{diagnosis.agent_label(agent)} ended while it held {what}"
            f"{_by(leftovers.passing.get(agent.serial))}",
            advice=_FIX,
            parties=(_gone(agent, value),),
            evidence=[_evidence(lock, hold)],
        )


def _by(passing: Passing | None) -> str:
    """Say which exception ended it, and where that was raised; not its text, which may have anything in it."""
    if passing is None:
        return ""
    places = [site(*place) for place in passing.places]
    return f", by {passing.name}" + (f" raised at {places[-1].show()}" if places else "")


def _gone(agent: Agent, *holds: findings.Hold) -> findings.Party:
    return findings.Party(
        agent=diagnosis.agent_label(agent),
        name=agent.label(),
        ident=agent.ident or None,
        native_id=agent.native_id or None,
        daemon=agent.daemon,
        alive=not agent.ended,
        holds=holds,
    )


def _evidence(lock: Any, hold: Hold) -> tuple[str, findings.Site]:
    return lock.lock_class, site(hold[CODE], hold[LASTI])


def _dropped(lock: Dropped) -> None:
    """Judge a lock that has died: held, or unseen by anybody but the function that made it."""
    try:
        if lock.agent is None:
            unseen(lock)
        elif lock.code is not None:
            _dropped_held(lock, lock.agent, (lock.code, lock.lasti))
    except Exception as error:
        delivery.note_internal("leak report", error)


def _no_judge(_lock: Dropped) -> None:
    pass


unseen: Callable[[Dropped], None] = _no_judge
"""Judges a lock that may have been private to one call (`lockwatch.misuse`)."""


def _dropped_held(lock: Dropped, agent: Agent, taken: tuple[Any, int]) -> None:
    says = releases.releases(*taken)
    suspended = bool(taken[0].co_flags & releases.SUSPENDED)
    if suspended or (says != releases.ALWAYS and not (says == releases.SOMETIMES and lock.acquisitions > 1)):
        leftovers.settle(taken)
        return
    made = None if lock.created is None else site(*lock.created)
    name = lock.name or (None if lock.created is None else lock_name(*lock.created))
    what = findings.resource_label(lock.kind, name, made)
    hold = findings.Hold(
        resource=what,
        kind=lock.kind,
        name=name,
        created=made,
        taken=site(*taken),
        how="with" if lock.how else "acquire",
    )
    lock_class = lock.name or ("unknown" if made is None else str(made))
    remarks.say(
        "leak",
        f"{what} was dropped by the program while {diagnosis.agent_label(agent)} held it: its release was skipped",
        advice=_FIX,
        parties=(_gone(agent, hold),),
        evidence=[(lock_class, site(*taken))],
    )


def _long_wait(wait: Wait) -> bool:
    """Report a long wait if the owner has left the function that was to release the lock; whether it is done with."""
    try:
        lock: Any = wait.resource
        if getattr(lock, "kind", None) not in _LOCKS:
            return True
        hold = lock._owner()
        if hold is None or lock._is_signal():
            return False
        owner: Agent = hold[AGENT]
        if (
            owner.ended
            or owner is wait.agent
            or _suspended(hold)
            or _runs(hold[CODE], owner)
            or lock._owner() is not hold
            or releases.releases(hold[CODE], hold[LASTI]) != releases.ALWAYS
        ):
            return False
        _skipped(wait, lock, hold, owner)
    except Exception as error:
        delivery.note_internal("stall report", error)
    return True


def _runs(code: Any, owner: Agent) -> bool:
    """Whether the function is on the stack of a thread, or of a task, or of the thread that runs the task's loop."""
    if any(frame.f_code is code for frame in owner.coroutine_frames()):
        return True
    runner = owner.runner() or owner
    return calls(code, runner.ident) > 0


def _skipped(wait: Wait, lock: Any, hold: Hold, owner: Agent) -> None:
    what, who = diagnosis.resource_label(lock), diagnosis.agent_label(owner)
    age = (time.monotonic_ns() - wait.since_ns) / 1e9
    remarks.say(
        "stall",
        f"{diagnosis.agent_label(wait.agent)} has waited for {what} for {age:.1f} s; {who} holds it, and has left "
        f"{hold[CODE].co_name}(), which took it, without the release in there",
        advice=_FIX,
        parties=diagnosis.parties((wait.agent, owner)),
        evidence=[_evidence(lock, hold)],
    )


def _at_exit() -> None:
    """Say what is held at interpreter exit, by those who ended and by the main thread; notice nothing any more."""
    last_look()
    leftovers.close()
    try:
        ident = threading.main_thread().ident
        main = None if ident is None else agents.by_ident.get(ident)
        for lock, hold in [] if main is None else _held(main):
            says = releases.releases(hold[CODE], hold[LASTI])
            if says not in {releases.ALWAYS, releases.SOMETIMES} or _suspended(hold):
                continue
            if main is None or _runs(hold[CODE], main):
                continue
            value = diagnosis.hold_value(hold, time.monotonic_ns())
            if value is not None:
                remarks.say(
                    "leak",
                    f"the program ended while {diagnosis.agent_label(main)} held {value.resource}",
                    level="note",
                    advice=_FIX,
                    parties=(_gone(main, value),),
                    evidence=[_evidence(lock, hold)],
                )
    except Exception as error:
        delivery.note_internal("leak report", error)


hooks.loses = _loses
hooks.ended_holding = _ended
hooks.dropped = _dropped
hooks.long_wait = _long_wait
atexit.register(_at_exit)
