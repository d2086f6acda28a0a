"""What a task waits for, read off the future that it awaits and off the coroutines in which it stands.

==============================  =====================================================================
awaited                         blockers
==============================  =====================================================================
a task                          ALL: that task
``gather``, ``TaskGroup``       ANY of the tasks that are left (one that fails would end it);
                                ALL of them with ``return_exceptions=True``
``wait``                        ALL of the tasks that are left; ANY for ``FIRST_COMPLETED`` and
                                ``FIRST_EXCEPTION``
``shield``, ``wait_for``        as what is inside
``run_in_executor``,            as the future of ``concurrent.futures``: the thread that runs it, or ANY
``to_thread``, ``wrap_future``  worker of its pool
``Event``, ``Condition``,       OPEN: anyone awake
``Barrier``, ``Queue``
any other future                OPEN
==============================  =====================================================================

Locks and semaphores are not read: their waits are published by `lockwatch.aio`'s own classes, and, under
`install()`, by asyncio's.

Guarantee: an answer other than OPEN is given only for futures that asyncio made itself and hands to nobody else. A
future that is recognised as nothing may be completed by anybody.

Assumes: the names of asyncio's inner functions and their variables, as from 3.11 to 3.15. Where one is missing, the
answer is OPEN.

Cost: per question proportional to the depth of the await chain and the number of tasks that are awaited.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import Future as ThreadFuture
from typing import TYPE_CHECKING, Any

from lockwatch._core import agents, tasks
from lockwatch._core.originals import HAS_GIL
from lockwatch._core.tasks import agent_of
from lockwatch._core.waits import ALL, ANY, FREE, NOBODY, OPEN, Blockers
from lockwatch.aio.chain import callbacks_of, frames_of, is_librarys, name_in, variable
from lockwatch.locks import things
from lockwatch.locks.things import future_blockers

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from lockwatch._core.agents import Agent
    from lockwatch._core.waits import Resource, Wait

_ANYBODY = Blockers(OPEN)
_BEGINS = "run_coroutine_threadsafe.<locals>.callback"


class Awaited:
    """What a task waits for, as a resource.

    Attributes:
        kind: "end of task", "gather", "asyncio.Event", ...
        lock_class: Where it was made, or the kind, if nothing is known of that.
        future: The future that the task awaits.
        subject: The object itself: tells one event from another.
    """

    __slots__ = ("_created", "_name", "_waiter", "future", "kind", "lock_class", "subject")

    def __init__(self, kind: str, future: Any, subject: Any = None, name: str | None = None) -> None:
        self.kind = kind
        self.future = future
        self.subject = future if subject is None else subject
        origin = getattr(subject, "_lockwatch", None)  # where it was made, if noted: `lockwatch.aio.origin`
        self.lock_class: str = getattr(origin, "lock_class", kind)
        self._created: tuple[CodeType, int] | None = getattr(origin, "_created", None)
        self._name: str | None = getattr(origin, "name", name)
        self._waiter: Agent | None = None

    def awaited_by(self, task: Any) -> Awaited:
        """Note the task whose variables may have a name for the subject."""
        self._waiter = agent_of(task)
        return self

    @property
    def name(self) -> str | None:
        """What it is called: by itself, or by the variable or attribute that the waiting coroutine has it in."""
        if self._name is None and self._waiter is not None and self.kind.startswith(("asyncio.", "Future")):
            self._name = name_in(self._waiter.coroutine_frames(), self.subject)
        return self._name

    def blockers(self, wait: Wait, /) -> Blockers:
        """Say who could complete the future, unless that has happened."""
        return NOBODY if self.future.done() else self.enders(wait.hope)

    def enders(self, _hope: bool) -> Blockers:
        """Say who could complete it; with ``hope``, that somebody else may cancel a thread's future."""
        return _ANYBODY

    def forget_waits(self, survivor: Agent, /) -> None:
        """Nothing is kept here."""


