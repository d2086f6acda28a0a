"""Threads and tasks that are stuck become victims, so that they end and the next test starts clean.

Not a deadlock that was proved, but one that need not be: the test is over (or its time is), so nobody may be let
go by it any more. Each stuck wait gets the verdict that the victim of a deadlock gets, and raises the error at the
place where it waits; a thread that catches it and waits again gets another, a few times over.

Guarantees: takes no lock; waits for each round no longer than it is told. What cannot be woken (a wait in C, an
ordinary lock of the interpreter's) is left and named.

Assumes: as `lockwatch._core.detector` for verdicts.
"""

from __future__ import annotations

import sys
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from lockwatch._core import agents
from lockwatch._core.waits import VERDICT, Victim, innermost

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from lockwatch._core.agents import Agent
    from lockwatch._core.waits import Wait
    from lockwatch.findings import Finding

ROUNDS = 20
"""How often a thread may catch the error and wait again."""

_PAUSE = 0.002


def agent_of(thread: threading.Thread) -> Agent | None:
    """Return the agent of a thread that is alive, if it has one."""
    agent = agents.by_ident.get(thread.ident or 0)
    return agent if agent is not None and agent.thread() is thread else None


def end_wait(wait: Wait, finding: Finding) -> bool:
    """Make a wait end with the error that ``finding`` explains.

    Returns:
        Whether that is done; False for a wait that cannot take an error, or that has a verdict already.
    """
    if not wait.can_raise():
        return False
    verdict = Victim()
    if wait.slot.setdefault(VERDICT, verdict) is not verdict:
        return False
    verdict.finding = finding
    verdict.ready = True
    wait.wake()
    return True


def end_thread(agent: Agent, finding: Finding) -> bool:
    """Make what a thread waits for end with an error: its own wait, or, in an idle event loop, those of its tasks."""
    wait = innermost(agent)
    if wait is None:
        return False
    tasks = sys.modules.get("lockwatch._core.tasks")  # it loads asyncio, which the program may not have done
    if tasks is None or wait.resource.__class__ is not tasks.IdleLoop:
        return end_wait(wait, finding)
    loop = wait.resource.loop_ref()  # type: ignore[attr-defined]
    pending = [] if loop is None else tasks.of_loop(loop)
    return sum(end_task(task, finding) for task in pending) > 0


def end_task(agent: Any, finding: Finding) -> bool:
    """Make a pending task end: with the error where it waits, else by cancelling it."""
    wait = agent.innermost()
    if wait is not None:
        if end_wait(wait, finding):
            return True
        if wait.slot:
            return False  # it was told before, and is on its way: a cancellation would overtake the error
    task, loop = agent.task_ref(), agent.loop_ref()
    if task is None or loop is None or task.done():
        return False
    try:
        loop.call_soon_threadsafe(task.cancel)
    except RuntimeError:  # the loop has been closed
        return False
    return True


def unwind(
    threads: Sequence[threading.Thread], finding: Finding, *, patience: float
) -> list[threading.Thread]:
    """End threads that are stuck.

    Args:
        threads: those to be ended.
        finding: what they are told.
        patience: seconds without any progress after which the rest is given up.

    Returns:
        Those that are still alive.
    """
    rounds: dict[threading.Thread, int] = {}
    left = [thread for thread in threads if thread.is_alive()]
    until = monotonic() + patience
    while left and monotonic() < until:
        for thread in left:
            agent = agent_of(thread)
            if agent is None or rounds.get(thread, 0) >= ROUNDS or not end_thread(agent, finding):
                continue
            rounds[thread] = rounds.get(thread, 0) + 1
            until = monotonic() + patience
        sleep(_PAUSE)
        left = [thread for thread in left if thread.is_alive()]
    return left
