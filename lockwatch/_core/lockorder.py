"""Lock order: a deadlock that did not happen yet is found from the orders in which locks were taken.

What a twin of the fast path has to call (the Python one does, and so do ``mutex._own`` and
``RLock._acquire_restore``; asyncio's locks join the same way, with a task's agent):

  After an acquire that would have waited without limit (neither ``blocking=False`` nor a time-out), and that
  was no re-entry: if the agent held other locks before and ``settings.order`` is true, call
  ``note(agent, lock, hold)`` when ``agent.holds`` lists the new hold as its last entry. If it raises, undo the
  acquire and let the error through (mode ``raise``, or an interrupt). Nothing is called at a release.

  `note` looks the chain up, ``tuple(agent.holds)``, among those that its agent has had (`chains`), which are no
  longer valid after a thread was started or joined, or an order forgotten. The twin in C has a table of its own
  beside that (``_fastpath_holds.h``), with a number for each chain, such as lockdep's, and calls `note_new` for
  those that are not in it. So a nested acquire in a known order costs it one comparison.

Two levels: locks, and lock classes (`LockClass <lockwatch._core.orderedges>`: creation site or name). Locks say
what can happen to these very locks, also among locks of one class. Classes say it of locks that come and go;
`orderedges.stands_for_locks` says when one lock of a class may stand for another.

Guarantees:
  * Every chain of locks is looked at once for each agent and segment, as far as the allowance goes (`looks`); what is
    known costs one look-up.
  * No lock of ours is held while user code runs, and nobody waits here: what was seen goes into a deque, and is
    worked off by whoever gets a try-lock; a finalizer or signal handler that comes in between only adds to the
    deque. (`lockwatch._core.orderbook` does that.) Findings are made after the try-lock is let go.
  * Bounded: at most ``settings.order_locks`` locks and as many classes, ``settings.order_edges`` edges each;
    the least used go, with one word. A lock that dies takes its node with it.
  * An error of ours switches lock order off, and is a finding; an interrupt in the middle forgets all orders.

Assumed atomic, with and without the GIL: ``deque.append``/``popleft``, ``dict.setdefault``, a raw lock's
try-acquire.
"""

from __future__ import annotations

import sys
from time import monotonic_ns, sleep

from lockwatch._core import chains, hooks, looks, settings
from lockwatch._core.chains import Tally
from lockwatch._core.holds import AGENT, CODE, HOW, LASTI, LOCK, SINCE
from lockwatch._core.orderbook import (
    PATIENCE,
    PAUSE,
    Event,
    Tether,
    classes,
    died,
    facts,
    failed,
    ignored_locks,
    pending,
    work_off,
)
from lockwatch._core.orderedges import Context, LockClass, LockFacts
from lockwatch._core.segments import Exactness, clock_of, count_segment, inherited_gates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType
    from typing import Any

    from lockwatch._core.agents import Agent
    from lockwatch._core.holds import Hold
    from lockwatch._core.mutexbase import MutexBase

FRAMES = 16
"""Frames kept of the stack that took the second lock of an order."""


def _no_episode() -> str | None:
    return None


episode: Callable[[], str | None] = _no_episode
"""Names the test that the calling thread works for, if any; must take no lock."""

special: dict[int, list[object]] = {}
"""By an agent's number: the `ignore` (None) and `nested` (keys) blocks that it is in; its own doing alone."""

restoring: set[int] = set()
"""Agents, by number, that take the lock of a condition again after a wait: that must not raise in mode ``raise``."""

not_asked: set[int] = set()
"""Agents, by number, whose orders are not the program's: they run its code because of something of ours."""

ignored_classes: set[Any] = set()
"""Lock classes, by key, that take no part."""
ignored = 0
"""How many acquires were left out for that; about."""


def _class_key(lock: MutexBase) -> Any:
    if lock._name is not None:
        return lock._name
    if lock._created is None:
        return lock._key
    return id(lock._created[0]), lock._created[1], getattr(lock, "kind", "lock")


class_key = _class_key
"""Says what a lock's class is; replaced where orders are given by names, or kept in a file."""

# --- at the acquire --------------------------------------------------------------------------------------


def note(me: Agent, lock: MutexBase, hold: Hold) -> None:
    """Learn the order in which ``me`` holds its locks now, if it is new; see the module's text.

    Args:
        me: The agent, whose table of holds lists ``lock`` last.
        lock: The lock that it has just taken, and would have waited for.
        hold: The hold.

    Raises:
        LockOrderError: In mode ``raise``, for an order that can deadlock (what `hooks.order_error` makes of it).
    """
    if len(me.holds) > chains.DEEPEST:
        return
    chain = tuple(me.holds)
    tally = chains.known(me, chain)
    if tally is not None:
        tally.again(0 if me.clock is None else me.clock.segment)
    elif is_wanted(me, chain):
        look(me, lock, hold, chain)
    else:
        chains.pass_over(me, chain)


def note_new(me: Agent, lock: MutexBase, hold: Hold) -> bytearray | bool | None:
    """Do what `note` does, for the twin in C, which calls it for chains that its own table does not list.

    Returns:
        The counter of a chain that need not be looked at again in this segment; False for one that was passed over,
        and is to be asked for again after a while; else None.

    Raises:
        LockOrderError: As `note`.
    """
    chain = tuple(me.holds)
    tally = chains.known(me, chain)
    if tally is not None:
        tally.again(0 if me.clock is None else me.clock.segment)
    elif settings.order:
        if not is_wanted(me, chain):
            return False
        look(me, lock, hold, chain)
        tally = chains.known(me, chain)
        if tally is None:
            return None
    else:
        tally = Tally()
        chains.remember(me, chain, tally, me.era)  # until it is switched on
    if tally.native is None:
        tally.native = bytearray(16)
    if me.clock is not None:
        count_segment(me, me.clock)
    return tally.native


