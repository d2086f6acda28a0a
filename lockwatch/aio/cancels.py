"""Whether a task that is stuck may yet be cancelled: by a time-out, or by somebody who has it in hand.

A thread that waits can only be let go; a task can also be cancelled, and then it lets go of what it holds. So a
circle of tasks is certain only if nobody is about to do that. What counts as a way out:

  * A timer of its loop that has the task, or a future or task that waits for it, in hand: ``asyncio.timeout``,
    ``wait_for``, ``wait(timeout=...)``, ``call_later(5, task.cancel)``.
  * That it has been cancelled already, while it ran: its next await raises.
  * Another task that can still move, in whose variables (and what these lead to, a few steps far) it is, and whose
    code says ``cancel``, or something like it, at all (`lockwatch.locks.verbs`).
  * Another thread of which the same is true (`lockwatch.locks.sight`).

What does not count: Ctrl-C, a client that hangs up, and what is only reachable through other modules' globals.

With a loop that does not show its timers (uvloop) nothing is certain: such a circle is told as a stall.

Cost: proportional to the number of timers and tasks; asked only once a knot has been found.
"""

from __future__ import annotations

import asyncio
import gc
from contextvars import Context
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from lockwatch._core import reduction, tasks
from lockwatch._core.originals import get_ident
from lockwatch.aio.awaits import may_read_frames
from lockwatch.aio.chain import callbacks_of, frames_of, referred
from lockwatch.locks.machinery import is_machinery
from lockwatch.locks.sight import in_sight
from lockwatch.locks.verbs import mentions

if TYPE_CHECKING:
    from lockwatch._core.tasks import TaskWait

_CANCELS = frozenset(
    {"cancel", "timeout", "timeout_at", "wait_for", "throw", "stop", "close", "aclose", "shutdown"}
)
"""What somebody calls who means to end a task before it ends by itself."""
_DEEPEST = 5
_MOST = 2000
_NOT_FOLLOWED = (
    asyncio.AbstractEventLoop,
    asyncio.Future,
    asyncio.Handle,
    Context,
    type,
    ModuleType,
    FrameType,
    CodeType,
    str,
    bytes,
    int,
    float,
)


def may_end_otherwise(wait: TaskWait) -> bool:
    """Whether the task of ``wait`` may yet be cancelled, or its wait be given up."""
    agent: Any = wait.agent
    task, loop = agent.task_ref(), agent.loop_ref()
    if task is None or loop is None:
        return False
    if not hasattr(loop, "_scheduled"):
        return True  # uvloop's timers cannot be seen
    concerned = waiting_for(task)
    if any(getattr(one, "_must_cancel", False) for one in concerned.values()):
        return True  # it was cancelled while it ran: the await that comes next raises
    if _timer_has_one_of(concerned):
        return True
    stuck = reduction.stuck_if_closed()
    if agent not in stuck:
        stuck[agent] = None  # type: ignore[assignment]  # it is about to wait
    if _task_has_one_of(concerned, stuck):
        return True
    runner = agent.runner()
    idle = (
        {other.ident for other in stuck} | {get_ident()} | ({runner.ident} if runner is not None else set())
    )
    return any(
        in_sight(one, idle, verbs=_CANCELS) for one in concerned.values() if isinstance(one, asyncio.Task)
    )


def waiting_for(task: Any) -> dict[int, Any]:
    """Return the task and all futures and tasks that wait for it, directly or not, by id."""
    found: dict[int, Any] = {}
    work = [task]
    while work:
        future = work.pop()
        if id(future) in found:
            continue
        found[id(future)] = future
        for callback in callbacks_of(future):
            for thing in referred(callback):
                if asyncio.isfuture(thing):
                    work.append(thing)
                elif isinstance(thing, asyncio.TaskGroup):
                    work.append(thing._parent_task)  # type: ignore[attr-defined]
    found.pop(id(None), None)
    return found


def ends_by_itself(task: Any) -> bool:
    """Whether a time-out is set that will cancel the task, or whoever awaits it; where no timer can be seen, no."""
    return _timer_has_one_of(waiting_for(task), ready=False)


def _timer_has_one_of(concerned: dict[int, Any], ready: bool = True) -> bool:
    for loop in list(tasks.loops):
        due = getattr(loop, "_ready", ()) if ready else ()
        for handle in [*getattr(loop, "_scheduled", ()), *due]:
            callback, arguments = getattr(handle, "_callback", None), getattr(handle, "_args", None)
            if handle._cancelled or callback is None:
                continue
            if isinstance(getattr(callback, "__self__", None), tasks.TaskWait):
                continue  # our own timer, which looks again at a wait
            if _leads_to(concerned, [*referred(callback), *(arguments or ())]):
                return True
    return False


def _task_has_one_of(concerned: dict[int, Any], stuck: Any) -> bool:
    for agent in tasks.everyone():
        task = agent.task_ref()  # type: ignore[attr-defined]
        if task is None or agent in stuck or id(task) in concerned:
            continue
        if not may_read_frames(task):
            return True
        frames = frames_of(task)
        variables = [value for frame in frames for value in frame.f_locals.values()]
        if _leads_to(concerned, variables) and mentions(
            _CANCELS, frames, [frame.f_globals for frame in frames if not is_machinery(frame)], None
        ):
            return True
    return False


def _leads_to(concerned: dict[int, Any], start: list[Any]) -> bool:
    """Whether one of ``concerned`` can be reached in a few steps; where it would take too long, yes."""
    seen: set[int] = set()
    level = start
    for _ in range(_DEEPEST):
        following: list[Any] = []
        for thing in level:
            if id(thing) in concerned:
                return True
            if id(thing) in seen or isinstance(thing, _NOT_FOLLOWED):
                continue
            seen.add(id(thing))
            if isinstance(thing, FunctionType | BuiltinFunctionType) or hasattr(thing, "__func__"):
                following.extend(referred(thing))
            elif not (type(thing) is dict and "__builtins__" in thing):
                following.extend(gc.get_referents(thing))
            if len(seen) + len(following) > _MOST:
                return True
        level = following
    return any(id(thing) in concerned for thing in level)


tasks.may_end_otherwise = may_end_otherwise
