"""Lock orders of several processes, put together: what one worker did and another did the other way round.

Each worker hands over the orders of its lock classes that no conflict was found about; the process that prints
puts them into one graph, in which each test of each worker is an agent of its own. A class goes by the name that
was given to its locks, or by the place that makes them.

Not every order counts: one lock of a class must be able to stand for another (`orderedges.stands_for_locks`). Across
processes that is so if the class has a name; if no process had two of its locks at a time; or if the pairs were made
alike.

Guarantee: what is handed over are plain values. Cost: one pass over the orders of classes, at the session's end.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from lockwatch import findings, ordering
from lockwatch._core import orderbook
from lockwatch._core.orderedges import Context, LockClass, LockFacts
from lockwatch._core.orderrelation import Cycle, Relation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lockwatch.findings import Finding

Order = dict[str, Any]
"""One order of two lock classes as a worker hands it over."""


def learned() -> list[Order]:
    """Return the orders of lock classes that this process has learned."""
    return [
        {
            "first": ordering.class_text(context.outer),
            "second": ordering.class_text(context.inner),
            "held": [_key_text(key) for key in context.gates],
            "test": context.episode,
            "loose": [_text(facts) for facts in (context.outer, context.inner) if not _is_one(facts)],
            "offset": _offset(context),
            "party": ordering.party_of(context, 1, {}, named=False).to_json(),
        }
        for _first, _second, context in orderbook.known_orders()
    ]


def _text(facts: LockFacts) -> str:
    return ordering.class_text(facts)


def _key_text(key: Any) -> str:
    lock_class = orderbook.classes.get(key)
    if lock_class is None or lock_class.created is None:
        return str(key)
    return ordering.class_text(LockFacts(0, lock_class, "Lock", None, lock_class.created))


def _is_one(facts: LockFacts) -> bool:
    """Whether any lock of the class may stand for any other."""
    return facts.name is not None or not (facts.lock_class.crowded or facts.lock_class.nested)


def _offset(context: Context) -> int | None:
    """Return how far apart two locks were made in one piece of code, as two attributes of one object are."""
    outer, inner = context.outer, context.inner
    if outer.created is None or inner.created is None or outer.created[0] is not inner.created[0]:
        return None
    if outer.lock_class.nested or inner.lock_class.nested:
        return None
    return inner.key - outer.key


def conflicts(orders: Mapping[str, Sequence[Order]], level: str) -> list[Finding]:
    """Return the conflicts among the orders of several workers.

    Args:
        orders: what each worker has handed over, by its name.
        level: the level of the findings.
    """
    entries: dict[int, tuple[str, Order]] = {}
    everything = [(worker, order) for worker, several in orders.items() for order in several]
    loose = {name for _, order in everything for name in order["loose"]}

    def accepts(contexts: Sequence[Context]) -> bool:
        chosen = [entries[id(context)] for context in contexts]
        if len({worker for worker, _ in chosen}) < 2:
            return False  # the worker itself has looked at it
        offsets = [order["offset"] for _, order in chosen]
        alike = None not in offsets and sum(offsets) == 0
        return alike or not any(order["second"] in loose for _, order in chosen)

    relation = Relation(accepts)
    classes: dict[str, LockClass] = {}
    acting: dict[object, int] = {}
    kept: list[Context] = []
    found: list[Finding] = []
    told: set[frozenset[tuple[object, object]]] = set()
    for worker, order in everything:
        facts = [
            LockFacts(0, classes.setdefault(name, LockClass(name, None, named=True)), "Lock", name, None)
            for name in (order["first"], order["second"])
        ]
        context = Context(
            agent=acting.setdefault((worker, order["test"], order["party"]["agent"]), len(acting) + 1),
            label=worker,
            outer=facts[0],
            inner=facts[1],
            owned=dict.fromkeys(order["held"]),
        )
        kept.append(context)  # entries go by identity
        entries[id(context)] = worker, order
        cycle = relation.learn(order["first"], order["second"], context)
        if cycle is not None:
            sides = frozenset(zip(cycle.nodes, [*cycle.nodes[1:], cycle.nodes[0]], strict=True))
            if sides not in told:
                told.add(sides)
                found.append(_finding(cycle, entries, level))
    return found


def _finding(cycle: Cycle, entries: Mapping[int, tuple[str, Order]], level: str) -> Finding:
    chosen = [entries[id(context)] for context in cycle.contexts]
    sides = [
        findings.Party.from_json({**order["party"], "agent": _who(worker, order)}) for worker, order in chosen
    ]
    names = [side.holds[0].resource for side in sides]
    evidence = [
        (str(order["second"]), None if side.waits_for is None else side.waits_for.where)
        for (_, order), side in zip(chosen, sides, strict=True)
    ]
    return findings.Finding(
        kind="lock-order",
        level=level,
        message=f"{' -> '.join([*names, names[0]])}: {' and '.join(side.agent for side in sides)}"
        " can deadlock when they come together",
        pid=os.getpid(),
        time=time.time(),
        parties=tuple(sides),
        cycle=tuple(word for side in sides for word in (side.agent, side.holds[0].resource)),
        advice="take them in one order everywhere",
        fingerprint=findings.fingerprint("lock-order", None, evidence),
    )


def _who(worker: str, order: Order) -> str:
    test = f" in {order['test']}" if order["test"] else ""
    return f"{order['party']['agent']}{test} ({worker})"
