"""Misuse: locks used in a way that protects nothing, cannot end well, or stops an event loop, become findings.

What is said, each once for a place:

  * An event loop's thread blocks on a lock for longer than ``loop_block``.
  * A re-entrant lock is released by another agent than its owner (which raises MisuseError); a lock is copied or
    pickled (which raises CopyError). Not inside a ``try``: whoever wrote that may expect the error.
  * A child waits, with a timeout, for a lock whose owner did not come along through the fork. (Without a timeout that
    is a deadlock, cause ``orphan``.)
  * A lock was made, used and dropped by one call, and nobody else could see it.
  * A lock of asyncio is used in two event loops at the same time, or in a second one after it was bound to a first.

Guarantees: as of `lockwatch.diagnosis`: reads only, imports nothing when used, never raises into the program.

Cost: a few milliseconds for each finding; a look at one function's bytecode for what turns out to be none.
"""

import sys
import time
from typing import Any

from lockwatch import delivery, diagnosis, findings, leaks, releases, remarks
from lockwatch._core import agents, hooks, leftovers
from lockwatch._core.agents import Agent
from lockwatch._core.holds import AGENT, CODE, LASTI, Hold
from lockwatch._core.leftovers import Dropped
from lockwatch._core.waits import Wait
from lockwatch.naming import lock_name, site

_MAKERS = frozenset({"Lock", "RLock", "Condition", "allocate_lock"})
_REENTRANT = frozenset({"RLock", "asyncio.RLock"})


def _loop_blocked(wait: Wait) -> None:
    """Say that a thread that runs an event loop is blocked on a lock, with the stack of whoever holds it now."""
    try:
        lock: Any = wait.resource
        hold = lock._owner()
        if hold is None or hold[AGENT] is wait.agent:
            return
        owner, what = hold[AGENT], diagnosis.resource_label(lock)
        acting = agents.acting()
        task = f" by {diagnosis.agent_label(acting)}" if acting.kind == "task" else ""
        age = (time.monotonic_ns() - wait.since_ns) / 1e9
        remarks.say(
            "misuse",
            f"the event loop of {diagnosis.agent_label(wait.agent)} has been blocked{task} for {age:.1f} s: "
            f"it waits for {what}, held by {diagnosis.agent_label(owner)}",
            advice="use asyncio.Lock among tasks; take a thread's lock in a thread: await asyncio.to_thread(...)",
            parties=diagnosis.parties((wait.agent, owner), waiting=True),
            evidence=[(lock.lock_class, diagnosis.place(wait))],
        )
    except Exception as error:
        delivery.note_internal("misuse report", error)


def _lost_in_fork(wait: Wait) -> None:
    """Say that a wait with a timeout is in vain: the lock's owner is in the parent."""
    try:
        lock: Any = wait.resource
        owner_of = getattr(lock, "_owner", None)
        hold: Hold | None = None if owner_of is None else owner_of()
        if hold is None or not hold[AGENT].lost_in_fork or lock._is_signal():
            return
        sure = releases.releases(hold[CODE], hold[LASTI]) == releases.ALWAYS
        if lock.kind not in _REENTRANT and (not sure or hold[CODE].co_flags & releases.SUSPENDED):
            return
        owner = hold[AGENT]
        remarks.say(
            "misuse",
            f"{diagnosis.agent_label(wait.agent)} waits for {diagnosis.resource_label(lock)} in vain: "
            f"{diagnosis.agent_label(owner)} held it when this process was forked, and did not come along",
            advice="start children before threads, or by 'spawn'; or make the lock anew in the child "
            "(os.register_at_fork)",
            parties=diagnosis.parties((wait.agent, owner), waiting=True),
            evidence=[(lock.lock_class, diagnosis.place(wait))],
        )
    except Exception as error:
        delivery.note_internal("misuse report", error)


