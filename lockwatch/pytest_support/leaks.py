"""What a test leaves behind: threads that do not end, tasks that nobody runs any more, locks that stay held.

What is no leak: a daemon thread that runs or waits to be given something (it was declared one that may be left);
an idle worker of a pool; what belongs to a fixture of a wider scope; tasks of a loop that is running elsewhere; a
lock that nobody has any more.

Guarantees: a thread gets `GRACE` seconds to end by itself before it counts. The findings are made while what they
tell of is as it was left.

Cost: a look at the threads and the runner's holds for each test; a test with threads left waits for them.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from lockwatch import diagnosis, findings
from lockwatch._core import agents
from lockwatch._core.holds import CODE, LASTI, LOCK
from lockwatch._core.waits import OPEN, innermost
from lockwatch.naming import site
from lockwatch.pytest_support import scopes, unwinding

if TYPE_CHECKING:
    import threading
    import weakref
    from collections.abc import Iterable, Sequence

    from lockwatch._core.agents import Agent
    from lockwatch._core.holds import Hold
    from lockwatch.pytest_support.scopes import Scope

GRACE = 1.0
"""Seconds that a test's threads get to end by themselves."""

_PAUSE = 0.002
_MANY = 8

_HELPERS = frozenset(
    {
        ("anyio._backends._asyncio", "WorkerThread"),
        ("concurrent.futures.process", "_ExecutorManagerThread"),
    }
)
"""Classes of threads that libraries keep, and end at exit."""

_RUNNERS = frozenset({"_run_tests_and_fixtures"})
"""Coroutines of plugins (anyio) that run the tests themselves."""

RUNS = "runs"
IDLE = "idle"
BLOCKED = "blocked"


def state_of(thread: threading.Thread) -> str:
    """Return whether a thread runs (or waits for a limited time), idles until it is given something, or is blocked."""
    agent = unwinding.agent_of(thread)
    wait = None if agent is None else innermost(agent)
    if wait is None or wait.deadline_ns is not None:
        return RUNS
    return IDLE if wait.resource.blockers(wait).rule is OPEN else BLOCKED


def counts(thread: threading.Thread) -> bool:
    """Whether a thread that is still there is a leak, if it stays so."""
    if _is_helper(thread) or thread.ident in agents.internal_idents:
        return False
    return state_of(thread) == BLOCKED if thread.daemon else True


def left_threads(scope: Scope, *, grace: float = GRACE) -> list[threading.Thread]:
    """Return the threads that a test leaves behind, after giving them time to end."""
    until = time.monotonic() + grace
    while True:
        left = [thread for thread in scopes.threads_of(scope) if counts(thread)]
        if not left or time.monotonic() >= until:
            return left
        time.sleep(_PAUSE)


def _is_helper(thread: threading.Thread) -> bool:
    """Whether a thread is a library's own, or an idle worker of a pool."""
    if (type(thread).__module__, type(thread).__name__) in _HELPERS:
        return True
    pools = sys.modules.get("concurrent.futures.thread")
    return pools is not None and thread in pools._threads_queues and state_of(thread) == IDLE


def known_tasks() -> set[weakref.ref[Any]]:
    """Return the pending tasks of all loops, weakly."""
    return {agent.task_ref for agent in _tasks()}


def left_tasks(scope: Scope) -> list[Any]:
    """Return the agents of the tasks that a test leaves pending in loops that nobody runs."""
    return [
        agent
        for agent in _tasks()
        if agent.task_ref not in scope.known_tasks and not _is_running(agent) and not _is_runner(agent)
    ]


def _tasks() -> list[Any]:
    module = sys.modules.get("lockwatch._core.tasks")
    return [] if module is None or not module.loops else list(module.everyone())


def _is_running(agent: Any) -> bool:
    loop = agent.loop_ref()
    return loop is None or loop.is_running()


def _is_runner(agent: Any) -> bool:
    task = agent.task_ref()
    code = getattr(getattr(task, "get_coro", lambda: None)(), "cr_code", None)
    return task is None or getattr(code, "co_name", "") in _RUNNERS


