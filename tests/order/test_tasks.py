"""Lock order among tasks: orders that can meet are found, those that cannot are not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

import pytest

import lockwatch
from lockwatch import aio, config
from lockwatch.aio import order

if TYPE_CHECKING:
    from tests.order.conftest import Stage

Job = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def _births_are_noted(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> None:
    """As under `install()`."""
    create = order.watched_create_task(asyncio.BaseEventLoop.create_task)
    monkeypatch.setattr(asyncio.BaseEventLoop, "create_task", create)


def pair(kind: type[aio.Lock] = aio.Lock, **keywords: Any) -> tuple[Job, Job]:
    """Two jobs that take two locks in opposite orders."""
    a, b = kind(name="a", **keywords), kind(name="b", **keywords)

    def job(first: aio.Lock, second: aio.Lock) -> Job:
        async def body() -> None:
            async with first:
                await asyncio.sleep(0)
                async with second:
                    pass

        return body

    return job(a, b), job(b, a)


async def later(event: asyncio.Event, work: Awaitable[None]) -> None:
    """Do something when an event has come."""
    await event.wait()
    await work


KINDS = [(aio.Lock, {}), (aio.Lock, {"fairness": "fifo"}), (aio.RLock, {})]


@pytest.mark.parametrize(("kind", "keywords"), KINDS, ids=["go", "fifo", "RLock"])
def test_two_tasks_that_were_made_together(stage: Stage, kind: type[aio.Lock], keywords: Any) -> None:
    """The first is done when the second begins, but nothing says that it always is; both sides are tasks."""

    async def main() -> None:
        one, other = pair(kind, **keywords)
        done = asyncio.Event()
        second = asyncio.create_task(later(done, other()), name="second")
        await asyncio.create_task(one(), name="first")
        done.set()
        await second

    asyncio.run(main())
    (finding,) = stage.found()
    assert [party.agent for party in finding.parties] == ["Task 'second'", "Task 'first'"]


def test_one_after_the_other_awaited(stage: Stage) -> None:
    """A task that was awaited is over before the next one is made."""

    async def main() -> None:
        one, other = pair()
        await asyncio.create_task(one())
        await asyncio.create_task(other())

    asyncio.run(main())
    assert stage.found() == []


@pytest.mark.parametrize("how", ["gather", "group", "wait", "wait_for", "shield"])
def test_ways_to_await(stage: Stage, how: str) -> None:
    """Whichever way a task is awaited, what comes then comes after it: in its creator, and in its next tasks."""

    async def awaited(job: Job) -> None:
        if how == "gather":
            await asyncio.gather(job(), asyncio.sleep(0))
        elif how == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(job())
        elif how == "wait":
            await asyncio.wait([asyncio.create_task(job())])
        elif how == "wait_for":
            await asyncio.wait_for(asyncio.create_task(job()), 20)
        else:
            await asyncio.shield(asyncio.create_task(job()))

    async def main() -> None:
        one, other = pair()
        await awaited(one)
        await other()
        await awaited(one)
        await awaited(other)

    asyncio.run(main())
    assert stage.found() == []


def test_what_a_creator_did_before(stage: Stage) -> None:
    """What a task did before it made another comes before that one."""

    async def main() -> None:
        one, other = pair()
        await one()
        await asyncio.create_task(other())

    asyncio.run(main())
    assert stage.found() == []


def test_what_a_creator_does_meanwhile(stage: Stage) -> None:
    """What it does after that, and before it awaits the other, may meet it: also in an order that it had before."""

    async def main() -> None:
        one, other = pair()
        await one()
        begin = asyncio.Event()
        task = asyncio.create_task(later(begin, other()))
        await one()
        begin.set()
        await task

    asyncio.run(main())
    assert len(stage.found()) == 1


def test_through_another_task(stage: Stage) -> None:
    """The work of grandchildren is over, too, when everybody was awaited."""

    async def main() -> None:
        one, other = pair()

        async def middle(job: Job) -> None:
            await asyncio.create_task(job())

        await asyncio.create_task(middle(one))
        await asyncio.create_task(middle(other))

    asyncio.run(main())
    assert stage.found() == []


def test_made_and_not_awaited(stage: Stage) -> None:
    """Handlers that a server makes may meet, also where a client is done with one before it wants the next."""

    async def main() -> None:
        one, other = pair()
        for job in (one, other):
            done = asyncio.Event()

            async def handler(job: Job = job, done: asyncio.Event = done) -> None:
                await job()
                done.set()

            task = asyncio.create_task(handler())
            await done.wait()
            del task
            await asyncio.sleep(0)

    asyncio.run(main())
    assert len(stage.found()) == 1


def test_handlers_of_a_server(stage: Stage) -> None:
    """Two requests to a real server, one after the other."""

    async def main() -> None:
        jobs = list(pair())

        async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await jobs.pop()()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with server:
            for _ in range(2):
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                await reader.read()
                writer.close()

    asyncio.run(main())
    assert len(stage.found()) == 1


def test_two_loops_one_after_the_other(stage: Stage) -> None:
    """What one ``asyncio.run`` did comes before the next one."""
    one, other = pair()
    asyncio.run(one())
    asyncio.run(other())
    assert stage.found() == []


def test_gate(stage: Stage) -> None:
    """A lock around both keeps them apart, also if the tasks' creator holds it for one, and the other takes it."""

    async def main() -> None:
        one, other = pair()
        gate = aio.Lock(name="gate")

        async def within(job: Job) -> None:
            async with gate:
                await job()

        await asyncio.gather(within(one), within(other))
        second = asyncio.create_task(within(other))
        async with gate:
            await asyncio.create_task(one())
        await second

    asyncio.run(main())
    assert stage.found() == []