def wrong_release(lock: Any, hold: Hold, me: Agent) -> None:
    """Say that ``me`` releases a lock that only its owner may release; for the caller that is about to raise."""
    try:
        caller = _caller()
        if caller is None or releases.guarded(*caller):
            return
        owner, where = hold[AGENT], site(*caller)
        remarks.say(
            "misuse",
            f"{diagnosis.agent_label(me)} releases {diagnosis.resource_label(lock)}, which "
            f"{diagnosis.agent_label(owner)} holds",
            advice="let the agent release it that took it; for a signal use threading.Event or Semaphore",
            parties=diagnosis.parties((me, owner)),
            evidence=[(lock.lock_class, where)],
        )
    except Exception as error:
        delivery.note_internal("misuse report", error)


def copied(lock: Any, what: str) -> None:
    """Say that somebody tries to copy a lock; for the caller that is about to raise.

    Args:
        lock: The lock.
        what: "copy", "deep-copy" or "pickle".
    """
    try:
        known = getattr(lock, "_lockwatch", lock)
        caller = _caller(programs=True)
        if caller is None or releases.guarded(*caller):
            return
        where = site(*caller)
        remarks.say(
            "misuse",
            f"{diagnosis.resource_label(known)} cannot be copied: {what} at {where.show()}",
            level="note",
            advice="make a new lock in the copy (define __copy__, __deepcopy__ or __getstate__ there), or share it",
            parties=diagnosis.parties((agents.acting(),)),
            evidence=[(known.lock_class, where)],
        )
    except Exception as error:
        delivery.note_internal("misuse report", error)


def two_loops(lock: Any, me: Agent, where: findings.Site, other: Agent | None) -> None:
    """Say that a lock of asyncio is used in two event loops.

    Args:
        lock: What is known of it.
        me: The task that wants it.
        where: Where.
        other: The task of the other loop that has it, if any.
    """
    try:
        held = "" if other is None else f", and {diagnosis.agent_label(other)} of another event loop holds it"
        remarks.say(
            "misuse",
            f"{diagnosis.agent_label(me)} waits for {diagnosis.resource_label(lock)}, which belongs to "
            f"another event loop{held}",
            advice="make the lock where the loop runs, one for each loop; between threads use threading.Lock",
            parties=diagnosis.parties((me,) if other is None else (me, other)),
            evidence=[(lock.lock_class, where)],
        )
    except Exception as error:
        delivery.note_internal("misuse report", error)


def _unseen(lock: Dropped) -> None:
    """Judge a lock that died free: whether nobody but the function that made it can have seen it."""
    if lock.created is None:
        return
    place, made = lock.created, site(*lock.created)
    leftovers.settle(place)
    if not releases.is_private(*place, _MAKERS):
        return
    name = lock.name or lock_name(*place)
    what = findings.resource_label(lock.kind, name, made)
    where = "" if name is None else f", made at {made.show()},"
    unnamed = releases.is_entered_at_once(*place)
    remarks.say(
        "misuse",
        f"{what}{where} protects nothing: it is made anew each time, and nobody else can have it",
        level="warning" if unnamed else "note",
        advice="make one lock where what it protects is made: in the module, the class or __init__",
        parties=(),
        evidence=[(lock.name or str(made), made)],
    )


def _caller(*, programs: bool = False) -> tuple[Any, int] | None:
    """Return where the innermost frame stands that is neither ours nor of ``threading``.

    Args:
        programs: Pass over the whole standard library as well.
    """
    frame = sys._getframe(1)
    while True:
        module = str(frame.f_globals.get("__name__")).partition(".")[0]
        passed = {"lockwatch", "threading"}
        if module not in passed and not (
            programs and module in sys.stdlib_module_names and module != "__main__"
        ):
            return frame.f_code, frame.f_lasti
        if frame.f_back is None:
            return None
        frame = frame.f_back


hooks.loop_blocked = _loop_blocked
hooks.lost_in_fork = _lost_in_fork
leaks.unseen = _unseen