def is_wanted(me: Agent, chain: tuple[int, ...]) -> bool:
    """Return whether to look at a chain that is not known, as far as the allowance goes (`looks`)."""
    if me.serial in not_asked or (special and special.get(me.serial)):
        return True
    if chain in me.chains:
        return looks.known.take(len(chain) - 1)
    locks = [hold[LOCK]() for hold in me.holds.copy().values()]
    return looks.wanted(me.serial, tuple([class_key(lock) for lock in locks if lock is not None]))


def look(me: Agent, lock: MutexBase, hold: Hold, chain: tuple[int, ...]) -> None:
    """Look at a chain: learn the orders in it; arguments and errors as for `note`, and ``tuple(me.holds)``."""
    global ignored
    if me.serial in not_asked:
        return
    blocks = special.get(me.serial) if special else None
    if blocks and None in blocks:
        ignored += 1
        return
    era = me.era
    try:
        event = _seen(me, lock, hold, hierarchy=bool(blocks))
    except Exception as error:
        failed(error)
        return
    if event is None:
        if not blocks:
            chains.remember(me, chain, Tally(), era)  # it says nothing, and will not
        return
    if not blocks:
        chains.remember(me, chain, event.steps[0][3].tally, era)
    pending.append(event)
    work_off()
    if settings.order_raises:
        for _ in range(PATIENCE):
            if event.done:
                break
            sleep(PAUSE)
            work_off()
        if event.finding is not None and me.serial not in restoring:
            me.chains.pop(chain, None)
            raise hooks.order_error(event.finding)


def _seen(me: Agent, lock: MutexBase, hold: Hold, *, hierarchy: bool) -> Event | None:
    """Describe what was seen, with nothing in it that belongs to the program; None if it says nothing."""
    global ignored
    inner = _facts_of(lock)
    if lock._is_signal():
        return None
    if _is_ignored(inner):
        ignored += 1
        return None
    held: list[tuple[LockFacts, Hold]] = []
    for key, other in me.holds.copy().items():
        taken = other[LOCK]()
        if key != lock._key and taken is not None and not taken._is_signal():
            outer = _facts_of(taken)
            if not _is_ignored(outer):
                held.append((outer, other))
    if not held:
        return None
    clock = clock_of(me)
    clock.noted = True
    if clock.exact is None:
        clock.exact = Exactness(me)
    owned: dict[Any, object] = {outer.key: (me.serial, other[SINCE]) for outer, other in held}
    of_class: dict[Any, object] = {outer.lock_class.key: owned[outer.key] for outer, _ in held}
    for hold_of_parent in inherited_gates(me):
        gate = hold_of_parent[LOCK]()
        if gate is not None:
            ownership = (hold_of_parent[AGENT].serial, hold_of_parent[SINCE])
            owned.setdefault(gate._key, ownership)
            of_class.setdefault(_facts_of(gate).lock_class.key, ownership)
    locks = (*(outer for outer, _ in held), inner)
    stack, tally, label, during = _stack(), Tally(locks), me.label(), episode()
    steps: list[tuple[bool, Any, Any, Context]] = []
    for of_classes in (False, True):
        for outer, other in reversed(held):
            same = outer.lock_class.key == inner.lock_class.key
            if same:
                inner.lock_class.nested = True
                if of_classes or hierarchy:
                    continue
            context = Context(
                agent=me.serial,
                label=label,
                kind=me.kind,
                ident=me.ident,
                native_id=me.native_id,
                daemon=me.daemon,
                outer=outer,
                inner=inner,
                owned=of_class if of_classes else owned,
                moment=clock.now(),
                episode=during,
                exact=clock.exact,
                held_at=(other[CODE], other[LASTI]),
                taken_at=(hold[CODE], hold[LASTI]),
                held_how=bool(other[HOW]),
                since_ns=monotonic_ns(),
                stack=stack,
                tally=tally,
            )
            first, second = (
                (outer.lock_class.key, inner.lock_class.key) if of_classes else (outer.key, inner.key)
            )
            steps.append((of_classes, first, second, context))
    return Event(steps) if steps else None


def _is_ignored(lock: LockFacts) -> bool:
    return lock.key in ignored_locks or lock.lock_class.key in ignored_classes


def _facts_of(lock: MutexBase) -> LockFacts:
    known = facts.get(lock._key)
    if known is not None:
        return known[0]
    key = class_key(lock)
    lock_class = classes.get(key)
    if lock_class is None:
        lock_class = classes.setdefault(key, LockClass(key, lock._created, isinstance(key, str)))
    made = LockFacts(lock._key, lock_class, getattr(lock, "kind", "lock"), lock._name, lock._created)
    tether = Tether(lock, died)
    tether.key = lock._key
    lock_class.born()
    return facts.setdefault(lock._key, (made, tether))[0]


def _stack() -> tuple[tuple[CodeType, int], ...]:
    frame: FrameType | None = sys._getframe(3)
    entries: list[tuple[CodeType, int]] = []
    while frame is not None and len(entries) < FRAMES:
        entries.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(entries)


hooks.learn_order = note
