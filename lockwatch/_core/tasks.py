"""Tasks of asyncio as agents: who they are, what each waits for, and how one is given an error.

A task costs nothing while it runs, and nothing per ``await``: what it waits for is read off it when somebody
asks (its ``_fut_waiter``), except for a wait for one of our own locks, which is published as a thread's is.
What a future stands for (a lock, another task, a ``gather``) is policy, and lies in `lockwatch.aio`; it is
asked through `resource_of` and `may_end_otherwise`.

Guarantees:
  * One agent per task, kept in the task's own attributes, so that it dies with the task. Nothing here keeps a
    task or a loop alive.
  * A task needs the thread of its loop: while that is blocked (not merely idle in the loop), every task of the
    loop waits for that thread, whatever else it waits for.
  * A victim gets its error on its loop's thread, at its ``await``, as from a future that failed; the future that
    it awaited is left as it was.

Assumes: ``asyncio.Task._fut_waiter``, ``Future._callbacks`` with the task's wake-up in it as a bound method, and
that tasks have attributes, as from 3.11 to 3.15, with asyncio's C and Python classes and with uvloop's loops.
Reading another thread's task is one attribute load each; what was read is validated as all edges are.
"""

from __future__ import annotations

import weakref
from asyncio import all_tasks, current_task
from functools import partial
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from lockwatch._core import agents, hooks, leftovers, parking
from lockwatch._core.agents import Agent
from lockwatch._core.holds import AGENT, CODE, HOW
from lockwatch._core.waits import ALL, NOBODY, OPEN, VERDICT, Blockers, Victim, Wait, innermost

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from lockwatch._core.holds import Hold
    from lockwatch._core.waits import Resource

_ATTRIBUTE = "_lockwatch_agent"


class TaskAgent(Agent):
    """A task as an owner and waiter.

    Attributes:
        task_ref: A weak reference to the task.
        loop_ref: A weak reference to its loop.
        end_watched: Whether somebody is told of its end (`lockwatch.aio.record`).
    """

    __slots__ = ("_home", "_read", "_turn", "end_watched", "loop_ref", "task_ref")

    def __init__(self, task: Any) -> None:
        self.serial = next(agents._serials)
        self.kind = "task"
        self.ident = self.native_id = 0
        self.name = task.get_name()
        self.daemon = None
        self.main = False
        self.lost_in_fork = False
        self.weight = 0
        self.holds = {}
        self.waits = []
        self.joiners = []
        self.thread_ref = self.end_mark = None
        self.chains = {}
        self.era = None
        self.clock = None
        self.task_ref = weakref.ref(task, partial(_task_gone, weakref.ref(self)))
        self.loop_ref = weakref.ref(task.get_loop())
        self.end_watched = False
        self._home: Agent | None = None
        self._read: TaskWait | None = None
        self._turn: TaskWait | None = None

    @property
    def ended(self) -> bool:  # type: ignore[override]
        """Whether the task is done, or can never run again as its loop is closed."""
        task, loop = self.task_ref(), self.loop_ref()
        return task is None or loop is None or task.done() or loop.is_closed()

    def label(self) -> str:
        """Return the task's name as it is now."""
        task = self.task_ref()
        return self.name if task is None else task.get_name()

    def runner(self) -> Agent | None:
        """Return the thread that runs the loop, or None if none does, or if that is not known."""
        loop = self.loop_ref()
        if loop is None:
            return None
        try:
            ident = loop._thread_id
        except AttributeError:
            return self._home
        return agents.by_ident.get(ident) or agents.lost.get(ident)

    def thread(self) -> Any:
        """Return the ``Thread`` object of the thread that runs the loop."""
        runner = self.runner()
        return None if runner is None else runner.thread()

    def coroutine_frames(self) -> list[FrameType]:
        """Return the frames of the coroutines in which the task stands, outermost first."""
        task = self.task_ref()
        return [] if task is None or task.done() else frames_of(task)

    def innermost(self) -> Wait | None:
        """Return what the task waits for right now: its thread's turn, one of our locks, or what is read off it."""
        task = self.task_ref()
        if task is None or task.done():
            return None
        runner = self.runner()
        blocked = None if runner is None else innermost(runner)
        if (
            runner is None
            or runner.ended
            or (blocked is not None and blocked.resource.__class__ is not IdleLoop)
        ):
            turn = self._turn
            if turn is None or turn.resource.runner is not runner:  # type: ignore[attr-defined]
                turn = self._turn = TaskWait(self, _Turn(runner))
            return turn
        try:
            return self.waits[-1]
        except IndexError:
            pass
        future = getattr(task, "_fut_waiter", None)
        if future is None or future.done():
            return None
        wait = self._read
        if wait is None or wait.future is not future:
            wait = TaskWait(self, resource_of(task, future), future)
            if wait.resource.__class__ is not UnreadFuture:
                self._read = wait
        return wait


