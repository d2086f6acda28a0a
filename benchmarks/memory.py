"""What a lock weighs, what its use leaves behind, and whether a dropped one is gone at once.

Bytes are those that tracemalloc sees: everything that goes through the interpreter's allocators, the C lock's
own semaphore included.
"""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat

from benchmarks.results import Budget
from benchmarks.runner import Case, Factory, LockLike, Setup

TITLE = "Memory: bytes per lock, bytes left after use, and dropping a lock"
NOTES = (
    (
        "Bytes per lock: tracemalloc over 10,000 locks of one place in the source: new; after one acquisition "
        "and release; held."
    ),
    (
        "Bytes left: all that is still allocated after 100,000 pairs of acquire and release on one warm lock; 0"
        " within noise (a few integers and the measuring itself)."
    ),
    (
        "Gone at once: the share of 1,000 used locks whose weak reference is dead right after the last "
        "reference is dropped, with the cycle collector off."
    ),
)
ROUNDS = 3

NOISE = 512.0
"""Bytes that may be left after 100,000 pairs without being called a leak."""

Use = Callable[[LockLike], object]


def cases(setup: Setup) -> Sequence[Case]:
    """Bytes per lock in three states, bytes left after use, share gone at once; for Lock and RLock."""
    count = 100 if setup.quick else 10_000
    pairs = 1_000 if setup.quick else 100_000
    found = []
    states: dict[str, Use | None] = {"new": None, "used": _use, "held": lambda lock: lock.acquire()}
    for kind in ("Lock", "RLock"):
        for state, use in states.items():
            raw, ours = (_bytes_each(getattr(side, kind), use, count) for _, side in setup.sides())
            found.append(
                Case(
                    name=f"{kind.lower()}_bytes_{state}",
                    title=f"{kind}, {state}: bytes each",
                    unit="bytes",
                    raw=raw,
                    lockwatch=ours,
                    params={"locks": count, "state": state},
                )
            )
    for kind in ("Lock", "RLock"):
        raw, ours = (_bytes_left(getattr(side, kind), pairs) for _, side in setup.sides())
        found.append(
            Case(
                name=f"{kind.lower()}_bytes_left",
                title=f"{kind}: bytes left after {pairs:,} pairs",
                unit="bytes",
                raw=raw,
                lockwatch=ours,
                compare="difference",
                budget=Budget("lockwatch", NOISE, "worst"),
                params={"pairs": pairs},
            )
        )
    for kind in ("Lock", "RLock"):
        raw, ours = (_gone_at_once(getattr(side, kind)) for _, side in setup.sides())
        found.append(
            Case(
                name=f"{kind.lower()}_gone_at_once",
                title=f"{kind}: share gone when dropped",
                unit="of 1",
                better="higher",
                raw=raw,
                lockwatch=ours,
                compare="difference",
                budget=Budget("lockwatch", 1.0, "worst"),
            )
        )
    return found


def _use(lock: LockLike) -> None:
    with lock:
        pass


@contextmanager
def _traced() -> Iterator[None]:
    """Allocation is traced and nothing is collected inside."""
    gc.collect()
    gc.disable()
    tracemalloc.start(1)
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.enable()


def _bytes_each(make: Factory, use: Use | None, count: int) -> Callable[[], float]:
    def measure() -> float:
        # What the first lock made and used at these places costs for all of them is not a cost per lock.
        first = make()
        if use is not None:
            use(first)
        locks: list[LockLike | None] = [None] * count
        with _traced():
            before, _ = tracemalloc.get_traced_memory()
            for index in range(count):
                locks[index] = lock = make()
                if use is not None:
                    use(lock)
            after, _ = tracemalloc.get_traced_memory()
        for lock in (first, *(lock for lock in locks if lock is not None)):
            _release_if_held(lock)
        return (after - before) / count

    return measure


def _release_if_held(lock: LockLike) -> None:
    try:
        lock.release()
    except RuntimeError:
        pass


def _bytes_left(make: Factory, pairs: int) -> Callable[[], float]:
    def measure() -> float:
        lock = make()
        _pairs(lock, 1_000)
        with _traced():
            _pairs(lock, 1_000)
            before, _ = tracemalloc.get_traced_memory()
            _pairs(lock, pairs)
            after, _ = tracemalloc.get_traced_memory()
        return float(after - before)

    return measure


def _pairs(lock: LockLike, count: int) -> None:
    for _ in repeat(None, count // 2):
        with lock:
            pass
        lock.acquire()
        lock.release()


def _gone_at_once(make: Factory) -> Callable[[], float]:
    def measure() -> float:
        gc.collect()
        gc.disable()
        try:
            gone = 0
            for _ in range(1_000):
                lock = make()
                _use(lock)
                seen = weakref.ref(lock)
                del lock
                gone += seen() is None
        finally:
            gc.enable()
        return gone / 1_000

    return measure
