"""What a lock costs when nobody else wants it, in nanoseconds for one operation.

A sample is the mean over as many turns as fill about 20 ms, in a loop whose own cost stays in on both sides.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat

from benchmarks.machine import old_engine
from benchmarks.results import Budget
from benchmarks.runner import Case, Factory, LockLike, Locks, Measure, Setup, fresh
from lockwatch._core import fastpath

TITLE = "Uncontended: one thread, nobody else wants the lock"
NOTES = (
    (
        "Nanoseconds for one turn of the loop. The loop's own cost (a `for` over `itertools.repeat`) is in both"
        " sides and is not subtracted, so the ratio is a little kinder to the slower side than the locks alone "
        "would be."
    ),
    "RLock re-entry: the lock is held outside the loop; a turn takes it once more and lets it go.",
    (
        "Budgets are those of the implementation that ran; pure Python's are meant against the old "
        "`threading.Lock` (before 3.13.1)."
    ),
)
ROUNDS = 15

Times = Iterable[None]
Loop = Callable[..., None]


def cases(setup: Setup) -> Sequence[Case]:
    """One case per way to use a lock."""
    with_budget, acquire_budget, rlock, nested, creation = _budgets()
    return [
        case(setup, "lock_with", "Lock: `with lock: pass`", _with, lambda side: [side.Lock()], with_budget),
        case(
            setup,
            "lock_acquire_release",
            "Lock: `acquire()`, `release()`",
            _acquire_release,
            lambda side: [side.Lock()],
            acquire_budget,
        ),
        case(setup, "rlock_with", "RLock: `with lock: pass`", _with, lambda side: [side.RLock()], rlock),
        case(
            setup,
            "rlock_acquire_release",
            "RLock: `acquire()`, `release()`",
            _acquire_release,
            lambda side: [side.RLock()],
            rlock,
        ),
        case(
            setup,
            "rlock_reentry",
            "RLock: re-entry by `with`",
            _reentry,
            lambda side: [side.RLock()],
            rlock,
        ),
        case(
            setup,
            "lock_nested",
            "Lock: two nested, `with a, b: pass`",
            _nested,
            lambda side: [side.Lock(), side.Lock()],
            nested,
        ),
        case(setup, "lock_create", "Lock: creation", _create, lambda side: [side.Lock], creation),
        case(setup, "rlock_create", "RLock: creation", _create, lambda side: [side.RLock], creation),
    ]


def _budgets() -> tuple[Budget | None, ...]:
    """Return the limits for `with` and acquire/release of Lock, for RLock, nested locks and creation."""
    if fastpath.IMPLEMENTATION == "c":
        new = sys.version_info >= (3, 14)
        limits = {False: (0.8, 1.0, 0.9, 1.0, 4.0), True: (1.0, 1.0, 1.15, 1.2, 4.0)}[new]
        if sys.version_info >= (3, 15):
            limits = (1.15, 1.15, *limits[2:])
        return tuple(Budget("ratio", limit) for limit in limits)
    if old_engine():
        return Budget("ratio", 4.0), Budget("ratio", 7.0), None, None, None
    return (None,) * 5


def timed(loop: Loop, subjects: Sequence[object], seconds: float) -> Measure:
    """A measure of one turn of ``loop(*subjects, times)`` in ns; a sample takes about ``seconds``."""
    turns = 0

    def measure() -> float:
        nonlocal turns
        if not turns:
            turns = _calibrate(loop, subjects, seconds)
        return _elapsed(loop, subjects, turns) / turns * 1e9

    return measure


def case(
    setup: Setup,
    name: str,
    title: str,
    loop: Loop,
    subjects: Callable[[Locks], list[object]],
    budget: Budget | None = None,
    measure: Callable[[Loop, list[object], float], Measure] = timed,
) -> Case:
    """The case of one loop, on both sides; ``measure`` makes the measure of each, as `timed` does."""
    seconds = 0.001 if setup.quick else 0.02
    raw, ours = (measure(fresh(loop), subjects(side), seconds) for _, side in setup.sides())
    return Case(name=name, title=title, unit="ns", raw=raw, lockwatch=ours, budget=budget)


def _calibrate(loop: Loop, subjects: Sequence[object], seconds: float) -> int:
    turns = 10
    while (elapsed := _elapsed(loop, subjects, turns)) < seconds / 4:
        turns *= 4
    return max(10, int(turns * seconds / elapsed))


def _elapsed(loop: Loop, subjects: Sequence[object], turns: int) -> float:
    start = time.perf_counter()
    loop(*subjects, repeat(None, turns))
    return time.perf_counter() - start


# The loops. Each side runs a fresh copy; see runner.fresh().


def _with(lock: LockLike, times: Times) -> None:
    for _ in times:
        with lock:
            pass


def _reentry(lock: LockLike, times: Times) -> None:
    with lock:  # here, and not for good: what is taken under another lock takes part in lock order
        for _ in times:
            with lock:
                pass


def _acquire_release(lock: LockLike, times: Times) -> None:
    for _ in times:
        lock.acquire()
        lock.release()


def _nested(first: LockLike, second: LockLike, times: Times) -> None:
    for _ in times:
        with first, second:
            pass


def _create(make: Factory, times: Times) -> None:
    for _ in times:
        make()
