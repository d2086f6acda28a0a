"""Cancellation at every await point of small programs, alone and in pairs: no lost wake-up, no lock left behind.

Each program is run once for each pair of (turn of the loop, task) in which two cancellations arrive, on one loop, turn
by turn; the order of a loop is the same each time, so this walks through all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from itertools import combinations_with_replacement, product
from typing import TYPE_CHECKING, Any

import pytest

import lockwatch
from lockwatch import aio

if TYPE_CHECKING:
    from tests.aio.conftest import Make, Run

PATIENCE = 80
"""Turns of the loop after which a program that is not done will not be done."""
TURNS = 9

Program = list[Callable[[], Coroutine[Any, Any, Any]]]
Cancels = tuple[tuple[int, int], ...]


def cancels(tasks: int, turns: int = TURNS) -> Iterator[Cancels]:
    """All ways to cancel at most two times: (turn, task)."""
    yield ()
    yield from combinations_with_replacement(product(range(turns), range(tasks)), 2)


async def play(program: Program, when: Cancels, check: Callable[[], object]) -> list[str]:
    """Runs the tasks of a program turn by turn, with cancellations; returns how each ended."""
    tasks = [asyncio.create_task(make(), name=f"t{number}") for number, make in enumerate(program)]
    for turn in range(PATIENCE):
        for at, number in when:
            if at == turn:
                tasks[number].cancel()
        await asyncio.sleep(0)
        check()
        if all(task.done() for task in tasks):
            return ["cancelled" if task.cancelled() else task.result() or "done" for task in tasks]
    raise AssertionError(f"cancelled at {when}: never done: {[task for task in tasks if not task.done()]}")


class Section:
    """A section that one task at a time may be in, and pauses of some turns."""

    def __init__(self) -> None:
        self.inside = 0

    async def work(self, turns: int) -> None:
        assert self.inside == 0, "two tasks are in the section"
        self.inside += 1
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
        finally:
            self.inside -= 1


def operations(lock: Any, section: Section) -> list[Callable[[], Awaitable[None]]]:
    """What a task does with a lock."""

    async def short() -> None:
        async with lock:
            await section.work(1)

    async def long() -> None:
        await lock.acquire()
        try:
            await section.work(2)
        finally:
            lock.release()
        await asyncio.sleep(0)

    return [short, long]


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("kind", [aio.Lock, aio.RLock])
def test_lock(run: Run, make: Make, kind: type[aio.Lock], order: int) -> None:
    """Three tasks with two operations each: whoever is cancelled when, the others get the lock, and it is free at last."""

    async def main() -> None:
        for when in cancels(3, TURNS if kind is aio.Lock else 5):
            lock, section = make(kind), Section()
            both = operations(lock, section)

            async def task(first: int, both: Any = both) -> None:
                await both[first]()
                await both[1 - first]()

            program: Program = [lambda first=order >> bit & 1: task(first) for bit in (0, 1, 0)]  # type: ignore[misc]
            ends = await play(program, when, lock._check)
            assert not lock.locked()
            assert not lock._waiters
            assert {number for number, end in enumerate(ends) if end == "cancelled"} <= {t for _, t in when}

    run(main())
    assert lockwatch.recorded_findings() == ()


def test_try_acquire(run: Run, make: Make) -> None:
    """The same with a task that tries in between: it never waits, and never gets a lock that is somebody's."""

    async def main() -> None:
        for when in cancels(2):
            lock, section = make(), Section()
            both = operations(lock, section)

            async def tries(lock: Any = lock, section: Section = section) -> None:
                for _ in range(8):
                    if lock.try_acquire():
                        try:
                            await section.work(1)
                        finally:
                            lock.release()
                    await asyncio.sleep(0)

            await play([both[0], both[1], tries], when, lock._check)  # type: ignore[list-item]
            assert not lock.locked()

    run(main())


@pytest.mark.parametrize("recursive", [False, True])
def test_condition(run: Run, make: Make, recursive: bool) -> None:
    """A notification that a cancelled task can no longer use goes to another one; each item finds its consumer."""

    async def main() -> None:
        for when in cancels(2):
            condition = make(aio.Condition) if not recursive else aio.Condition(make(aio.RLock))
            items = [0]

            async def consume(condition: Any = condition, items: list[int] = items) -> None:
                async with condition:
                    if recursive:
                        await condition.acquire()
                    while not items[0]:
                        await condition.wait()
                    items[0] -= 1
                    if recursive:
                        condition.release()

            async def produce(condition: Any = condition, items: list[int] = items) -> None:
                for _ in range(3):
                    await asyncio.sleep(0)
                    async with condition:
                        items[0] += 1
                        condition.notify()

            if recursive:
                consume = without_leak(consume, condition)
            await play([consume, consume, consume, produce], when, lambda: None)
            assert not condition.locked()

    run(main())


def without_leak(consume: Any, condition: Any) -> Any:
    """A consumer that was cancelled lets go of the levels that it still has."""

    async def body() -> None:
        try:
            await consume()
        finally:
            while condition._lock._is_owned():
                condition.release()

    return body


def test_semaphore(run: Run) -> None:
    """Two permits for three tasks: none is lost, none is made."""

    async def main() -> None:
        for when in cancels(3):
            semaphore = aio.Semaphore(2)

            async def task(semaphore: Any = semaphore) -> None:
                async with semaphore:
                    await asyncio.sleep(0)
                await semaphore.acquire()
                try:
                    await asyncio.sleep(0)
                finally:
                    semaphore.release()

            await play([task, task, task], when, lambda: None)
            assert semaphore._value == 2
            assert not semaphore._lockwatch.permits

    run(main())


def test_loop_closed_under_waiters(make: Make) -> None:
    """Tasks thrown away with their loop leave no error and no waiter behind."""
    loop = asyncio.new_event_loop()
    lock = make()

    async def hold() -> None:
        async with lock:
            await asyncio.Event().wait()

    tasks = [loop.create_task(hold()) for _ in range(3)]
    loop.call_soon(loop.call_soon, loop.call_soon, loop.stop)
    loop.run_forever()
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.get_coro().close()
    loop.close()
    assert not lock._lockwatch._queue
