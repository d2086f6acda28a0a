"""Whether some task, callback or thread that can still move has a lock in sight, and so might release it.

As `lockwatch.locks.sight`, for locks of tasks: a task that is suspended has its variables in its coroutine's
frames, and what the loop is about to run has its in its callback. A task that cannot move again does not count.
The frames of a thread that runs a loop don't, either: what stands below the loop goes on when the loop ends.

Cost: milliseconds, once at the end of a grace and then ever more rarely.
"""

from __future__ import annotations

from asyncio import all_tasks
from typing import TYPE_CHECKING, Any

from lockwatch._core import agents, reduction, tasks
from lockwatch._core.frames import stacks
from lockwatch.aio.awaits import may_read_frames
from lockwatch.aio.chain import frames_of
from lockwatch.locks.sight import _DEEPEST, _DEEPEST_GLOBAL, _leads_to, _seen_from

if TYPE_CHECKING:
    from lockwatch.aio.record import Record


def somebody_sees(record: Record) -> bool:
    """Return whether somebody who can still move has the lock of ``record`` in sight."""
    lock = record.subject()
    if lock is None:
        return False
    stuck = reduction.stuck_if_closed()
    loops = [loop for loop in list(tasks.loops) if not loop.is_closed()]
    away = {agent.ident for agent in stuck} | agents.internal_idents
    away |= {runner.ident for runner in map(_runner, loops) if runner is not None}
    nothing: frozenset[str] = frozenset()
    for ident, stack in stacks().items():
        if ident not in away and _seen_from(
            lambda thing: thing is lock, ident, list(stack), nothing, nothing
        ):
            return True
    return any(_loop_sees(lock, loop, stuck) for loop in loops)


def _runner(loop: Any) -> agents.Agent | None:
    ident = getattr(loop, "_thread_id", None)
    return None if ident is None else agents.by_ident.get(ident)


def _loop_sees(lock: Any, loop: Any, stuck: Any) -> bool:
    for task in all_tasks(loop):
        if tasks.agent_of(task) not in stuck and _task_sees(lock, task):
            return True
    handles = [*getattr(loop, "_ready", ()), *getattr(loop, "_scheduled", ())]
    for handle in handles:
        callback = getattr(handle, "_callback", None)
        owner = getattr(callback, "__self__", None)
        if isinstance(owner, tasks.TaskWait) or hasattr(owner, "get_coro"):
            continue  # our own timers; a task's step: it has been looked at
        if _leads_to(lambda thing: thing is lock, [callback, getattr(handle, "_args", None)], _DEEPEST):
            return True
    return False


def _task_sees(lock: Any, task: Any) -> bool:
    """Whether one of the coroutines that the task is in leads to the lock; so it is said if they cannot be read."""
    if not may_read_frames(task):
        return True

    def wanted(thing: object) -> bool:
        return thing is lock

    return any(
        _leads_to(wanted, list(frame.f_locals.values()), _DEEPEST)
        or _leads_to(wanted, list(frame.f_globals.copy().values()), _DEEPEST_GLOBAL)
        for frame in frames_of(task)
    )