def _task_gone(agent_ref: weakref.ref[TaskAgent], _task_ref: object) -> None:
    """Have a task's end noticed that nobody watched, if it holds something: the task has died, as an object."""
    agent = agent_ref()
    if agent is not None and agent.holds:
        leftovers.note_gone(agent)


class _Turn:
    """The turn of a task whose loop's thread is blocked: only that thread can give it.

    Attributes:
        runner: The thread; None if the loop does not run, and anybody may make it run.
    """

    __slots__ = ("runner",)

    kind = "turn in the event loop"
    lock_class = "event loop"
    name = None

    def __init__(self, runner: Agent | None) -> None:
        self.runner = runner

    def blockers(self, _wait: Wait, /) -> Blockers:
        """Name the thread."""
        return Blockers(OPEN) if self.runner is None else Blockers(ALL, (self.runner,), self.runner)

    def forget_waits(self, survivor: Agent, /) -> None:
        """Nothing is kept here."""


class IdleLoop:
    """An event loop that has nothing to do, as what its thread waits for: anybody may give it something.

    Published only where the loop waits for nothing of its own: no timer, no I/O.
    """

    __slots__ = ("loop_ref",)

    kind = "event loop"
    lock_class = "event loop"
    name = None

    def __init__(self, loop: Any) -> None:
        self.loop_ref = weakref.ref(loop)

    def blockers(self, _wait: Wait, /) -> Blockers:
        """Anybody, unless somebody has given it something."""
        loop = self.loop_ref()
        return NOBODY if loop is None or loop._ready else Blockers(OPEN)

    def forget_waits(self, survivor: Agent, /) -> None:
        """Nothing is kept here."""


class UnreadFuture:
    """A future of which nothing can be told just now: anybody may complete it. Read anew each time."""

    __slots__ = ("future",)

    kind = "Future"
    lock_class = "Future"
    name = None

    def __init__(self, future: Any) -> None:
        self.future = future

    def blockers(self, _wait: Wait, /) -> Blockers:
        """Anybody, until it is done."""
        return NOBODY if self.future.done() else Blockers(OPEN)

    def forget_waits(self, survivor: Agent, /) -> None:
        """Nothing is kept here."""


def _any_future(_task: Any, future: Any) -> Resource:
    return UnreadFuture(future)


def _never(_wait: TaskWait) -> bool:
    return False


def _no_frames(_task: Any) -> list[FrameType]:
    return []


resource_of: Callable[[Any, Any], Resource] = _any_future
"""Says what a future that a task awaits stands for: (task, future)."""
frames_of: Callable[[Any], list[FrameType]] = _no_frames
"""Returns the frames of the coroutines in which a task stands, outermost first."""
may_end_otherwise: Callable[[TaskWait], bool] = _never
"""Says whether a time-out, or somebody awake who has the task in hand, may yet cancel the task in this wait."""


class TaskWait(Wait):
    """A task's wait.

    Attributes:
        future: The future that the task awaits, or will await next; None for a wait for its turn.
    """

    __slots__ = ("future",)

    def __init__(
        self,
        agent: Agent,
        resource: Resource,
        future: Any = None,
        code: CodeType | None = None,
        lasti: int = -1,
    ) -> None:
        super().__init__(agent, resource, monotonic_ns(), None, code, lasti)
        self.future = future

    def can_raise(self) -> bool:
        """Whether the task could be given an error now: it is suspended, and its thread is not blocked."""
        agent = self.agent
        return self.raises and self.future is not None and not agent.ended and agent.innermost() is self

    def may_end_otherwise(self) -> bool:
        """Whether a time-out or a cancellation may still end it."""
        return may_end_otherwise(self)

    def wake(self) -> None:
        """Have a victim's error raised at its ``await``, on its loop's thread. Without a verdict: nothing to do."""
        loop = self.agent.loop_ref()  # type: ignore[attr-defined]
        if loop is not None and isinstance(self.slot.get(VERDICT), Victim):
            try:
                loop.call_soon_threadsafe(_raise_in_task, self)
            except RuntimeError:
                pass  # the loop has been closed


