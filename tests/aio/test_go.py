"""Go's rules with tasks: barging, the switch to hand-off, FIFO order then, and the way back. And FIFO without them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lockwatch import aio
from lockwatch._core import settings

if TYPE_CHECKING:
    from tests.aio.conftest import Run

NEVER, AT_ONCE = 10**15, -1


async def settle(turns: int = 5) -> None:
    """Lets everybody who can run do so, for a few turns of the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)


@pytest.fixture
def threshold(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Sets the starvation threshold: ``threshold.setattr(...)``; never reached to begin with."""
    monkeypatch.setattr(settings, "starvation_threshold_ns", NEVER)
    return monkeypatch


async def crew(lock: aio.Lock, got: list[str], names: str) -> list[asyncio.Task[None]]:
    """Starts tasks that queue for the lock in this order, note that they got it, and let go."""

    async def member(name: str) -> None:
        await lock.acquire()
        got.append(name)

    tasks = []
    for name in names:
        tasks.append(asyncio.create_task(member(name), name=name))
        await settle()
    return tasks


def test_running_task_overtakes(run: Run, threshold: pytest.MonkeyPatch) -> None:
    """Normal mode: a release frees the lock and wakes the head; who runs meanwhile takes it, and the head waits on."""

    async def main() -> None:
        lock, got = aio.Lock(), list[str]()
        await lock.acquire()
        await crew(lock, got, "ab")
        lock.release()
        assert not lock.locked()
        assert lock.try_acquire()  # before "a" runs
        await settle()
        assert got == []
        assert [wait.agent.label() for wait in lock._lockwatch._queue] == [
            "a",
            "b",
        ]  # the loser is the head again
        lock._check()
        assert lock.statistics().handoffs == 0
        lock.release()
        await settle()
        assert got == ["a"]
        lock.release()
        await settle()
        assert got == ["a", "b"]
        lock.release()
        lock._check()

    run(main())


def test_starving_waiter_is_handed_the_lock(run: Run, threshold: pytest.MonkeyPatch) -> None:
    """A waiter that loses past the threshold switches to hand-off: nobody overtakes, newcomers queue at the tail."""

    async def main() -> None:
        lock, got = aio.Lock(), list[str]()
        await lock.acquire()
        await crew(lock, got, "ab")
        lock.release()
        assert lock.try_acquire()
        threshold.setattr(settings, "starvation_threshold_ns", AT_ONCE)
        await settle()  # "a" wakes, loses, and starves
        assert lock.statistics().mode == "starvation"
        assert not lock.try_acquire()
        lock.release()
        assert lock.locked()  # it was never free
        assert lock.statistics().owner == "a"
        assert not lock.try_acquire()
        await crew(lock, got, "c")
        assert got == ["a"]
        lock.release()
        await settle()
        lock.release()
        await settle()
        assert got == ["a", "b", "c"]
        assert lock.statistics().handoffs == 3
        assert lock.statistics().mode == "normal"  # the last one left it
        lock.release()
        lock._check()

    run(main())


def test_release_sees_that_the_woken_head_starves(run: Run, threshold: pytest.MonkeyPatch) -> None:
    """A task that never gives the loop a turn hands over once the head, woken before, is past the threshold."""

    async def main() -> None:
        lock, got = aio.Lock(), list[str]()
        await lock.acquire()
        await crew(lock, got, "a")
        lock.release()
        assert lock.try_acquire()
        threshold.setattr(settings, "starvation_threshold_ns", AT_ONCE)
        lock.release()
        assert lock.statistics().owner == "a"
        await settle()
        assert got == ["a"]
        lock.release()

    run(main())


def test_mode_is_left_when_nobody_starves(run: Run, threshold: pytest.MonkeyPatch) -> None:
    """A waiter that gets the lock within the threshold ends the starvation mode, though others wait."""

    async def main() -> None:
        lock, got = aio.Lock(), list[str]()
        await lock.acquire()
        await crew(lock, got, "ab")
        lock._lockwatch._starving = True
        lock.release()
        await settle()
        assert got == ["a"]
        assert lock.statistics().mode == "normal"
        assert lock.statistics().waiters == 1
        lock.release()
        await settle()
        lock.release()
        lock._check()

    run(main())


def test_clock_runs_on(run: Run, threshold: pytest.MonkeyPatch) -> None:
    """A waiter that is woken and loses is as old as before."""

    async def main() -> None:
        lock = aio.Lock()
        await lock.acquire()
        (task,) = await crew(lock, [], "a")
        (wait,) = lock._lockwatch._queue
        since = wait.since_ns
        lock.release()
        assert lock.try_acquire()
        await settle()
        assert lock._lockwatch._queue == [wait]
        assert wait.since_ns == since
        lock.release()
        await task
        lock.release()

    run(main())


def test_fifo_never_overtakes(run: Run, threshold: pytest.MonkeyPatch) -> None:
    """``fairness="fifo"``: who comes along while a woken waiter has not run yet queues behind all others."""

    async def main() -> None:
        lock, got = aio.Lock(fairness="fifo"), list[str]()
        await lock.acquire()
        await crew(lock, got, "ab")
        lock.release()
        assert not lock.locked()
        assert not lock.try_acquire()
        await crew(lock, got, "c")
        assert got == ["a"]
        for _ in range(2):
            lock.release()
            await settle()
        assert got == ["a", "b", "c"]
        lock.release()
        lock._check()

    run(main())


def test_unknown_fairness() -> None:
    """There are two kinds of fairness."""
    with pytest.raises(ValueError, match="'fair'"):
        aio.Lock(fairness="fair")  # type: ignore[arg-type]
