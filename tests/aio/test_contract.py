"""asyncio's contract beside what its own tests cover: classes, loops, misuse, copies, names, statistics."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
from typing import TYPE_CHECKING, Any

import pytest

import lockwatch
from lockwatch import aio

if TYPE_CHECKING:
    from tests.aio.conftest import Make, Run

CLASSES = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "LifoQueue",
    "Lock",
    "PriorityQueue",
    "Queue",
    "Semaphore",
]


def made(name: str) -> Any:
    """One of each."""
    return getattr(aio, name)(*([2] if name == "Barrier" else []))


@pytest.mark.parametrize("name", CLASSES)
def test_is_asyncios(name: str) -> None:
    """Each is an instance of asyncio's class, knows where it was made, and refuses to be copied or pickled."""
    thing = made(name)
    assert isinstance(thing, getattr(asyncio, name))
    assert thing._lockwatch._created[0].co_name == "made"
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(lockwatch.CopyError, match=name):
            attempt(thing)


def test_lazily_there() -> None:
    """The package has it as an attribute, too."""
    assert lockwatch.aio is aio


@pytest.mark.parametrize("kind", [aio.Lock, aio.RLock, aio.Semaphore])
def test_acquire_is_a_coroutine_function(kind: Any) -> None:
    """Also for those who ask: mocks and frameworks do. It does nothing before it is awaited."""
    lock = kind()
    assert (
        asyncio.iscoroutinefunction(lock.acquire) if not hasattr(inspect, "markcoroutinefunction") else True
    )
    if hasattr(inspect, "markcoroutinefunction"):
        assert inspect.iscoroutinefunction(lock.acquire)
    acquiring = lock.acquire()
    assert inspect.iscoroutine(acquiring)
    acquiring.close()
    assert not lock.locked()


def test_names(run: Run) -> None:
    """A lock is called what it was given, or what the code gives it; a condition's lock is called as the condition."""
    my_lock = aio.Lock()
    assert my_lock.name == "my_lock"
    assert aio.Lock(name="given").name == "given"
    ready = aio.Condition()
    assert ready._lock.name == "ready"  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        aio.Lock(name=1)  # type: ignore[arg-type]


def test_bound_to_its_loop(run: Run, make: Make) -> None:
    """A lock that was waited for in one loop refuses to be waited for in another."""
    lock = make()

    async def wait() -> None:
        await lock.acquire()
        waiting = asyncio.create_task(lock.acquire())
        await asyncio.sleep(0)
        lock.release()
        await waiting

    run(wait())
    with pytest.raises(RuntimeError, match="is bound to a different event loop"):
        run(wait())


def test_release_of_what_is_free(run: Run, make: Make) -> None:
    """Releasing what nobody holds is a misuse, and a RuntimeError; the message names the lock."""
    lock, recursive = make(name="l"), make(aio.RLock, name="r")

    async def main() -> None:
        with pytest.raises(lockwatch.MisuseError, match=r"asyncio.Lock 'l' is not held by anybody"):
            lock.release()
        with pytest.raises(lockwatch.MisuseError, match=r"asyncio.RLock 'r' is not held by anybody"):
            recursive.release()
        with pytest.raises(RuntimeError):
            await lock.__aexit__(None, None, None)

    run(main())


def test_release_of_anothers(run: Run, make: Make) -> None:
    """An RLock is its owner's; the message says who that is and where it was taken. A Lock anybody may release."""
    lock, recursive = make(), make(aio.RLock)

    async def hold() -> None:
        async with recursive:
            await lock.acquire()
            await asyncio.sleep(0.01)

    async def main() -> None:
        task = asyncio.create_task(hold(), name="owner")
        await asyncio.sleep(0)
        with pytest.raises(lockwatch.MisuseError, match=r"task 'owner' took it at .*test_contract.py"):
            recursive.release()
        lock.release()
        await task

    run(main())


def test_recursive_in_condition(run: Run, make: Make) -> None:
    """``wait`` lets go of all levels of an RLock, and takes them again."""

    async def main() -> None:
        condition = aio.Condition(make(aio.RLock))

        async def waiter() -> int:
            async with condition, condition:
                await condition.wait()
                return int(condition._lock.statistics().count)  # type: ignore[attr-defined]

        task = asyncio.create_task(waiter())
        await asyncio.sleep(0)
        async with condition:
            condition.notify()
        assert await task == 2
        assert not condition.locked()

    run(main())


def test_statistics(run: Run, make: Make) -> None:
    """Owner, levels, waiters and counters, as of a lock of threads."""

    async def main() -> None:
        lock = make()
        assert lock.statistics() == lockwatch.LockStatistics(None, 0, 0, "normal", 0, 0, 0)
        async with lock:
            task = asyncio.create_task(lock.acquire(), name="waiter")
            await asyncio.sleep(0)
            now = lock.statistics()
            assert (now.count, now.waiters, now.acquisitions) == (1, 1, 1)
            current = asyncio.current_task()
            assert current is not None
            assert now.owner == current.get_name()
        await task
        now = lock.statistics()
        assert (now.count, now.waiters, now.acquisitions, now.contended) == (1, 0, 2, 1)
        lock.release()
        assert [row.hold.name for row in lockwatch.holders() if row.agent.startswith("Task")] == []

    run(main())


def test_tables(run: Run, make: Make) -> None:
    """The live tables have rows for tasks."""

    async def main() -> None:
        lock = make(name="l")
        async with lock:
            task = asyncio.create_task(lock.acquire(), name="waiter")
            await asyncio.sleep(0)
            (wait,) = [row for row in lockwatch.waits() if row.waits_for.name == "l"]
            assert wait.agent == "Task 'waiter'"
            assert wait.rule == "all"
            (hold,) = [row for row in lockwatch.holders() if row.hold.name == "l"]
            assert hold.waiters == 1
        await task

    run(main())


def test_lock_without_a_loop(make: Make) -> None:
    """A lock can be tried and released where no loop runs; then the thread is its owner."""
    lock = make()
    assert lock.try_acquire()
    assert not lock.try_acquire()
    assert lock.statistics().owner == "MainThread"
    lock.release()


def test_nothing_is_kept(run: Run, make: Make) -> None:
    """A lock that is dropped while it is held leaves its owner's table."""

    async def main() -> int:
        lock = make()
        await lock.acquire()
        task: Any = asyncio.current_task()
        assert len(task._lockwatch_agent.holds) == 1
        del lock
        return len(task._lockwatch_agent.holds)

    assert run(main()) == 0
