"""Circles of tasks that no lock closes, found although a thread is awake; one party gets the error, the others go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.tasks.conftest import Loops

END_OF_TASK = "end of task"

WAYS = {
    "directly": "await other",
    "gather": "await asyncio.gather(other)",
    "gather, exceptions returned": "await asyncio.gather(other, asyncio.sleep(0), return_exceptions=True)",
    "shield": "await asyncio.shield(other)",
    "wait": "await asyncio.wait([other, asyncio.create_task(asyncio.sleep(0))])",
    "wait for the first": "await asyncio.wait([other], return_when=asyncio.FIRST_COMPLETED)",
    "wait_for without a time-out": "await asyncio.wait_for(other, None)",
    "a coroutine of a coroutine": "await through(other)",
    "an asynchronous generator": "async for _ in generator(other): pass",
    "a task group": "async with asyncio.TaskGroup() as group: group.create_task(through(other))",
    "another task": "await asyncio.create_task(through(other))",
}


@pytest.mark.parametrize("way", WAYS)
def test_two_tasks_that_await_each_other(loops: Loops, way: str) -> None:
    """However each awaits the other, they are found, and one of them goes on after the other's error."""
    outcome = loops(
        f"""
        async def through(task):
            await task
        async def generator(task):
            await task
            yield
        tasks = {{}}
        async def body(name):
            await moment()
            other = tasks[name]
            {WAYS[way]}
        async def main():
            noise()
            tasks["a"], tasks["b"] = go("a", body("b")), go("b", body("a"))
            await asyncio.wait(list(tasks.values()))
        asyncio.run(main())
        """
    )
    ((cause, waits),) = outcome.deadlocks()
    assert cause == "cycle"
    assert {"a", "b"} <= set(waits)
    assert len([line for line in outcome.said if line.endswith("DeadlockError")]) == 1
    assert len(outcome.said) == 2


def test_a_task_that_awaits_itself_through_another(loops: Loops) -> None:
    """A child that awaits its parent, which awaits the child."""
    outcome = loops(
        """
        async def child(parent):
            await parent
        async def main():
            noise()
            await attempt(asyncio.create_task(child(asyncio.current_task()), name="child"))
        asyncio.run(main())
        """
    )
    ((cause, waits),) = outcome.deadlocks()
    assert (cause, set(waits.values())) == ("cycle", {END_OF_TASK})


def test_the_loop_waits_for_its_own_coroutine(loops: Loops) -> None:
    """``run_coroutine_threadsafe(...).result()`` on the loop's own thread: certain, at once, raised in that call."""
    outcome = loops(
        """
        async def main():
            noise()
            loop = asyncio.get_running_loop()
            try:
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
            except lockwatch.DeadlockError:
                print("told")
        asyncio.run(main())
        """
    )
    ((cause, waits),) = outcome.deadlocks()
    assert (cause, waits) == ("self", {"MainThread": "Future"})
    assert outcome.said == ["told"]


def test_two_loops_wait_for_each_other(loops: Loops) -> None:
    """Each loop's thread is blocked in a call into the other one."""
    outcome = loops(
        """
        noise()
        side = side_loop()
        main_loop = asyncio.new_event_loop()
        def call(loop, body):
            asyncio.run_coroutine_threadsafe(body, loop).result()
        async def nothing():
            pass
        async def back():
            try:
                call(main_loop, nothing())
            except lockwatch.DeadlockError:
                print("side: DeadlockError")
        async def main():
            try:
                call(side, back())
            except lockwatch.DeadlockError:
                print("main: DeadlockError")
        main_loop.run_until_complete(main())
        """
    )
    ((cause, waits),) = outcome.deadlocks()
    assert cause == "cycle"
    assert {"MainThread", "side"} <= set(waits)
    assert len(outcome.said) == 1


def test_a_worker_thread_that_waits_for_who_waits_for_it(loops: Loops) -> None:
    """A task awaits ``to_thread``; the function there waits for a coroutine that awaits the task."""
    outcome = loops(
        """
        async def back(task):
            await task
        def work(loop, task):
            asyncio.run_coroutine_threadsafe(back(task), loop).result()
        async def main():
            noise()
            loop = asyncio.get_running_loop()
            await attempt(asyncio.to_thread(work, loop, asyncio.current_task()))
        asyncio.run(main())
        """
    )
    ((cause, _waits),) = outcome.deadlocks()
    assert cause == "cycle"
    assert len(outcome.said) == 1