def left_locks(scope: Scope) -> list[tuple[Agent, Hold]]:
    """Return what the thread that ran a test still holds; of threads that have ended `lockwatch.leaks` tells."""
    found = _left_locks(scope)
    if found:
        del found
        gc.collect()  # a lock that nobody has any more harms nobody
        found = _left_locks(scope)
    return found


def _left_locks(scope: Scope) -> list[tuple[Agent, Hold]]:
    runner = agents.by_ident.get(scope.ident)
    if runner is None:
        return []
    mine = runner.holds.copy().items()
    return [
        (runner, hold) for key, hold in mine if scope.held.get(key) is not hold and _matters(hold[LOCK]())
    ]


def _matters(lock: Any) -> bool:
    return lock is not None and not lock._signal


# --- findings ------------------------------------------------------------------------------------------


def of_threads(threads: Sequence[threading.Thread]) -> findings.Finding:
    """Return the finding that tells of threads left behind."""
    known = [agent for agent in map(unwinding.agent_of, threads) if agent is not None]
    names = [f"{findings.agent_label('thread', thread.name)} ({_doing(thread)})" for thread in threads]
    plural = "s that have" if len(threads) != 1 else " that has"
    return _finding(
        f"the test leaves {_number(threads)} thread{plural} not ended: {_list(names)}",
        "let each end, and join() it, before the test is over; or allow it: @pytest.mark.lockwatch(allow='threads')",
        known,
        [("thread", _place(agent)) for agent in known],
    )


def of_tasks(tasks: Sequence[Any]) -> findings.Finding:
    """Return the finding that tells of tasks left pending."""
    plural = "s" if len(tasks) != 1 else ""
    return _finding(
        f"the test leaves {_number(tasks)} task{plural} pending: {_list(map(diagnosis.agent_label, tasks))}",
        "await them, or cancel them and let the loop run; or allow it: @pytest.mark.lockwatch(allow='tasks')",
        tasks,
        [("task", diagnosis.place_of(agent)) for agent in tasks],
    )


def of_locks(left: Sequence[tuple[Agent, Hold]]) -> findings.Finding:
    """Return the finding that tells of locks left held."""
    names, evidence = [], []
    for agent, hold in left:
        lock: Any = hold[LOCK]()
        if lock is not None:
            names.append(f"{diagnosis.resource_label(lock)} (held by {diagnosis.agent_label(agent)})")
            evidence.append((lock.lock_class, site(hold[CODE], hold[LASTI])))
    plural = "s" if len(left) != 1 else ""
    return _finding(
        f"the test leaves {_number(left)} lock{plural} held: {_list(names)}",
        "take it by 'with', or release it in a finally; or allow it: @pytest.mark.lockwatch(allow='locks')",
        list(dict.fromkeys(agent for agent, _ in left)),
        evidence,
    )


def _finding(
    message: str,
    advice: str,
    concerned: Sequence[Agent],
    evidence: Sequence[tuple[str, findings.Site | None]],
) -> findings.Finding:
    return findings.Finding(
        kind="leak",
        level="error",
        message=message,
        pid=os.getpid(),
        time=time.time(),
        parties=diagnosis.parties(concerned),
        advice=advice,
        fingerprint=findings.fingerprint("leak", None, evidence),
    )


def _number(things: Sequence[object]) -> str:
    return "a" if len(things) == 1 else f"{len(things):,}"


def _list(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - _MANY:,} more" if len(shown) > _MANY else ""
    return ", ".join(shown[:_MANY]) + more


def _doing(thread: threading.Thread) -> str:
    agent = unwinding.agent_of(thread)
    wait = None if agent is None else innermost(agent)
    return "runs" if wait is None else f"waits for {diagnosis.resource_label(wait.resource)}"


def _place(agent: Agent) -> findings.Site | None:
    wait = innermost(agent)
    return None if wait is None else diagnosis.place(wait)