def _raise_in_task(wait: TaskWait) -> None:
    """Wake the task with a future that has failed, in place of the one that it awaits."""
    agent: Any = wait.agent
    task, future = agent.task_ref(), wait.future
    verdict = wait.slot.get(VERDICT)
    if task is None or task.done() or task._fut_waiter is not future or future.done():
        return
    if not isinstance(verdict, Victim):
        return
    callbacks: list[Any] = list(future._callbacks or ())
    for callback, context in callbacks:
        if getattr(callback, "__self__", None) is task:
            future.remove_done_callback(callback)
            failed = future.get_loop().create_future()
            failed.set_exception(hooks.error(verdict.finding))
            failed.get_loop().call_soon(callback, failed, context=context)
            return


def current() -> Agent:
    """Return the agent of the task that runs in this thread, or, outside of tasks, the thread's."""
    try:
        task: Any = current_task()
    except RuntimeError:  # no loop runs in this thread
        return agents.current()
    if task is None:
        return agents.current()
    try:
        return task._lockwatch_agent  # type: ignore[no-any-return]
    except AttributeError:
        agent = agent_of(task)
        agent._home = agents.current()
        return agent


def agent_of(task: Any) -> TaskAgent:
    """Return the agent of a task; the first call for it makes it."""
    try:
        return task._lockwatch_agent  # type: ignore[no-any-return]
    except AttributeError:
        pass
    agent = TaskAgent(task)
    try:
        claimed: TaskAgent = task.__dict__.setdefault(_ATTRIBUTE, agent)
    except (AttributeError, TypeError):  # asyncio's C class has no __dict__; some subclasses' fails
        claimed = _claimed.setdefault(task, agent)
        try:
            claimed = task._lockwatch_agent = getattr(task, _ATTRIBUTE, claimed)
        except AttributeError:
            pass  # a task class of somebody's own, without attributes
        else:
            _claimed.pop(
                task, None
            )  # whoever claims it from now on sees the attribute; this would keep the task
    if claimed is agent:
        loops.add(task.get_loop())
    return claimed


_claimed: weakref.WeakKeyDictionary[Any, TaskAgent] = weakref.WeakKeyDictionary()
loops: weakref.WeakSet[Any] = weakref.WeakSet()
"""The loops that have been seen."""


def everyone() -> list[Agent]:
    """Return the agents of all tasks that are not done, of all loops seen. Cost: proportional to their number."""
    return [agent for loop in list(loops) if not loop.is_closed() for agent in of_loop(loop)]


def task_with(loop: Any, hold: Hold) -> Agent | None:
    """Return the task that took a thread's lock by ``with`` and awaits inside that block, if there is just one."""
    found = [
        agent
        for agent in of_loop(loop)
        if hold[HOW] and any(frame.f_code is hold[CODE] for frame in agent.coroutine_frames())
    ]
    return found[0] if len(found) == 1 else None


def _responsible(wait: Wait, hold: Hold) -> Agent:
    """Return the task that holds a lock in its thread's name, or else the owner.

    Looked for when the thread idles in its loop, or the wait is a long one: it takes a look at all tasks.
    """
    owner: Agent = hold[AGENT]
    last = innermost(owner)
    idle = last is not None and last.resource.__class__ is IdleLoop
    if owner.kind == "thread" and (idle or monotonic_ns() - wait.since_ns > parking.LONG_NS):
        for loop in list(loops):
            if getattr(loop, "_thread_id", None) == owner.ident:
                return task_with(loop, hold) or owner
    return owner


def of_loop(loop: Any) -> list[Agent]:
    """Return the agents of a loop's tasks that are not done, in an order that does not change from look to look."""
    found = all_tasks(loop)
    unknown = [task for task in found if not hasattr(task, _ATTRIBUTE)]
    for task in sorted(unknown, key=_by_name):
        agent_of(task)
    return sorted((agent_of(task) for task in found), key=lambda agent: agent.serial)


def _by_name(task: Any) -> tuple[int, str]:
    name: str = task.get_name()
    return len(name), name


agents.families.append(everyone)
agents.acting = current
agents.responsible = _responsible