def test_a_lock_for_threads_across_an_await(loops: Loops) -> None:
    """A task holds a ``threading.Lock`` and awaits; another task of the loop wants it, and the thread waits for itself."""
    outcome = loops(
        """
        lock = threading.Lock()
        async def holder():
            with lock:
                await asyncio.sleep(0.01)
        async def taker():
            with lock:
                pass
        async def main():
            noise()
            await asyncio.gather(go("holder", holder()), go("taker", taker()))
        asyncio.run(main())
        """
    )
    ((cause, waits),) = outcome.deadlocks()
    assert (cause, waits) == ("self", {"MainThread": "Lock"})
    assert outcome.said == ["holder: went on", "taker: DeadlockError"]


@pytest.mark.parametrize(
    "timer", ["", "asyncio.get_running_loop().call_later(60, print)"], ids=["idle", "timer"]
)
def test_a_worker_wants_the_lock_of_a_task_that_awaits_it(loops: Loops, timer: str) -> None:
    """The lock is the loop's thread's, but it is the task that is to release it, and that waits for the worker."""
    outcome = loops(
        f"""
        lock = threading.Lock()
        def work():
            with lock:
                pass
        async def holder():
            with lock:
                await asyncio.to_thread(work)
        async def main():
            noise()
            {timer}
            await go("holder", holder())
        asyncio.run(main())
        """
    )
    ((cause, waits),) = outcome.deadlocks()
    assert cause == "cycle"
    assert "holder" in waits
    assert "Lock" in waits.values()
    assert len(outcome.said) == 1


def test_found_once_the_other_children_have_ended(loops: Loops) -> None:
    """A ``gather`` of a circle and of a task that works goes on until that has ended."""
    outcome = loops(
        """
        tasks = {}
        async def body(name):
            await tasks[name]
        async def work():
            await asyncio.sleep(0.1)
            print("worked")
        async def main():
            noise()
            tasks["a"] = asyncio.create_task(body("b"), name="a")
            tasks["b"] = asyncio.create_task(body("a"), name="b")
            await attempt(asyncio.gather(*tasks.values(), work()))
        asyncio.run(main())
        """
    )
    ((cause, waits),) = outcome.deadlocks()
    assert (cause, set(waits)) == ("cycle", {"a", "b"})


def test_weight_decides_among_tasks(loops: Loops) -> None:
    """The task with the lower weight is the victim, whoever closed the circle."""
    for heavy, light in (("a", "b"), ("b", "a")):
        outcome = loops(
            f"""
            tasks = {{}}
            async def body(me, other):
                with lockwatch.deadlock_weight(5 if me == {heavy!r} else 0):
                    await moment()
                    await tasks[other]
            async def main():
                noise()
                tasks["a"], tasks["b"] = go("a", body("a", "b")), go("b", body("b", "a"))
                await asyncio.wait(list(tasks.values()))
            asyncio.run(main())
            """
        )
        assert outcome.said == sorted([f"{light}: DeadlockError", f"{heavy}: went on"])


def test_the_report_shows_tasks(loops: Loops) -> None:
    """Name, loop, await chain with the line of the await, and what each waits for."""
    outcome = loops(
        """
        async def inner(name):
            await tasks[name]  # here
        async def outer(name):
            await inner(name)
        tasks = {}
        async def main():
            noise()
            tasks["a"], tasks["b"] = go("a", outer("b")), go("b", outer("a"))
            await asyncio.wait(list(tasks.values()))
        asyncio.run(main())
        """
    )
    (found,) = outcome.findings
    for party in found["parties"]:
        assert party["agent"] == f"Task '{party['name']}'"
        assert party["runs_in"] == "Thread 'MainThread'"
        assert [frame["function"] for frame in party["stack"]] == ["attempt", "outer", "inner"]
        assert party["stack"][-1]["source"] == "await tasks[name]  # here"
        assert party["waits_for"]["where"]["function"] == "inner"
    assert "in the event loop of Thread 'MainThread'" in outcome.stderr or outcome.stderr == ""
