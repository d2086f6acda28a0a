"""Several threads and one lock: how much gets done in a fixed time, and the longest wait.

Each thread repeats: take the lock, work inside, let it go, work as long outside. Throughput is measured
without a clock in the loop; the waits in runs of their own, with one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from benchmarks.results import Budget
from benchmarks.runner import Case, Factory, LockLike, Reading, Setup, fresh, spins

TITLE = "Contended: threads that share one Lock"
NOTES = (
    (
        "A thread repeats: `with lock:` and work in it, then the same work outside. Sections: empty (no work at"
        " all), short (about 5 us of pure Python work), long (about 100 us); the work is a loop of a fixed "
        "number of turns, calibrated once."
    ),
    (
        "Throughput is the operations of all threads per second; the loop has no clock in it. A ratio above 1 "
        "means that lockwatch gets more done. Longest wait is the worst single acquisition of any thread in a "
        "run; each thread's own is in the JSON."
    ),
    (
        "With the GIL the work itself never runs in parallel; threads meet at the lock only when the "
        "interpreter switches between them inside a section (switch interval: see `python.switch_interval`)."
    ),
)
ROUNDS = 5

THREADS = (2, 4, 8)
SECTIONS = {"empty": 0.0, "short": 5e-6, "long": 100e-6}

Running = list[bool]
"""True while it has an element. Each thread makes its own: reading it is not one more thing that they share."""
Loop = Callable[[LockLike, Running, range], "tuple[int, float]"]
"""Runs until told to stop; returns operations done and the longest wait in seconds."""


def cases(setup: Setup) -> Sequence[Case]:
    """Throughput and longest wait, for each section and number of threads."""
    seconds = 0.01 if setup.quick else 0.5
    found = []
    for section, work in SECTIONS.items():
        turns = spins(work) if work else 0
        for threads in THREADS[:1] if setup.quick else THREADS:
            params: dict[str, int | float | str] = {
                "threads": threads,
                "section": section,
                "turns": turns,
                "seconds": seconds,
            }
            label = f"{section} section, {threads} threads"
            raw, ours = (
                _throughput(side.Lock, fresh(_work if turns else _empty), threads, turns, seconds)
                for _, side in setup.sides()
            )
            found.append(
                Case(
                    name=f"throughput_{section}_{threads}",
                    title=f"throughput, {label}",
                    unit="ops/s",
                    better="higher",
                    raw=raw,
                    lockwatch=ours,
                    budget=Budget("ratio", 0.6),
                    params=params,
                )
            )
            raw, ours = (
                _longest_wait(side.Lock, fresh(_timed), threads, turns, seconds) for _, side in setup.sides()
            )
            found.append(
                Case(
                    name=f"wait_{section}_{threads}",
                    title=f"longest wait, {label}",
                    unit="ms",
                    compare="difference",
                    raw=raw,
                    lockwatch=ours,
                    params=params,
                )
            )
    return sorted(found, key=lambda case: case.unit, reverse=True)


def _throughput(make: Factory, loop: Loop, threads: int, turns: int, seconds: float) -> Callable[[], Reading]:
    def measure() -> Reading:
        elapsed, done = _together(make(), loop, threads, turns, seconds)
        counts = sorted(count for count, _ in done)
        return Reading(sum(counts) / elapsed, {"operations": counts})

    return measure


def _longest_wait(
    make: Factory, loop: Loop, threads: int, turns: int, seconds: float
) -> Callable[[], Reading]:
    def measure() -> Reading:
        _, done = _together(make(), loop, threads, turns, seconds)
        waits = sorted(wait * 1e3 for _, wait in done)
        return Reading(waits[-1], {"longest_waits_ms": [round(wait, 4) for wait in waits]})

    return measure


def _together(
    lock: LockLike, loop: Loop, threads: int, turns: int, seconds: float
) -> tuple[float, list[tuple[int, float]]]:
    """Runs ``loop`` in some threads at once for ``seconds``; gives the time it took and what each returned."""
    ready = threading.Barrier(threads + 1)
    gate = threading.Event()
    flags: list[Running] = []
    done: list[tuple[int, float]] = []

    def body() -> None:
        running = [True]
        flags.append(running)
        work = range(turns)
        ready.wait()
        gate.wait()
        done.append(loop(lock, running, work))

    crew = [threading.Thread(target=body, name=f"worker-{number}") for number in range(threads)]
    for thread in crew:
        thread.start()
    ready.wait()
    gate.set()
    start = time.perf_counter()
    time.sleep(seconds)
    # Sleeping ends when this thread gets the GIL again; what was done until then counts, and so does the time.
    elapsed = time.perf_counter() - start
    for running in flags:
        running.clear()
    for thread in crew:
        thread.join()
    if len(done) != threads:
        raise RuntimeError(f"{threads - len(done)} of {threads} threads failed")
    return elapsed, done


# The loops. Each side runs a fresh copy; see runner.fresh().


def _empty(lock: LockLike, running: Running, _work: range) -> tuple[int, float]:
    done = 0
    while running:
        with lock:
            pass
        done += 1
    return done, 0.0


def _work(lock: LockLike, running: Running, work: range) -> tuple[int, float]:
    done = 0
    while running:
        with lock:
            for _ in work:
                pass
        for _ in work:
            pass
        done += 1
    return done, 0.0


def _timed(lock: LockLike, running: Running, work: range) -> tuple[int, float]:
    now = time.perf_counter
    done = 0
    longest = 0.0
    while running:
        asked = now()
        with lock:
            waited = now() - asked
            for _ in work:
                pass
        for _ in work:
            pass
        if waited > longest:  # noqa: PLR1730 - max() is a call in a loop that is timed
            longest = waited
        done += 1
    return done, longest
