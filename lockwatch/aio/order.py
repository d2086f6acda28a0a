"""Lock order among tasks: what `lockwatch._core.lockorder` has to know of them beside what they hold.

Tasks have segments as threads do (`lockwatch._core.segments`): a task comes after what its creator did before, and
whoever awaits a task comes after all that it did. Who made a task is noted when it is made (`watched_create_task`,
under `install()`); that somebody awaits it is read off its callbacks when it takes a lock in a new order, and when it
ends. What was made and was not awaited may run at any time: two requests to a server do, also where a test makes them
one by one.

Guarantees: no cost for tasks that hold one lock at a time, but that of noting who made them (0.4 us). A task that
gives up by itself (`asyncio.timeout` and ``wait_for`` around the acquire) is not learned from. Without `install()`,
and with loops that are not asyncio's, nobody notes who made a task: all of them may run at any time then.

Assumes: all of it happens in the loop's thread.
"""

from __future__ import annotations

import asyncio
from functools import wraps
from typing import TYPE_CHECKING, Any
from weakref import ref

from lockwatch._core import agents, chains, lockorder, segments, settings, tasks
from lockwatch._core.chains import Tally
from lockwatch._core.holds import AGENT
from lockwatch._core.segments import Clock, Past
from lockwatch.aio import cancels

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockwatch._core.agents import Agent
    from lockwatch._core.holds import Hold
    from lockwatch._core.tasks import TaskAgent

_BIRTH = "_lockwatch_birth"
"""Where a task has: the task that made it, or else the thread's agent; what had happened before."""

_current_task = asyncio.current_task


class TaskClock(Clock):
    """The clock of a task.

    Attributes:
        creator: The agent that made the task, if that is known.
        before: What had happened before the task was made.
        children: The tasks that it made, of those that have a clock, with their agents.
        joined: Whether the creator was seen to await the task.
    """

    __slots__ = ("before", "children", "creator", "joined")

    def __init__(self, seen: Past = segments.NOTHING) -> None:
        super().__init__(seen)
        self.before = self.seen
        self.creator: Agent | None = None
        self.children: list[tuple[ref[Any], Agent]] = []
        self.joined = False


def watched_create_task(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a loop's ``create_task`` to note who makes the task, and what it holds and has done by then."""

    @wraps(original)
    def create_task(self: Any, *args: Any, **kwargs: Any) -> Any:
        task = original(self, *args, **kwargs)
        if settings.order:
            creator = _current_task(self)
            if creator is not None:
                _born(task, ref(creator), getattr(creator, "_lockwatch_agent", None))
            elif not self.is_running():
                _born(task, None, agents.current())
        return task

    return create_task


def _born(task: Any, creator: ref[Any] | None, agent: Agent | None) -> None:
    before: Past | None = None
    try:
        if agent is not None:
            if agent.clock is not None:
                _absorb(agent)
                before = segments.release(agent)
            if agent.holds:
                setattr(task, segments.INHERITED, (agent, tuple(agent.holds.items())))
        task._lockwatch_birth = creator, agent, before
    except AttributeError:
        pass  # a task class of somebody's own, without attributes


def learn(lock: Any, record: Any, hold: Hold, release: Callable[[Any, Any], None]) -> None:
    """Learn the order in which an agent holds its locks, if it holds others beside the one just taken.

    Args:
        lock: The lock.
        record: What is known of it.
        hold: The hold.
        release: Lets go of the lock again, given both.

    Raises:
        LockOrderError: In mode ``raise``, for an order that can deadlock; the lock is released then.
    """
    agent = hold[AGENT]
    if not settings.order or not 2 <= len(agent.holds) <= chains.DEEPEST:
        return
    chain = tuple(agent.holds)
    tally = chains.known(agent, chain)
    if tally is not None:
        tally.count += 1
        return
    if not lockorder.is_wanted(agent, chain):
        chains.pass_over(agent, chain)
        return
    task: Any = asyncio.current_task()
    try:
        if agent.kind == "task":
            _look_at(agent, agent.task_ref())
        if task is not None and cancels.ends_by_itself(task):
            chains.remember(agent, chain, Tally(), agent.era)
            return
        lockorder.look(agent, record, hold, chain)
    except BaseException:
        release(lock, record)
        raise


def _look_at(agent: Any, task: Any) -> None:
    """Bring an agent's clock up to date: what it has awaited is over, and somebody may await it, or its creator."""
    if agent.clock is None:
        _begin(agent, task)
    _absorb(agent)
    while task is not None and agent.kind == "task":
        clock: Any = agent.clock
        maker: Any = clock.creator
        if maker is None or maker.kind != "task":
            return
        creator = maker.task_ref()
        if not clock.joined and creator is not None:
            clock.joined = creator._fut_waiter is task or id(creator) in cancels.waiting_for(task)
        agent, task = maker, creator


def _begin(agent: TaskAgent, task: Any) -> None:
    creator, maker, before = getattr(task, _BIRTH, (None, None, None))
    parent = None if creator is None else creator()
    if parent is not None and not parent.done():
        maker = tasks.agent_of(parent)
        if maker.clock is None:
            _begin(maker, parent)
        if before is None and isinstance(maker.clock, TaskClock):
            before = maker.clock.before  # it knew nothing else yet
    agent.clock = clock = TaskClock(before or segments.NOTHING)
    clock.creator = maker
    if maker is not None and isinstance(maker.clock, TaskClock):
        maker.clock.children.append((ref(task), agent))
    if not task.done():
        task.add_done_callback(_finished)


def _absorb(agent: Agent) -> None:
    """Learn what the children did that are done, and were awaited."""
    clock = agent.clock
    if not isinstance(clock, TaskClock) or not clock.children:
        return
    for entry in clock.children.copy():
        child = entry[0]()
        if child is None or child.done():
            clock.children.remove(entry)
            over: Any = entry[1].clock
            if over.joined:
                _absorb(entry[1])
                segments.acquire(agent, over)


def _finished(task: Any) -> None:
    clock = tasks.agent_of(task).clock
    if not isinstance(clock, TaskClock):
        return
    maker: Any = clock.creator
    if maker is None:
        return
    if maker.kind == "thread":  # it runs the loop until this task is done
        segments.acquire(maker, clock)
        return
    creator = maker.task_ref()
    if creator is not None and creator._fut_waiter is task:
        clock.joined = True
    _absorb(maker)
