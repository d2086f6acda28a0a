"""Deadlocks of tasks over locks: each that must be found when it closes, and the twin beside it that must not."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

import lockwatch
from lockwatch import aio
from lockwatch._core import settings, tasks

if TYPE_CHECKING:
    from tests.aio.conftest import Make, Run


async def settle(turns: int = 5) -> None:
    """Lets everybody who can run do so, for a few turns of the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def start(coroutine: Any) -> None:
    """Starts a task that nobody has in hand, and who could cancel it, therefore."""
    asyncio.create_task(coroutine)  # noqa: RUF006 - it is in its loop's hands
    await settle()


async def ends(*tasks_: asyncio.Task[Any]) -> list[Any]:
    """What the tasks return, or a finding's cause in place of its DeadlockError."""
    found = await asyncio.gather(*tasks_, return_exceptions=True)
    return [one.finding.cause if isinstance(one, lockwatch.DeadlockError) else one for one in found]


async def ring(locks: list[Any], *, closed: bool) -> list[Any]:
    """Tasks that hold a lock each and want the next one's; the last one wants the first only in a closed ring."""
    holding = asyncio.Barrier(len(locks))

    async def member(index: int) -> str:
        async with locks[index]:
            await holding.wait()
            if index + 1 < len(locks) or closed:
                async with locks[(index + 1) % len(locks)]:
                    pass
            return "went on"

    return await ends(*(asyncio.create_task(member(i), name=f"t{i}") for i in range(len(locks))))


@pytest.mark.parametrize("size", [2, 3, 7])
@pytest.mark.parametrize("kind", [aio.Lock, aio.RLock])
def test_ring(run: Run, make: Make, kind: Any, size: int) -> None:
    """A ring of any length is found when it closes: one error, which names all of it; all others go on."""
    locks = [make(kind, name=f"l{number}") for number in range(size)]
    found = run(ring(locks, closed=True))
    assert sorted(found) == ["cycle"] + ["went on"] * (size - 1)
    (finding,) = lockwatch.recorded_findings()
    assert {party.name for party in finding.parties} == {f"t{number}" for number in range(size)}
    assert set(finding.cycle[1::2]) == {f"asyncio.{kind.__name__} 'l{number}'" for number in range(size)}
    for lock in locks:
        lock._check()
        assert not lock.locked()


@pytest.mark.parametrize("size", [2, 7])
def test_open_chain(run: Run, make: Make, size: int) -> None:
    """Twin: the same without the last edge ends by itself."""
    assert run(ring([make() for _ in range(size)], closed=False)) == ["went on"] * size
    assert lockwatch.recorded_findings() == ()


def test_with_itself(run: Run, make: Make) -> None:
    """A task that enters a lock that it is in."""

    async def main() -> str:
        lock = make(name="l")
        with pytest.raises(lockwatch.DeadlockError) as caught:
            async with lock, lock:
                pass
        assert not lock.locked()
        return caught.value.finding.cause or ""

    assert run(main()) == "self"


def test_again(run: Run, make: Make) -> None:
    """Twin: entering it again later, and an RLock while it is held."""

    async def main() -> None:
        lock, recursive = make(), make(aio.RLock)
        for _ in range(2):
            async with lock, recursive, recursive:
                assert await recursive.acquire()
                assert recursive.try_acquire()
                assert recursive.statistics().count == 4
                recursive.release()
                recursive.release()
        assert not recursive.locked()

    run(main())
    assert lockwatch.recorded_findings() == ()


def test_in_a_task_of_its_own(run: Run, make: Make) -> None:
    """``create_task(lock.acquire())``: the owner is who called it; the task that does it ends at once."""

    async def main() -> list[Any]:
        one, two = make(), make()
        assert await asyncio.create_task(one.acquire())
        assert one.statistics().owner == "main"
        await asyncio.gather(two.acquire())
        assert two.statistics().owner == "main"

        async def other() -> str:
            async with two:
                return "went on"

        waiting = asyncio.create_task(other())
        await settle()
        two.release()
        found = await ends(waiting)
        one.release()
        assert not one._lockwatch._signal
        return found

    async def named() -> list[Any]:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("main")
        return await main()

    assert run(named()) == ["went on"]
    assert lockwatch.recorded_findings() == ()


def test_with_time_limit(run: Run, make: Make) -> None:
    """``wait_for(lock.acquire(), ...)``: who called it owns the lock; a time-out leaves nobody in the queue."""

    async def main() -> None:
        lock = make()
        assert await asyncio.wait_for(lock.acquire(), 5)
        assert lock._lockwatch.hold[0] is tasks.current()
        seen = asyncio.Event()

        async def late() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(lock.acquire(), 0.001)
            seen.set()

        task = asyncio.create_task(late())
        await seen.wait()
        await task
        assert lock.statistics().waiters == 0
        lock._check()
        lock.release()
        assert not lock.locked()

    run(main())
    assert lockwatch.recorded_findings() == ()


