"""Random programs of tasks against a brute-force answer: locks, events, queues, gather, cancellations, time-outs.

Deadlocks are only observed, so that nothing is untied: when nobody moves any more, the test's own notes say who holds
what and who waits for what, and a fixed point over them says who is stuck for certain.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lockwatch
from lockwatch import aio, delivery
from lockwatch._core import detector, tasks

if TYPE_CHECKING:
    from tests.aio.conftest import Run

LOCKS, TASKS = 3, 4
TURNS = 80

Op = tuple[Any, ...]

leaf = st.one_of(
    st.tuples(st.just("turn")),
    st.tuples(st.just("wait")),
    st.tuples(st.just("set")),
    st.tuples(st.just("get")),
    st.tuples(st.just("put")),
)
ways_out = st.one_of(leaf, st.tuples(st.just("cancel"), st.integers(0, TASKS - 1)))


def programs(leaves: st.SearchStrategy[Op], *, limits: bool) -> st.SearchStrategy[list[list[Op]]]:
    """Bodies of the tasks; sections nest up to three deep."""
    number = st.integers(0, LOCKS - 1)

    def nest(inner: st.SearchStrategy[Op]) -> st.SearchStrategy[Op]:
        body = st.lists(inner, max_size=3)
        sections = [st.tuples(st.just("lock"), number, body)] * 3
        gathered = st.tuples(st.just("gather"), body, body)
        limited = [st.tuples(st.just("limit"), number, body)] if limits else []
        return st.one_of(*sections, gathered, *limited)

    ops = st.recursive(leaves, nest, max_leaves=6)
    return st.lists(st.lists(ops, max_size=3), min_size=2, max_size=TASKS)


class World:
    """A run of one program, and what is noted of it, by the tasks' names: who has a task in hand could cancel it.

    Attributes:
        owner: Lock number -> the task that is in its section.
        waits: Task -> ("lock", number), ("gather", children) or ("open",).
    """

    def __init__(self, program: list[list[Op]], fairness: Any) -> None:
        self.program = program
        self.locks = [aio.Lock(fairness=fairness) for _ in range(LOCKS)]
        self.event, self.queue = aio.Event(), aio.Queue[int](1)
        self.owner: dict[int, str] = {}
        self.waits: dict[str, tuple[Any, ...]] = {}

    async def run(self) -> tuple[set[str], set[str], set[str]]:
        """Runs it; returns the names of all who are left, of those stuck for certain, and of those in findings."""
        spawn(self)
        await turns()
        if "limit" in str(self.program):
            await asyncio.sleep(0.01)
            await turns()
        look_again()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        names = {task.get_name() for task in left}
        stuck = self.stuck(names)
        found = {party.name for finding in lockwatch.recorded_findings() for party in finding.parties}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for lock in self.locks:
            lock._check()
            assert not lock.locked()
        return names, stuck, found

    def stuck(self, left: set[str]) -> set[str]:
        """Those who wait for locks of each other, and for children who do; anybody may end an open wait."""
        stuck = {name for name in left if self.waits.get(name, ("open",))[0] != "open"}
        while True:
            free = {
                name
                for name in stuck
                if not (self.needs(name) & left) or not self.needs(name) & left <= stuck
            }
            if not free:
                return stuck
            stuck -= free

    def needs(self, name: str) -> set[str]:
        """Whom a task waits for."""
        kind, what = self.waits[name]
        if kind == "lock":
            return {self.owner[what]} if what in self.owner else set()
        return set(what)


def look_again() -> None:
    """Looks at those who wait, as an idle loop does under ``install()``: a way out that there was has gone."""
    for agent in tasks.everyone():
        for wait in agent.waits.copy():
            detector.block(wait)


async def turns() -> None:
    """Lets everybody do what can be done."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


def spawn(world: World) -> None:
    """Starts the tasks. Nobody has them in hand, but they themselves if one of them is to cancel another."""
    handles: list[Any] = []
    cancels = "cancel" in str(world.program)
    for number, body in enumerate(world.program):
        task = asyncio.create_task(perform(world, f"t{number}", body, handles), name=f"t{number}")
        if cancels:
            handles.append(task)


async def perform(world: World, me: str, body: list[Op], handles: list[Any]) -> None:
    """Does what the operations say, and notes it."""
    for name, *rest in body:
        if name == "turn":
            await asyncio.sleep(0)
        elif name == "set":
            world.event.set()
        elif name == "cancel":
            if rest[0] < len(handles):
                handles[rest[0]].cancel()
        elif name in {"wait", "get", "put"}:
            world.waits[me] = ("open",)
            await (
                world.event.wait()
                if name == "wait"
                else world.queue.get()
                if name == "get"
                else world.queue.put(1)
            )
        elif name == "gather":
            names = [f"{me}.{number}" for number in range(2)]
            world.waits[me] = ("gather", names)
            await asyncio.gather(
                *(
                    asyncio.create_task(perform(world, one, inner, handles), name=one)
                    for one, inner in zip(names, rest, strict=True)
                )
            )
        elif name == "lock":
            world.waits[me] = ("lock", rest[0])
            async with world.locks[rest[0]]:
                await section(world, me, rest[0], rest[1], handles)
        else:
            world.waits[me] = ("lock", rest[0])
            try:
                await asyncio.wait_for(world.locks[rest[0]].acquire(), 0.001)
            except TimeoutError:
                continue
            try:
                await section(world, me, rest[0], rest[1], handles)
            finally:
                world.locks[rest[0]].release()


async def section(world: World, me: str, number: int, body: list[Op], handles: list[Any]) -> None:
    """Does what is to be done while the lock is held."""
    assert number not in world.owner, "two tasks are in one section"
    world.owner[number] = me
    try:
        await perform(world, me, body, handles)
    finally:
        world.owner.pop(number)


@pytest.mark.parametrize("fairness", ["go", "fifo"])
def test_certain(run: Run, fairness: str) -> None:
    """Without a way out: something is found exactly if somebody is stuck for certain, and only of those who are."""
    lockwatch.configure(mode="observe")

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(programs(leaf, limits=False))
    def play(program: list[list[Op]]) -> None:
        delivery.clear()
        left, stuck, found = run(World(program, fairness).run())
        assert found <= left
        assert bool(stuck) == bool(found), (left, stuck, found)

    play()


@pytest.mark.parametrize("fairness", ["go", "fifo"])
def test_with_ways_out(run: Run, fairness: str) -> None:
    """With cancellations and time-outs about: only those are found who never move again; no lock is left behind."""
    lockwatch.configure(mode="observe")

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(programs(ways_out, limits=True))
    def play(program: list[list[Op]]) -> None:
        delivery.clear()
        left, _, found = run(World(program, fairness).run())
        assert found <= left

    play()