class Single(Awaited):
    """One future that decides: a task, a future of a pool, what is inside a ``shield``."""

    __slots__ = ()

    def enders(self, hope: bool) -> Blockers:
        """Say who could complete what is awaited."""
        return enders_of(self.subject, hope)


class Several(Awaited):
    """Several futures at once.

    Attributes:
        everyone: Whether all of them must be done.
    """

    __slots__ = ("everyone",)

    def __init__(self, kind: str, future: Any, futures: Any, *, everyone: bool) -> None:
        super().__init__(kind, future, futures)
        self.everyone = everyone

    def enders(self, hope: bool) -> Blockers:
        """Combine the answers for each."""
        answers = [enders_of(future, hope) for future in list(self.subject) if not future.done()]
        if not answers:
            return NOBODY  # all are done: the task will be told
        if self.everyone:
            needed = dict.fromkeys(agent for answer in answers if _certain(answer) for agent in answer.agents)
            return Blockers(ALL, tuple(needed)) if needed else answers[0]
        if any(answer.rule is OPEN for answer in answers):
            return _ANYBODY
        if any(answer.rule is FREE for answer in answers):
            return NOBODY
        enough = tuple(dict.fromkeys(agent for answer in answers for agent in answer.agents))
        return Blockers(ANY if len(enough) > 1 else ALL, enough)


def _certain(answer: Blockers) -> bool:
    return answer.rule is ALL and not answer.soft


def enders_of(future: Any, hope: bool) -> Blockers:
    """Say who could complete one future; with ``hope``, that somebody else may cancel a thread's."""
    if isinstance(future, ThreadFuture):
        return future_blockers(future, hope)
    if future.done():
        return NOBODY
    if asyncio.isfuture(future) and hasattr(future, "get_coro"):
        task = agent_of(future)
        return Blockers(ALL, (task,), task)
    resource = _by_callbacks(future)
    return _ANYBODY if resource is None else resource.enders(hope)


def of_thread_future(future: Any) -> Blockers | None:
    """Say who could complete a future that ``run_coroutine_threadsafe`` made: its task, or the thread to begin that."""
    for callback in list(getattr(future, "_done_callbacks", ())):
        if getattr(callback, "__qualname__", "") == "_chain_future.<locals>._call_check_cancel":
            source = variable(callback, "source")
            if source is not None and asyncio.isfuture(source):
                return enders_of(source, True)
    for loop in known_loops():
        for handle in list(loop._ready):
            callback = getattr(handle, "_callback", None)
            name = getattr(callback, "__qualname__", "")
            if name == _BEGINS and variable(callback, "future") is future:
                runner = agents.by_ident.get(getattr(loop, "_thread_id", None) or 0)
                return None if runner is None else Blockers(ALL, (runner,), runner)
    return None


def known_loops() -> list[Any]:
    """Return the open loops that have been seen, and the one that runs in this thread."""
    running = asyncio._get_running_loop()
    loops = [loop for loop in list(tasks.loops) if loop is not running]
    return [
        loop
        for loop in [*loops, *([running] if running is not None else [])]
        if hasattr(loop, "_ready") and not loop.is_closed()
    ]


def resource_of(task: Any, future: Any) -> Resource:
    """Return what ``future``, which ``task`` awaits, stands for."""
    if hasattr(future, "get_coro"):
        return Single("end of task", future, name=future.get_name())
    resource = _by_callbacks(future)
    if resource is not None:
        return resource
    if not may_read_frames(task):
        return tasks.UnreadFuture(future)
    found: Awaited | None = None
    for frame in reversed(frames_of(task)):
        if not is_librarys(frame):
            break  # the program's own: what it called is what it waits for
        build = _BUILDERS.get(frame.f_code)
        if build is not None:
            try:
                found = build(frame, future)
            except (AttributeError, KeyError, TypeError):  # a version that keeps it elsewhere
                pass
    return (found or Awaited("Future", future)).awaited_by(task)


