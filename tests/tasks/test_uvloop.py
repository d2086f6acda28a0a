"""uvloop's loops do not show their timers or what they are about to do: what is still seen, and that the rest is silent."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.tasks.conftest import Loops

pytestmark = pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed")


def test_a_program_that_ends(loops: Loops) -> None:
    """Timers, threads, executors, sockets and a circle that a time-out opens: nothing is said, and it ends."""
    outcome = loops(
        """
        import uvloop
        async def circle(tasks, other):
            await moment()
            await asyncio.shield(tasks[other])
        async def main():
            assert type(asyncio.get_running_loop()).__module__ == "uvloop"
            event, loop, tasks = asyncio.Event(), asyncio.get_running_loop(), {}
            loop.call_later(0.05, event.set)
            await event.wait()
            event.clear()
            threading.Timer(0.05, loop.call_soon_threadsafe, [event.set]).start()
            await event.wait()
            assert await asyncio.to_thread(lambda: 42) == 42
            tasks["a"] = asyncio.create_task(circle(tasks, "b"))
            tasks["b"] = asyncio.create_task(circle(tasks, "a"))
            try:
                async with asyncio.timeout(0.1):
                    await asyncio.gather(*tasks.values())
            except TimeoutError:
                print("ok")
        uvloop.run(main())
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["ok"]


def test_threads_are_seen_as_ever(loops: Loops) -> None:
    """Two threads of an executor in a circle of locks: certain, though their tasks run in uvloop."""
    outcome = loops(
        """
        import uvloop
        one, other, both = threading.Lock(), threading.Lock(), threading.Barrier(2)
        def take(first, second):
            with first:
                both.wait()
                with second:
                    pass
        async def main():
            await asyncio.gather(
                go("a", asyncio.to_thread(take, one, other)), go("b", asyncio.to_thread(take, other, one))
            )
        uvloop.run(main())
        """
    )
    ((cause, waits),) = outcome.deadlocks()
    assert (cause, set(waits.values())) == ("cycle", {"Lock"})
    assert sorted(line.split(": ")[1] for line in outcome.said) == ["DeadlockError", "went on"]
