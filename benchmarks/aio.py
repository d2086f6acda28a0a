"""Locks of tasks: ``lockwatch.aio.Lock`` beside ``asyncio.Lock``, uncontended and wanted by 100 tasks; and a server.

The contended samples are taken for each kind of fairness: throughput in one run, the longest wait in another, with a
clock in the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import repeat
from typing import Any

from benchmarks import programs
from benchmarks.results import Budget
from benchmarks.runner import Case, Reading, Setup, fresh
from lockwatch import aio

TITLE = "asyncio: `lockwatch.aio.Lock` beside `asyncio.Lock`"
NOTES = (
    "Uncontended: one task, nanoseconds for one turn of the loop, whose own cost is in both sides.",
    (
        "Contended: 100 tasks repeat: `async with lock:` and give the loop a turn (`sleep(0)`) in it, once or "
        "twice, or only outside of it, where nobody ever has to wait. Throughput is the operations of all tasks per "
        "second; longest wait is the worst single acquisition of any task."
    ),
    (
        "The server answers 1,000 requests of 50 tasks in its own loop, in a fresh process, without its start; each "
        "answer takes a semaphore, a lock and a place in a queue. The locks are asyncio's own, watched by `install()`."
    ),
    '"go" is the default of `lockwatch.aio.Lock`; "fifo" is asyncio\'s own strict order, which `install()` keeps.',
)
ROUNDS = 5

TASKS = 100
SECTIONS = {
    "one turn inside": (1, 0),
    "two turns inside": (2, 0),
    "one inside, one outside": (1, 1),
    "none inside": (0, 1),
}

Make = Callable[[], asyncio.Lock]


def cases(setup: Setup) -> Sequence[Case]:
    """Uncontended; then throughput and longest wait of both kinds of fairness against asyncio's."""
    seconds = 0.01 if setup.quick else 0.5
    turns = 100 if setup.quick else 20_000
    kinds: dict[str, Make] = {"go": aio.Lock, "fifo": partial(aio.Lock, fairness="fifo")}
    found = [
        Case(
            name=f"uncontended_{kind}",
            title=f"`async with lock: pass`, {kind}",
            unit="ns",
            raw=_alone(asyncio.Lock, turns),
            lockwatch=_alone(make, turns),
            budget=Budget("ratio", 1.5) if kind == "go" else None,
            params={"fairness": kind},
        )
        for kind, make in kinds.items()
    ]
    for section, (inside, outside) in SECTIONS.items():
        for kind, make in kinds.items():
            sides = [partial(_crowd, side, inside, outside, seconds) for side in (asyncio.Lock, make)]
            params: dict[str, int | float | str] = {"tasks": TASKS, "section": section, "fairness": kind}
            key = f"{section.replace(', ', '_').replace(' ', '_')}_{kind}"
            found.append(
                Case(
                    name=f"throughput_{key}",
                    title=f"throughput, {section}, {kind}",
                    unit="ops/s",
                    better="higher",
                    raw=partial(sides[0], _count),
                    lockwatch=partial(sides[1], _count),
                    budget=Budget("ratio", 1.0) if kind == "go" else None,
                    params=params,
                )
            )
            found.append(
                Case(
                    name=f"wait_{key}",
                    title=f"longest wait, {section}, {kind}",
                    unit="ms",
                    compare="difference",
                    raw=partial(sides[0], _longest),
                    lockwatch=partial(sides[1], _longest),
                    params=params,
                )
            )
    times = 2 if setup.quick else 100
    server = Case(
        name="aiohttp_server",
        title="an aiohttp server and 50 clients, under install()",
        unit="ms",
        raw=programs.process(programs.SERVER, "raw", times),
        lockwatch=programs.process(programs.SERVER, "lockwatch", times),
    )
    found = sorted(found, key=lambda case: ("ns", "ops/s", "ms").index(case.unit))
    return [*found, server]


def _alone(make: Make, turns: int) -> Callable[[], float]:
    loop = fresh(_pass)

    def measure() -> float:
        async def main() -> float:
            lock = make()
            began = time.perf_counter()
            await loop(lock, turns)
            return (time.perf_counter() - began) / turns * 1e9

        return asyncio.run(main())

    return measure


Member = Callable[[asyncio.Lock, "list[bool]", int, int], Coroutine[Any, Any, float]]


def _crowd(make: Make, inside: int, outside: int, seconds: float, member: Member) -> Reading:
    """Runs the tasks for that long; the sum of what they return, or the greatest, is the sample."""
    body = fresh(member)

    async def main() -> tuple[float, list[float]]:
        lock, running = make(), [True]
        tasks = [asyncio.create_task(body(lock, running, inside, outside)) for _ in range(TASKS)]
        began = time.perf_counter()
        await asyncio.sleep(seconds)
        elapsed = time.perf_counter() - began
        running.clear()
        return elapsed, await asyncio.gather(*tasks)

    elapsed, each = asyncio.run(main())
    if member is _longest:
        return Reading(max(each) * 1e3, {"median_of_tasks_ms": sorted(each)[TASKS // 2] * 1e3})
    return Reading(sum(each) / elapsed, {"least": min(each), "most": max(each)})


# The loops. Each side runs a fresh copy; see runner.fresh().


async def _pass(lock: asyncio.Lock, turns: int) -> None:
    for _ in repeat(None, turns):
        async with lock:
            pass


async def _count(lock: asyncio.Lock, running: list[bool], inside: int, outside: int) -> float:
    done = 0
    while running:
        async with lock:
            for _ in range(inside):
                await asyncio.sleep(0)
        for _ in range(outside):
            await asyncio.sleep(0)
        done += 1
    return done


async def _longest(lock: asyncio.Lock, running: list[bool], inside: int, outside: int) -> float:
    now = time.perf_counter
    longest = 0.0
    while running:
        asked = now()
        async with lock:
            waited = now() - asked
            for _ in range(inside):
                await asyncio.sleep(0)
        for _ in range(outside):
            await asyncio.sleep(0)
        if waited > longest:  # noqa: PLR1730 - max() is a call in a loop that is timed
            longest = waited
    return longest