def test_children_of_one_gate(stage: Stage) -> None:
    """A lock that the creator of both holds keeps nobody apart."""

    async def main() -> None:
        one, other = pair()
        async with aio.Lock(name="gate"):
            done = asyncio.Event()
            second = asyncio.create_task(later(done, other()))
            await asyncio.create_task(one())
            done.set()
            await second

    asyncio.run(main())
    assert len(stage.found()) == 1


@pytest.mark.parametrize("how", ["wait_for", "timeout", "try"])
def test_those_that_give_up(stage: Stage, how: str) -> None:
    """An acquire with a time-out, or that does not wait, cannot deadlock."""

    async def main() -> None:
        a, b = aio.Lock(name="a"), aio.Lock(name="b")

        async def forth() -> None:
            async with a, b:
                await asyncio.sleep(0)

        async def back() -> None:
            async with b:
                if how == "wait_for":
                    await asyncio.wait_for(a.acquire(), 20)
                elif how == "timeout":
                    async with asyncio.timeout(20):
                        await a.acquire()
                else:
                    assert a.try_acquire()
                a.release()

        begin = asyncio.Event()
        second = asyncio.create_task(later(begin, back()))
        await asyncio.create_task(forth())
        begin.set()
        await second

    asyncio.run(main())
    assert stage.found() == []


def test_raise(stage: Stage) -> None:
    """In mode ``raise`` the second task gets the error, and does not have the lock."""
    config.configure(order="raise")

    async def main() -> None:
        a, b = aio.Lock(name="a"), aio.Lock(name="b")

        async def forth() -> None:
            async with a, b:
                pass

        async def back() -> None:
            async with b:
                with pytest.raises(lockwatch.LockOrderError):
                    await a.acquire()
                assert not a.locked()

        await asyncio.gather(forth(), back())

    asyncio.run(main())
    assert len(stage.found()) == 1


def test_under_install(run_python: Callable[..., Any]) -> None:
    """Asyncio's own locks take part, and who made a task is noted; afterwards all is as before."""
    done = run_python(
        """
import asyncio
import lockwatch
from lockwatch._core import orderbook

before = asyncio.BaseEventLoop.create_task
lockwatch.install(report=None)

async def nest(first, second):
    async with first:
        await asyncio.sleep(0)
        async with second:
            pass

def count():
    orderbook.work_off()
    return sum(one.kind == "lock-order" for one in lockwatch.recorded_findings())

async def main():
    a, b, c, d = (asyncio.Lock() for _ in range(4))
    await asyncio.create_task(nest(a, b))
    await asyncio.create_task(nest(b, a))
    print(count())
    await asyncio.gather(nest(c, d), nest(d, c))

try:
    asyncio.run(main())
except lockwatch.DeadlockError:
    print("met")
print(count())
lockwatch.uninstall()
assert asyncio.BaseEventLoop.create_task is before
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "0"


def test_ignored_lock(stage: Stage) -> None:
    """A lock of tasks is left out as one of threads is; what else is there is not."""

    async def main(left_out: bool) -> None:
        a, b = aio.Lock(name="a"), aio.Lock(name="b")
        if left_out:
            lockwatch.ignore(a)

        async def nest(first: aio.Lock, second: aio.Lock) -> None:
            async with first, second:
                pass

        await asyncio.gather(nest(a, b), nest(b, a))

    asyncio.run(main(left_out=True))
    assert stage.found() == []
    asyncio.run(main(left_out=False))
    assert len(stage.found()) == 1


def test_assert_owned() -> None:
    """A task says that it has a lock, or has not; another task's does not count."""

    async def main() -> None:
        lock = aio.Lock(name="a")
        lock.assert_not_owned()
        with pytest.raises(
            lockwatch.MisuseError, match="'a' must be held by this task here, but nobody holds it"
        ):
            lock.assert_owned()
        async with lock:
            lock.assert_owned()
            with pytest.raises(
                lockwatch.MisuseError, match="must not be held by this task here, but task 'main'"
            ):
                lock.assert_not_owned()

            async def other() -> None:
                lock.assert_not_owned()
                with pytest.raises(lockwatch.MisuseError, match="task 'main' took it at"):
                    lock.assert_owned()

            await asyncio.create_task(other())

    async def named() -> None:
        await asyncio.create_task(main(), name="main")

    asyncio.run(named())
