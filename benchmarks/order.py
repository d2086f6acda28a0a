"""What the learning of lock order costs: nested acquires in a known order and in new ones, the graph, its memory.

The first rows take locks as programs do, on both sides. The others are about the book of orders alone, and have no
other side.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
import tracemalloc
from functools import partial
from itertools import cycle, islice, pairwise, repeat
from typing import TYPE_CHECKING, Self

from benchmarks.results import Budget
from benchmarks.runner import Case, LockLike, Locks, Measure, Reading, Setup
from benchmarks.uncontended import Loop, Times, case, timed
from lockwatch._core import fastpath, orderbook
from lockwatch._core.orderedges import Context, LockClass, LockFacts
from lockwatch._core.orderrelation import Relation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TITLE = "Lock order: nested acquires, and the graph of orders"
NOTES = (
    (
        "Known order: what a nested acquire costs once its chain of locks was seen; lock order is learned "
        "(`order=warn`). With the C twin that is one comparison in a table that each thread has."
    ),
    "New order: one lock under another that was never under it before, the making of that lock on both sides.",
    (
        "Insertion: 100,000 orders among 10,000 lock classes, in random sequence, so that the topological order "
        "is rearranged again and again; the median of all insertions, evidence included. Mean, 99th percentile "
        "and maximum, in microseconds, are in the result's `detail`."
    ),
    "Bytes: tracemalloc; an order that real locks showed is one of locks, with its evidence (place, stack, holder).",
)
ROUNDS = 3

_NESTED = Budget("ratio", 1.2)


def cases(setup: Setup) -> Sequence[Case]:
    """Nested acquires, insertion into the graph, memory."""
    budget = _NESTED if fastpath.IMPLEMENTATION == "c" else None
    classes, edges = (100, 500) if setup.quick else (10_000, 100_000)
    seen = 100 if setup.quick else 3_000
    nested = partial(case, measure=_warm)
    found = [
        nested(
            setup,
            "nested_two",
            "two Locks, known order",
            _two,
            lambda side: [side.Lock(), side.Lock()],
            budget,
        ),
        nested(
            setup,
            "nested_two_rlocks",
            "two RLocks, known order",
            _two,
            lambda side: [side.RLock(), side.RLock()],
        ),
        nested(
            setup,
            "nested_five",
            "five Locks, known order",
            _five,
            lambda side: [[side.Lock() for _ in range(5)]],
        ),
        nested(
            setup,
            "nested_of_100",
            "two of 100 Locks in turn, known orders",
            _in_turn,
            lambda side: _pairs(side, 100),
        ),
        nested(
            setup,
            "nested_of_1000",
            "two of 1,000 Locks in turn, known orders",
            _in_turn,
            lambda side: _pairs(side, 1_000),
        ),
        nested(
            setup,
            "nested_new",
            "a new Lock under another: a new order",
            _new,
            lambda side: [side.Lock(), side.Lock],
        ),
    ]
    return [
        *found,
        Case(
            name="insertion",
            title=f"insertion, {classes:,} classes and {edges:,} orders",
            unit="us",
            lockwatch=lambda: _insertion(classes, edges),
            budget=Budget("lockwatch", 20.0),
            params={"classes": classes, "edges": edges},
        ),
        Case(
            name="bytes_in_graph",
            title="bytes per order in the graph, evidence not counted",
            unit="bytes",
            lockwatch=lambda: _bytes_in_graph(classes, edges),
            params={"classes": classes, "edges": edges},
        ),
        Case(
            name="bytes_per_order",
            title="bytes per order that real locks showed",
            unit="bytes",
            lockwatch=_bytes_per_order(setup.lockwatch, seen),
            params={"edges": seen},
        ),
        Case(
            name="bytes_left",
            title=f"bytes left of {2 * seen:,} short-lived locks",
            unit="bytes",
            lockwatch=_bytes_left(setup.lockwatch, 2 * seen),
            params={"locks": 2 * seen},
        ),
    ]


def _warm(loop: Loop, subjects: list[object], seconds: float) -> Measure:
    """As `timed`, with the orders known before: other cases make the book forget them."""
    measure = timed(loop, subjects, seconds)

    def warm() -> float | Reading:
        loop(*subjects, repeat(None, 1_000))
        return measure()

    return warm


def _pairs(side: Locks, count: int) -> list[object]:
    locks = [side.Lock() for _ in range(count)]
    return [list(pairwise(locks))]


def _random_orders(classes: int, edges: int) -> list[tuple[int, int]]:
    """Pairs that agree with one random order, each once, in random sequence."""
    chance = random.Random(6)
    order = list(range(classes))
    chance.shuffle(order)
    pairs: dict[tuple[int, int], None] = {}
    while len(pairs) < edges:
        first, second = sorted(chance.sample(range(classes), 2))
        pairs[order[first], order[second]] = None
    return list(pairs)


def _contexts(pairs: Sequence[tuple[int, int]]) -> list[Context]:
    lock_class = LockClass("x", None, named=True)
    facts: dict[int, LockFacts] = {}
    for pair in pairs:
        for key in pair:
            facts.setdefault(key, LockFacts(key, lock_class, "Lock", None, None))
    return [Context(agent=1, label="t", outer=facts[first], inner=facts[second]) for first, second in pairs]


def _insertion(classes: int, edges: int) -> Reading:
    pairs = _random_orders(classes, edges)
    relation, contexts, clock = Relation(), _contexts(pairs), time.perf_counter_ns
    took = []
    for (first, second), context in zip(pairs, contexts, strict=True):
        start = clock()
        relation.learn(first, second, context)
        took.append(clock() - start)
    took.sort()
    detail = {
        "mean": statistics.fmean(took) / 1e3,
        "p99": took[len(took) * 99 // 100] / 1e3,
        "max": took[-1] / 1e3,
    }
    return Reading(statistics.median(took) / 1e3, detail)


def _bytes_in_graph(classes: int, edges: int) -> float:
    pairs = _random_orders(classes, edges)
    contexts = _contexts(pairs)
    relation = Relation()
    with _Traced() as traced:
        for (first, second), context in zip(pairs, contexts, strict=True):
            relation.learn(first, second, context)
        return traced.grown() / edges


def _bytes_per_order(side: Locks, orders: int) -> Measure:
    def measure() -> float:
        orderbook.reset()
        locks = [side.Lock() for _ in range(max(10, orders // 5))]
        pairs = list(islice(_neighbours(locks), orders))
        with _Traced() as traced:
            for first, second in pairs:
                with first, second:
                    pass
            orderbook.work_off()
            grown = traced.grown()
        known = orderbook.sizes()["edges"]
        orderbook.reset()
        return grown / known

    return measure


def _neighbours(locks: list[LockLike]) -> list[tuple[LockLike, LockLike]]:
    steps = range(1, 10)
    return [pair for step in steps for pair in zip(locks, locks[step:], strict=False)]


def _bytes_left(side: Locks, count: int) -> Measure:
    def measure() -> float:
        outer, inner = side.Lock(), side.Lock()
        _short_lived(side, outer, inner, 2_000)
        with _Traced() as traced:
            _short_lived(side, outer, inner, count)
            _short_lived(side, outer, inner, 1_000)
            return max(0.0, float(traced.grown()))

    return measure


def _short_lived(side: Locks, outer: LockLike, inner: LockLike, count: int) -> None:
    for _ in range(count):
        with outer, side.Lock(), inner:
            pass
    gc.collect()
    orderbook.work_off()


class _Traced:
    """The bytes that were allocated in a ``with`` block."""

    def __enter__(self) -> Self:
        gc.collect()
        tracemalloc.start()
        self._before, _ = tracemalloc.get_traced_memory()
        return self

    def __exit__(self, *error: object) -> None:
        tracemalloc.stop()

    def grown(self) -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - self._before


# The loops. Each side runs a fresh copy; see runner.fresh().


def _two(first: LockLike, second: LockLike, times: Times) -> None:
    for _ in times:
        with first, second:
            pass


def _five(locks: list[LockLike], times: Times) -> None:
    a, b, c, d, e = locks
    for _ in times:
        with a, b, c, d, e:
            pass


def _in_turn(pairs: list[tuple[LockLike, LockLike]], times: Times) -> None:
    for _, (first, second) in zip(times, cycle(pairs), strict=False):
        with first, second:
            pass


def _new(outer: LockLike, make: Callable[[], LockLike], times: Times) -> None:
    for _ in times:
        with outer, make():
            pass
