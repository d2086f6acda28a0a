"""Loops that sleep for ever: nobody is left to wake them. Twins, in which somebody is, lie in test_no_false_alarm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.tasks.conftest import Loops

FOR_EVER = {
    "an event": ("asyncio.Event().wait()", "asyncio.Event"),
    "a queue": ("asyncio.Queue().get()", "asyncio.Queue"),
    "a full queue": ("full()", "asyncio.Queue"),
    "a queue's join": ("unfinished()", "asyncio.Queue"),
    "a condition": ("condition()", "asyncio.Condition"),
    "a barrier": ("asyncio.Barrier(2).wait()", "asyncio.Barrier"),
    "a future": ("future()", "Future"),
    "a worker thread that waits": ("asyncio.to_thread(threading.Event().wait)", "Future"),
}


@pytest.mark.parametrize("name", FOR_EVER)
def test_nobody_is_left(loops: Loops, name: str) -> None:
    """The wait that would never end raises, in the task, and the program goes on."""
    code, kind = FOR_EVER[name]
    outcome = loops(
        f"""
        async def full():
            queue = asyncio.Queue(1)
            await queue.put(1)
            await queue.put(2)
        async def unfinished():
            queue = asyncio.Queue()
            await queue.put(1)
            await queue.join()
        async def condition():
            condition = asyncio.Condition()
            async with condition:
                await condition.wait()
        async def future():
            await asyncio.get_running_loop().create_future()
        async def main():
            await go("sleeper", {code})
        asyncio.run(main())
        print("ended")
        """
    )
    ((cause, waits),) = outcome.deadlocks()
    assert cause == "asleep"
    assert waits["sleeper"] == kind
    assert "ended" in outcome.said


def test_a_home_made_condition_that_keeps_the_lock(loops: Loops) -> None:
    """The waiter awaits a future with the lock held that its notifier needs."""
    outcome = loops(
        """
        async def main():
            lock, waiters = asyncio.Lock(), []
            async def wait():
                async with lock:
                    waiters.append(asyncio.get_running_loop().create_future())
                    await waiters[0]
            async def notify():
                async with lock:
                    waiters.pop().set_result(None)
            await asyncio.gather(go("waiter", wait()), go("notifier", notify()))
        asyncio.run(main())
        """
    )
    ((cause, waits),) = outcome.deadlocks()
    assert cause == "asleep"
    assert {"waiter", "notifier"} <= set(waits)
    assert outcome.said == ["notifier: went on", "waiter: DeadlockError"] or len(outcome.said) == 2


def test_a_thread_waits_for_a_loop_that_sleeps(loops: Loops) -> None:
    """The main thread waits for a coroutine in a side loop, whose event only the main thread would set."""
    outcome = loops(
        """
        side = side_loop()
        async def wait():
            await asyncio.Event().wait()
        try:
            asyncio.run_coroutine_threadsafe(wait(), side).result()
        except lockwatch.DeadlockError:
            print("told")
        """
    )
    ((cause, waits),) = outcome.deadlocks()
    assert cause == "asleep"
    assert waits["MainThread"] == "Future"
    assert outcome.said == ["told"]


def test_the_last_thread_awake_ends(loops: Loops) -> None:
    """A loop that sleeps while a thread works is found when that thread has ended without a word."""
    outcome = loops(
        """
        async def main():
            threading.Thread(target=time.sleep, args=(0.2,)).start()
            await attempt(asyncio.Event().wait())
        asyncio.run(main())
        """
    )
    ((cause, _waits),) = outcome.deadlocks()
    assert cause == "asleep"


def test_observed_only(loops: Loops) -> None:
    """In mode ``observe`` it is reported once and nobody gets an error."""
    outcome = loops(
        """
        async def main():
            loop = asyncio.get_running_loop()
            event = asyncio.Event()
            def rescue():
                while not lockwatch.recorded_findings():
                    original_sleep(0.01)
                for _ in range(4):  # what ends may be what they hoped for, so that all is looked at again
                    _thread.start_new_thread(brief, ())
                    original_sleep(0.1)
                loop.call_soon_threadsafe(event.set)
            original_sleep = time.sleep
            from lockwatch._core import agents
            def brief():
                agents.current()
            def hidden():
                agents.mark_internal()
                rescue()
            import _thread
            _thread.start_new_thread(hidden, ())
            await attempt(event.wait())
        asyncio.run(main())
        """,
        settings={"mode": "observe", "foreign_threads": "ignore"},
    )
    assert len(outcome.deadlocks()) == 1
    assert outcome.said == ["Task-1: went on"]
