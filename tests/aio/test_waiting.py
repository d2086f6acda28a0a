"""``async with`` on a lock that somebody has: what is awaited, by whom, and what is left of it. For both twins."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import lockwatch
from lockwatch import aio
from lockwatch._core import settings, tasks

if TYPE_CHECKING:
    from tests.aio.conftest import Make, Run

AT_ONCE = -1


async def settle(turns: int = 5) -> None:
    """Lets everybody who can run do so, for a few turns of the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def enter(lock: Any, got: list[str], name: str) -> None:
    """Takes the lock by ``async with``, notes it, and lets go a turn later."""
    async with lock:
        got.append(name)
        await asyncio.sleep(0)


def test_all_that_is_asked_of_a_wait(run: Run, make: Make) -> None:
    """The wait has all fields that a wait has, whoever made it, and is its task's."""

    async def main() -> None:
        lock, got = make(), list[str]()
        async with lock:
            task = asyncio.create_task(enter(lock, got, "a"))
            await settle()
            (wait,) = lock._lockwatch._queue
            fields = {
                name: getattr(wait, name)
                for kind in type(wait).__mro__
                for name in getattr(kind, "__slots__", ())
            }
            assert fields["agent"] is tasks.agent_of(task)
            assert fields["resource"] is lock._lockwatch
            assert fields["code"] is enter.__code__
            assert fields["future"] is task._fut_waiter  # type: ignore[attr-defined]
            assert fields["slot"] == {}
            assert (fields["hope"], fields["raises"], fields["deadline_ns"]) == (True, True, None)
            assert wait.agent.waits == [wait]
        await task
        assert wait.agent.waits == []
        lock._check()

    run(main())


def test_called_and_awaited_later(run: Run, make: Make) -> None:
    """Nobody queues before the first step; a lock that has been freed meanwhile is taken then."""

    async def main() -> None:
        lock = make()
        async with lock:
            dropped, kept = lock.__aenter__(), lock.__aenter__()
            assert not lock._waiters
        getattr(dropped, "close", lambda: None)()
        assert await asyncio.wait_for(asyncio.ensure_future(_awaiting(kept)), 5) is None
        assert lock.locked()
        lock.release()
        lock._check()

    run(main())


async def _awaiting(awaitable: Any) -> Any:
    return await awaitable


def test_a_task_for_nothing_but_that(run: Run, make: Make) -> None:
    """``create_task(lock.__aenter__())``: the owner is who called it."""

    async def main() -> None:
        lock, got = make(), list[str]()
        task = asyncio.create_task(enter(lock, got, "a"))
        await settle(1)
        await asyncio.create_task(lock.__aenter__())
        assert lock._lockwatch.hold[0] is tasks.current()
        lock.release()
        await task
        lock._check()

    run(main())


