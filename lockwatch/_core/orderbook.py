"""The book of lock orders: what was seen is worked off one by one, by whoever comes by; what it closes is told.

Guarantees and bounds: those of `lockwatch._core.lockorder`, which sees what is done and puts it in here. Nobody
waits for the try-lock, but `forget`, and an acquire in mode ``raise``, for at most 10 ms.

Assumed atomic, with and without the GIL: ``deque.append``/``popleft``, ``dict.setdefault``, ``dict.copy``, a raw
lock's try-acquire.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from itertools import pairwise
from time import sleep

from lockwatch._core import chains, hooks, looks, mutexbase, settings, signals
from lockwatch._core.orderedges import Context, LockClass, LockFacts, stands_for_locks
from lockwatch._core.orderrelation import Cycle, Relation
from lockwatch._core.originals import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from lockwatch._core.mutexbase import MutexBase

DECLARED, FILED = 0, -1
"""Agents of orders that no agent of this process has shown: declared ones, those of another run."""

PATIENCE = 50
PAUSE = 0.0002
"""How often, and for how many seconds each, to wait for whoever is at the book, where it must be."""


class Event:
    """Orders that were seen at one acquire.

    Attributes:
        steps: (whether of classes, first, second, evidence).
        cycle: What they close, if anything.
        finding: What was made of it; by the time that `done` is true.
        done: Whether it has been worked off.
    """

    __slots__ = ("cycle", "done", "finding", "steps")

    def __init__(self, steps: list[tuple[bool, Any, Any, Context]]) -> None:
        self.steps = steps
        self.cycle: Cycle | None = None
        self.finding: object = None
        self.done = False


class Tether(weakref.ref["MutexBase"]):
    """Notices the death of a lock."""

    __slots__ = ("key",)

    key: int


ignored_locks: set[int] = set()
"""Locks, by number, that take no part."""

filed: set[tuple[Any, Any]] = set()
"""Orders of classes that another run knew: nothing that it knew is new."""


facts: dict[int, tuple[LockFacts, Tether]] = {}
classes: dict[Any, LockClass] = {}
_locks = Relation()
_order = Relation(lambda contexts: _is_new(contexts) and stands_for_locks(contexts))
pending: deque[Event] = deque()
_dead: deque[tuple[int, int]] = deque()
_busy = allocate_lock()
_told: set[frozenset[Any]] = set()
_condemned: dict[tuple[Any, Any], object] = {}
_trimmed = False


def died(tether: Tether) -> None:
    _dead.append((tether.key, mutexbase.next_serial()))


# --- behind the try-lock ---------------------------------------------------------------------------------


def work_off() -> None:
    """Learn what was seen, unless somebody is at it; tell what was found."""
    while (pending or _dead) and _busy.acquire(False):
        found: list[tuple[Event, Cycle]] = []
        events: list[Event] = []
        word = False
        try:
            word = _work(events, found)
        except Exception as error:
            _forget_all()
            failed(error)
        except BaseException:
            _forget_all()  # an interrupt: what it interrupted may be half done
            raise
        finally:
            _busy.release()
        for event, cycle in found:
            event.finding = hooks.order(cycle)
            if event.finding is not None and settings.order_raises and len(_condemned) < 1_000:
                first = cycle.contexts[0]
                _condemned[first.outer.key, first.inner.key] = event.finding
        for event in events:
            event.done = True
        if word:
            hooks.order_trimmed()


def _work(events: list[Event], found: list[tuple[Event, Cycle]]) -> bool:
    """Work off the deques; return whether orders were forgotten for the first time."""
    global _trimmed
    while pending:
        event = pending.popleft()
        events.append(event)
        for of_classes, first, second, context in event.steps:
            if not of_classes and (first not in facts or second not in facts):
                continue  # gone by now, or forgotten: nothing would tell us of its end
            relation = _order if of_classes else _locks
            cycle = relation.learn(first, second, context)
            if cycle is not None and event.cycle is None and not _was_told(cycle):
                event.cycle = cycle
                found.append((event, cycle))
            if settings.order_raises and (context.outer.key, context.inner.key) in _condemned:
                event.finding = _condemned[context.outer.key, context.inner.key]
    while _dead:
        key, when = _dead.popleft()
        known = facts.pop(key, None)
        if known is not None:
            known[0].died = when
            known[0].lock_class.alive -= 1
        ignored_locks.discard(key)
        _locks.splice(key)
    limit, edges = settings.order_locks, settings.order_edges
    if _locks.trim(limit, edges) + _order.trim(limit, edges) or len(facts) > 2 * limit:
        for key in [key for key in facts.copy() if key not in _locks.graph]:
            facts.pop(key, None)
        for key in [key for key in classes.copy() if key not in _order.graph]:
            classes.pop(key, None)
        chains.forget_all()
        first_time, _trimmed = not _trimmed, True
        return first_time
    if len(classes) > 2 * limit:
        classes.clear()  # classes that are in no edge; those that are keep what they need
    return False


def _was_told(cycle: Cycle) -> bool:
    """Whether a cycle was reported before: by its classes, and by the places among locks of one class."""
    sides = frozenset(
        (first, second, context.held_at, context.taken_at) if first == second else (first, second)
        for context in cycle.contexts
        for first, second in [(context.outer.lock_class.key, context.inner.lock_class.key)]
    )
    if sides in _told or len(_told) >= 1_000:
        return True
    _told.add(sides)
    return False


def _is_new(contexts: Sequence[Context]) -> bool:
    """Whether a cycle of classes is not only what another run had seen already, and found no fault with."""
    first = contexts[0]
    pair = (first.outer.lock_class.key, first.inner.lock_class.key)
    return pair not in filed or all(context.agent != FILED for context in contexts)


def failed(error: Exception) -> None:
    signals.pass_on(error)
    settings.order = False
    hooks.internal("lock order (now off)", error)


def _forget_all() -> None:
    global _locks, _order
    _locks, _order = Relation(), Relation(_order._accepts)
    facts.clear()
    classes.clear()
    chains.forget_all()


# --- for the layers above --------------------------------------------------------------------------------


def reset() -> None:
    """Forget all orders, what was said about them, and how much was looked at."""
    global _trimmed
    pending.clear()
    _dead.clear()
    _told.clear()
    _condemned.clear()
    filed.clear()
    _trimmed = False
    looks.known.refill()
    looks.new.refill()
    _forget_all()


def forget(lock: MutexBase) -> None:
    """Forget the orders of a lock, and of its class: it turned out to be a signal, or its order changes."""
    known = facts.get(lock._key)
    if known is None:
        return
    for _ in range(PATIENCE):
        if _busy.acquire(False):
            try:
                _locks.remove(lock._key)
                _order.remove(known[0].lock_class.key)
            finally:
                _busy.release()
            chains.forget_all()
            return
        sleep(PAUSE)


def declare(names: Sequence[str], agent: int, label: str, gates: Sequence[Any] = ()) -> None:
    """Learn that classes are taken in this order, without having seen it."""
    known = []
    for name in names:
        lock_class = classes.setdefault(name, LockClass(name, None, named=True))
        known.append(LockFacts(0, lock_class, "Lock", name, None))
    pending.append(
        Event(
            [
                (
                    True,
                    outer.lock_class.key,
                    inner.lock_class.key,
                    Context(agent=agent, label=label, outer=outer, inner=inner, owned=dict.fromkeys(gates)),
                )
                for outer, inner in pairwise(known)
            ]
        )
    )
    work_off()


def known_orders() -> list[tuple[Any, Any, Context]]:
    """Return the orders of classes that no cycle was reported about, each with its first evidence."""
    work_off()
    told = {(first, second) for sides in _told.copy() for first, second, *_ in sides}
    return [
        (*pair, context)
        for pair, edge in _order.edges.copy().items()
        for context in edge.contexts[:1]
        if context.agent > 0 and pair not in told
    ]


def sizes() -> dict[str, int]:
    """Return how many locks, classes and edges are known now."""
    work_off()
    return {
        "locks": len(_locks),
        "facts": len(facts),
        "classes": len(_order),
        "edges": len(_locks.edges) + len(_order.edges),
    }


def _after_fork_in_child() -> None:
    global _busy
    _busy = allocate_lock()
    pending.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