@pytest.mark.skipif(tasks.may_end_otherwise is tasks._never, reason="needs the reader of what tasks await")
def test_time_limit_recovers(run: Run, make: Make) -> None:
    """Twin of the ring: with a time limit on one of the waits it unties itself, and nothing is reported."""

    async def main() -> list[Any]:
        locks, holding = [make(), make()], asyncio.Barrier(2)

        async def member(index: int) -> str:
            async with locks[index]:
                await holding.wait()
                if index:
                    try:
                        await asyncio.wait_for(locks[0].acquire(), 0.01)
                    except TimeoutError:
                        return "gave up"
                    locks[0].release()
                else:
                    async with locks[1]:
                        pass
            return "went on"

        return await ends(*(asyncio.create_task(member(index)) for index in range(2)))

    assert run(main()) == ["went on", "gave up"]
    assert lockwatch.recorded_findings() == ()


def test_left_locked(run: Run, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that ends with the lock taken by a bare ``acquire()``, and nobody who could release it: an orphan."""
    monkeypatch.setattr(settings, "reacquire_grace_ns", 20_000_000)

    async def leave(lock: Any) -> None:
        await lock.acquire()

    async def enter(lock: Any) -> None:
        async with lock:
            pass

    async def main() -> Any:
        lock = make(name="left")
        holder = asyncio.create_task(leave(lock), name="gone")
        await holder
        waiter = asyncio.create_task(enter(lock))
        del lock, holder
        return await ends(waiter)

    assert run(main()) == ["orphan"]
    (finding,) = lockwatch.recorded_findings()
    assert "gone" in finding.message


def test_left_locked_while_others_wait(run: Run, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same when the owner ends after the waiter has begun to wait: the end is noticed."""
    monkeypatch.setattr(settings, "reacquire_grace_ns", 20_000_000)

    async def leave(lock: Any, go: asyncio.Event) -> None:
        await lock.acquire()
        await go.wait()

    async def enter(lock: Any) -> None:
        async with lock:
            pass

    async def main() -> Any:
        lock, go = make(), asyncio.Event()
        asyncio.create_task(leave(lock, go))  # noqa: RUF006
        await settle()
        waiter = asyncio.create_task(enter(lock))
        del lock
        await settle()
        go.set()
        return await ends(waiter)

    assert run(main()) == ["orphan"]


def test_taken_for_another(run: Run, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin: a task that ends took it for one that has it in sight, and releases it long after the grace."""
    monkeypatch.setattr(settings, "reacquire_grace_ns", 1_000_000)

    async def take(lock: Any) -> None:
        await lock.acquire()

    async def enter(lock: Any) -> str:
        async with lock:
            return "went on"

    async def main() -> Any:
        lock = make()
        await asyncio.create_task(take(lock))
        waiter = asyncio.create_task(enter(lock))
        await asyncio.sleep(0.05)
        lock.release()
        return await ends(waiter)

    assert run(main()) == ["went on"]
    assert lockwatch.recorded_findings() == ()


def test_recursive_left_locked(run: Run, make: Make) -> None:
    """An RLock that its owner left is an orphan at once: nobody else may release it."""

    async def leave(lock: Any) -> None:
        await lock.acquire()

    async def main() -> Any:
        lock = make(aio.RLock)
        await asyncio.create_task(leave(lock))
        with pytest.raises(lockwatch.MisuseError, match="which has ended"):
            lock.release()

        async def enter() -> None:
            async with lock:
                pass

        return await ends(asyncio.create_task(enter()))

    # create_task(lock.acquire()) would be this task's; leave() is a task that does more than that
    assert run(main()) == ["orphan"]


def test_signal(run: Run, make: Make) -> None:
    """A lock that another task released is a signal: two tasks that wake each other by two of them are no deadlock."""

    async def main() -> list[Any]:
        ping, pong = make(), make()
        await ping.acquire()
        await pong.acquire()

        async def player(mine: Any, other: Any) -> str:
            for _ in range(5):
                await mine.acquire()
                other.release()
            return "done"

        one = asyncio.create_task(player(ping, pong))
        two = asyncio.create_task(player(pong, ping))
        await settle()
        ping.release()
        return await ends(one, two)

    assert run(main()) == ["done", "done"]
    assert lockwatch.recorded_findings() == ()


def test_semaphore_with_itself(run: Run) -> None:
    """Nested ``async with`` on a semaphore whose permits are all this task's."""

    async def main() -> Any:
        semaphore = aio.Semaphore(2, name="s")
        with pytest.raises(lockwatch.DeadlockError) as caught:
            async with semaphore, semaphore, semaphore:
                pass
        assert semaphore._value == 2
        return caught.value.finding.cycle[1]

    assert run(main()) == "asyncio.Semaphore 's'"


def test_semaphore_and_lock(run: Run) -> None:
    """All holders of the permits wait for a lock whose owner wants a permit."""

    async def main() -> list[Any]:
        semaphore, lock, ready = aio.Semaphore(2), aio.Lock(), asyncio.Barrier(3)

        async def with_permit() -> str:
            async with semaphore:
                await ready.wait()
                async with lock:
                    return "went on"

        async def with_lock() -> str:
            async with lock:
                await ready.wait()
                await settle()
                async with semaphore:
                    return "went on"

        return await ends(*map(asyncio.create_task, (with_permit(), with_permit(), with_lock())))

    found = run(main())
    assert found.count("went on") == 2
    assert len(lockwatch.recorded_findings()) == 1


@pytest.mark.parametrize("bare", [False, True])
def test_semaphore_permit_comes(run: Run, bare: bool) -> None:
    """Twin: one permit is free for a moment more, or was taken by a bare ``acquire()`` that anybody may undo."""

    async def main() -> list[Any]:
        semaphore = aio.Semaphore(2)

        async def giver() -> str:
            await semaphore.acquire()
            await settle(10)
            semaphore.release()
            return "went on"

        async def taker() -> str:
            async with semaphore, semaphore if not bare else AsyncExitStack():
                await settle(3)
                return "went on"

        one = asyncio.create_task(giver())
        await settle()
        return await ends(one, asyncio.create_task(taker()))

    assert run(main()) == ["went on", "went on"]
    assert lockwatch.recorded_findings() == ()


def test_observed_only(run: Run, make: Make) -> None:
    """In mode ``observe`` nobody gets the error: the finding is recorded, and the tasks wait on until they are cancelled."""
    lockwatch.configure(mode="observe")

    async def main() -> list[Any]:
        lock = make()

        async def enter() -> str:
            async with lock, lock:
                return "went on"

        await start(enter())
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        task.cancel()
        found = await ends(task)
        assert not lock.locked()
        return found

    (end,) = run(main())
    assert isinstance(end, asyncio.CancelledError)
    assert [finding.cause for finding in lockwatch.recorded_findings()] == ["self"]


@pytest.mark.parametrize("within", [True, False])
def test_condition_takes_its_lock_again_as_before(run: Run, make: Make, within: bool) -> None:
    """Who waited in ``async with condition`` is its owner for certain afterwards; after ``acquire()`` others may release."""
    lockwatch.configure(reacquire_grace=3600.0)

    async def main() -> None:
        condition, lock = aio.Condition(make()), make()
        waiting = []

        async def take() -> None:
            if within:
                await condition.__aenter__()
            else:
                await condition.acquire()

        async def first() -> None:
            async with lock:
                await take()
                waiting.append("first")
                await condition.wait()

        async def second() -> None:
            await take()
            waiting.append("second")
            await condition.wait()
            async with lock:
                pass

        await start(second())
        await start(first())
        async with condition:
            assert waiting == ["second", "first"]
            condition.notify_all()
        await settle(20)
        assert [finding.cause for finding in lockwatch.recorded_findings()] == (["cycle"] if within else [])
        if not within:
            condition.release()
        await settle(20)
        assert not lock.locked()

    run(main())
    assert bool(lockwatch.recorded_findings()) is within


@pytest.mark.parametrize("cancelled", [True, False])
def test_cancelled_while_it_ran(run: Run, make: Make, cancelled: bool) -> None:
    """A task that was cancelled while it ran does not wait for its own lock: its next await raises; else it is stuck."""

    async def main() -> list[type[BaseException]]:
        lock = make()
        ends: list[type[BaseException]] = []

        async def enter() -> None:
            try:
                async with lock:
                    if cancelled:
                        asyncio.current_task().cancel()  # type: ignore[union-attr]
                    async with lock:
                        pass
            except BaseException as error:
                ends.append(type(error))

        await start(enter())
        assert not lock.locked()
        return ends

    assert run(main()) == [asyncio.CancelledError if cancelled else lockwatch.DeadlockError]
    assert bool(lockwatch.recorded_findings()) is not cancelled


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_eager_tasks(run: Run, make: Make) -> None:
    """A task that runs before it is scheduled is itself the owner and the waiter."""

    async def main() -> list[Any]:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        return await ring([make(), make()], closed=True)

    assert sorted(run(main())) == ["cycle", "went on"]