def test_released_by_another_before_it_runs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that was handed over may be released by anybody, also before its new owner runs: that one is the first again."""
    monkeypatch.setattr(settings, "starvation_threshold_ns", AT_ONCE)

    async def main() -> None:
        lock, got = aio.Lock(), list[str]()
        await lock.acquire()
        lock._lockwatch._starving = True
        members = [asyncio.create_task(enter(lock, got, name), name=name) for name in "ab"]
        await settle()
        lock.release()
        assert lock.statistics().owner == "a"
        lock.release()
        assert lock.statistics().owner == "b"
        await asyncio.gather(*members)
        assert got == ["b", "a"]
        assert not lock.locked()
        lock._check()

    run(main())


def test_coroutine_run_by_hand(run: Run, make: Make) -> None:
    """Somebody who runs a coroutine without a task waits, too: as a thread, which gets the lock in its turn."""

    async def main() -> None:
        lock, got = make(), list[str]()
        await lock.acquire()
        task = asyncio.create_task(enter(lock, got, "task"))
        await settle()
        loop = asyncio.get_running_loop()
        by_hand = enter(lock, got, "by hand")
        step: asyncio.Future[Any] = loop.create_future()

        def first() -> None:
            step.set_result(by_hand.send(None))

        loop.call_soon(first)
        future = await step
        lock.release()
        await task
        assert future.done()

        def go_on() -> None:
            by_hand.send(None)
            with pytest.raises(StopIteration):
                by_hand.send(None)

        loop.call_soon(go_on)
        await settle()
        assert got == ["task", "by hand"]
        assert not lock.locked()
        lock._check()

    run(main())


@pytest.mark.parametrize("starving", [False, True])
def test_closed(run: Run, monkeypatch: pytest.MonkeyPatch, starving: bool) -> None:
    """A coroutine that is closed while it waits leaves, and passes on what it was given."""
    monkeypatch.setattr(settings, "starvation_threshold_ns", AT_ONCE if starving else 10**15)

    async def main() -> None:
        lock, got = aio.Lock(), list[str]()
        await lock.acquire()
        lock._lockwatch._starving = starving
        first = enter(lock, got, "first")
        holder = asyncio.create_task(first, name="first")
        await settle()
        second = asyncio.create_task(enter(lock, got, "second"))
        await settle()
        lock.release()
        first.close()
        await second
        assert got == ["second"]
        assert not lock.locked()
        lock._check()
        with pytest.raises(RuntimeError):
            await holder

    run(main())


def test_victim(run: Run, make: Make) -> None:
    """A task that waits for its own lock gets the error at the ``async with``, and leaves nothing behind."""

    async def main() -> None:
        lock = make()
        async with lock:
            with pytest.raises(lockwatch.DeadlockError) as caught:
                async with lock:
                    pass
            assert caught.value.finding.cause == "self"
            assert not lock._waiters
            assert not tasks.current().waits
        lock._check()

    run(main())


def test_other_loop(make: Make) -> None:
    """A lock that was waited for in one loop cannot be in another."""

    async def contend() -> None:
        async with lock:
            await settle()

    async def main() -> None:
        await asyncio.gather(contend(), contend())

    lock = make()
    asyncio.run(main())
    with pytest.raises(RuntimeError, match="different event loop"):
        asyncio.run(main())


def test_gone_at_once(run: Run, make: Make) -> None:
    """What waiting made dies with its last reference: lock, record and wait, without the collector."""

    async def main() -> list[weakref.ref[Any]]:
        lock, got = make(), list[str]()
        await asyncio.gather(*(enter(lock, got, name) for name in "abc"))
        assert got == ["a", "b", "c"]
        return [weakref.ref(lock), weakref.ref(lock._lockwatch)]

    gc.collect()
    gc.disable()
    try:
        assert [one() for one in run(main())] == [None, None]
    finally:
        gc.enable()


def test_collected(run: Run, make: Make) -> None:
    """Tasks that wait for ever for a lock that only they have are collected, with it."""
    found: list[weakref.ref[Any]] = []

    async def main() -> None:
        lock = make()
        found.append(weakref.ref(lock))
        await lock.acquire()
        lock._lockwatch._became_signal()
        loop = asyncio.get_running_loop()
        task = loop.create_task(enter(lock, [], "a"))
        await settle()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        del task

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    del loop
    gc.collect()
    assert [one() for one in found] == [None]


def test_who_loses_stays_the_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Normal mode by ``async with`` alone: a task that lets go and takes again overtakes the head, which stays there."""
    monkeypatch.setattr(settings, "starvation_threshold_ns", 10**15)

    async def main() -> None:
        lock, got = aio.Lock(), list[str]()
        members = []
        async with lock:
            for name in "ab":
                members.append(asyncio.create_task(enter(lock, got, name), name=name))
                await settle()
        async with lock:
            await settle()
            assert got == []
            assert [wait.agent.label() for wait in lock._lockwatch._queue] == ["a", "b"]
            assert lock.statistics().mode == "normal"
        await asyncio.gather(*members)
        assert got == ["a", "b"]
        assert lock.statistics().handoffs == 0
        assert lock.statistics().acquisitions == 4
        lock._check()

    run(main())


def test_starving_are_handed_the_lock(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same past the threshold: once the head has lost, each gets the lock in turn, and nobody overtakes."""
    monkeypatch.setattr(settings, "starvation_threshold_ns", AT_ONCE)

    async def main() -> None:
        lock, got = aio.Lock(), list[str]()
        members = []
        async with lock:
            for name in "ab":
                members.append(asyncio.create_task(enter(lock, got, name), name=name))
                await settle()
        async with lock:
            await settle()
            assert lock.statistics().mode == "starvation"
        assert lock.statistics().owner == "a"
        await enter(lock, got, "c")
        await asyncio.gather(*members)
        assert got == ["a", "b", "c"]
        assert lock.statistics().handoffs == 3
        assert lock.statistics().mode == "normal"
        lock._check()

    run(main())