def _by_callbacks(future: Any) -> Awaited | None:
    """Recognise a future that asyncio made, by what hangs on it."""
    children = getattr(future, "_children", None)
    if children is not None and type(future).__name__ == "_GatheringFuture":
        return Several("gather", future, children, everyone=_returns_exceptions(children))
    for callback in callbacks_of(future):
        name = getattr(callback, "__qualname__", "")
        if name == "_chain_future.<locals>._call_check_cancel":
            source = variable(callback, "source")
            if source is not None and source is not future:
                return Single("Future", future, source)
        elif name == "shield.<locals>._outer_done_callback":
            inner = variable(callback, "inner")
            if inner is not None:
                return Single("shield", future, inner)
    return None


def _returns_exceptions(children: Any) -> bool:
    for child in children:
        for callback in callbacks_of(child):
            if getattr(callback, "__qualname__", "") == "gather.<locals>._done_callback":
                return bool(variable(callback, "return_exceptions"))
    return False


def may_read_frames(task: Any) -> bool:
    """Whether the task's frames stand still: its thread is ours, or idle, or all threads stand still with the GIL."""
    if HAS_GIL:
        return True
    runner = agent_of(task).runner()
    return runner is None or runner is agents.current() or runner.innermost() is not None


# --- by the coroutine that awaits ------------------------------------------------------------------------


def _of_self(kind: str) -> Callable[[FrameType, Any], Awaited]:
    def build(frame: FrameType, future: Any) -> Awaited:
        return Awaited(kind, future, frame.f_locals["self"])

    return build


def _wait(frame: FrameType, future: Any) -> Awaited:
    """``asyncio.wait``: its time-out is a timer, which is looked for elsewhere."""
    variables = frame.f_locals
    everyone = variables["return_when"] == asyncio.ALL_COMPLETED
    return Several("wait", future, variables["fs"], everyone=everyone)


def _wait_for(frame: FrameType, future: Any) -> Awaited:
    """``asyncio.wait_for`` up to 3.11: the coroutine runs in a task of its own."""
    return Single("wait_for", future, frame.f_locals["fut"])


def _group(frame: FrameType, future: Any) -> Awaited:
    group = frame.f_locals["self"]
    if future is not group._on_completed_fut:
        return Awaited("Future", future)
    return Several("TaskGroup", future, group._tasks, everyone=False)


def _builders() -> dict[CodeType, Callable[[FrameType, Any], Awaited]]:
    """List asyncio's own coroutines that wait, by code object."""
    module: Any = asyncio.tasks
    table: list[tuple[Any, str, Callable[[FrameType, Any], Awaited]]] = [
        (asyncio.Event, "wait", _of_self("asyncio.Event")),
        (asyncio.Condition, "wait", _of_self("asyncio.Condition")),
        (asyncio.Barrier, "_wait", _of_self("asyncio.Barrier")),
        (asyncio.Barrier, "_block", _of_self("asyncio.Barrier")),
        (asyncio.Queue, "get", _of_self("asyncio.Queue")),
        (asyncio.Queue, "put", _of_self("asyncio.Queue")),
        (asyncio.Queue, "join", _of_self("asyncio.Queue")),
        (module, "_wait", _wait),
        (asyncio.TaskGroup, "__aexit__", _group),
        (asyncio.TaskGroup, "_aexit", _group),
    ]
    if sys.version_info < (3, 12):
        table.append((module, "wait_for", _wait_for))
    found: list[tuple[Any, Callable[[FrameType, Any], Awaited]]] = [
        (getattr(owner, name, None), build) for owner, name, build in table
    ]
    return {function.__code__: build for function, build in found if hasattr(function, "__code__")}


_BUILDERS = _builders()
tasks.resource_of = resource_of
things.elsewhere = of_thread_future
tasks.frames_of = frames_of
