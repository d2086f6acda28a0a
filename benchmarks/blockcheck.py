"""What the look for a deadlock costs somebody who is about to sleep, in microseconds for one check.

The check finds nothing. The chain is real: thread i holds lock i and is blocked on lock i + 1; the last one
holds lock n and is blocked on a raw lock, of which lockwatch knows nothing. The check is for a wait of the
measuring thread on lock 1, published as a waiter would. It walks the whole chain and finds that the last
thread may still act.
"""

from __future__ import annotations

import statistics
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from benchmarks.results import Budget
from benchmarks.runner import Case, LockLike, Measure, Setup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TITLE = "The check at block time"
NOTES = (
    (
        "Microseconds for one `detector.check(wait)` that finds nothing; the median of many calls, on a chain "
        "of real blocked threads that is built anew for each sample. There is no baseline: `threading.Lock` "
        "does not look."
    ),
    "Chain length n: n threads between the waiter and the one that may still act; should grow linearly.",
    (
        "Other locks: they exist beside a chain of 10, every tenth of them held by one other thread. Other "
        "threads: idle, known to lockwatch (each has used a lock). Both should be flat."
    ),
)
ROUNDS = 5

CHAINS = (1, 2, 5, 10, 20, 50, 100)
OTHER_LOCKS = (10, 100, 1_000, 10_000)
OTHER_THREADS = (10, 100, 500)
CHAIN = 10
"""Chain length where something else varies."""
LIMIT = 20.0
"""Seconds that the threads get to be where they should be."""


def cases(setup: Setup) -> Sequence[Case]:
    """By chain length, by number of other locks, by number of other threads."""
    budget = Budget("lockwatch", 60.0)
    chains, locks, threads = (CHAINS[:2], OTHER_LOCKS[:1], OTHER_THREADS[:1]) if setup.quick else _all()
    calls = 20 if setup.quick else 1_000
    found = [
        Case(
            name=f"chain_{length}",
            title=f"chain of {length}",
            unit="us",
            lockwatch=_checks(calls, length),
            budget=budget if length == CHAIN else None,
            params={"chain": length},
        )
        for length in chains
    ]
    found += [
        Case(
            name=f"locks_{count}",
            title=f"chain of {CHAIN}, {count:,} other locks",
            unit="us",
            lockwatch=_checks(calls, CHAIN, locks=count),
            budget=budget,
            params={"chain": CHAIN, "locks": count},
        )
        for count in locks
    ]
    found += [
        Case(
            name=f"threads_{count}",
            title=f"chain of {CHAIN}, {count:,} other threads",
            unit="us",
            lockwatch=_checks(calls, CHAIN, threads=count),
            budget=budget,
            params={"chain": CHAIN, "threads": count},
        )
        for count in threads
    ]
    return found


def _all() -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    return CHAINS, OTHER_LOCKS, OTHER_THREADS


def _checks(calls: int, length: int, *, locks: int = 0, threads: int = 0) -> Measure:
    def measure() -> float:
        with ExitStack() as scene:
            if locks:
                scene.enter_context(other_locks(locks))
            if threads:
                scene.enter_context(other_threads(threads))
            first = scene.enter_context(chain(length))
            return _time_of_check(first, calls)

    return measure


def _time_of_check(lock: LockLike, calls: int) -> float:
    """The median time of a check for a new wait of this thread on ``lock``, in microseconds."""
    from lockwatch._core import agents, detector, waits

    now = time.perf_counter_ns
    wait = waits.Wait(agents.current(), lock, time.monotonic_ns())  # type: ignore[arg-type]
    waits.publish(wait)
    try:
        took = []
        for _ in range(calls):
            start = now()
            knot = detector.check(wait)
            took.append(now() - start)
            if knot is not None:
                raise RuntimeError(f"a deadlock was found where there is none: {knot}")
    finally:
        waits.withdraw(wait)
    return statistics.median(took) / 1e3


@contextmanager
def chain(length: int) -> Iterator[LockLike]:
    """``length`` threads, each holding a lock and blocked on the next one's; gives the first one's lock."""
    from lockwatch.locks import Lock

    locks: list[LockLike] = [Lock() for _ in range(length)]
    end = threading.Lock()
    end.acquire()

    def link(index: int) -> Callable[[], None]:
        def body() -> None:
            with locks[index]:
                taken[index].set()
                wanted: LockLike = end if index == length - 1 else locks[index + 1]
                with wanted:
                    pass

        return body

    taken = [threading.Event() for _ in range(length)]
    crew = [threading.Thread(target=link(index), name=f"link-{index + 1}") for index in range(length)]
    try:
        for thread, event in reversed(list(zip(crew, taken, strict=True))):
            thread.start()
            if not event.wait(LIMIT):
                raise RuntimeError("a thread of the chain did not get its lock")
        for thread in crew[:-1]:
            _until_blocked(thread)
        yield locks[0]
    finally:
        end.release()
        for thread in crew:
            if thread.ident is not None:
                thread.join(LIMIT)


def _until_blocked(thread: threading.Thread) -> None:
    from lockwatch._core import agents

    deadline = time.monotonic() + LIMIT
    assert thread.ident is not None
    while time.monotonic() < deadline:
        agent = agents.by_ident.get(thread.ident)
        if agent is not None and agent.waits:
            return
        time.sleep(0.0005)
    raise RuntimeError(f"{thread.name} did not block")


@contextmanager
def other_locks(count: int) -> Iterator[None]:
    """``count`` locks exist, every tenth of them held by a thread of its own kind."""
    from lockwatch.locks import Lock

    locks: list[LockLike] = [Lock() for _ in range(count)]
    ready, end = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as held:
            for lock in locks[::10]:
                held.enter_context(lock)
            ready.set()
            end.wait()

    with _crew([threading.Thread(target=hold, name="holder")], end):
        if not ready.wait(LIMIT):
            raise RuntimeError("the holder did not get its locks")
        yield


@contextmanager
def other_threads(count: int) -> Iterator[None]:
    """``count`` idle threads that have each used a lock of their own."""
    from lockwatch.locks import Lock

    end = threading.Event()
    ready = threading.Semaphore(0)

    def idle() -> None:
        with Lock():
            pass
        ready.release()
        end.wait()

    with _crew([threading.Thread(target=idle, name=f"idle-{number}") for number in range(count)], end):
        for _ in range(count):
            if not ready.acquire(timeout=LIMIT):
                raise RuntimeError("an idle thread did not come up")
        yield


@contextmanager
def _crew(threads: Sequence[threading.Thread], end: threading.Event) -> Iterator[None]:
    """The threads run inside, and have ended after ``end`` is set."""
    started = []
    try:
        for thread in threads:
            thread.start()
            started.append(thread)
        yield
    finally:
        end.set()
        for thread in started:
            thread.join(LIMIT)
