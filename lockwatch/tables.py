"""The live tables: who waits for what, and who holds what, right now.

Modelled on MySQL's ``performance_schema.data_lock_waits`` and ``metadata_locks``. Read without stopping
anybody, so a row may be gone by the time it is read; each row by itself is consistent. Nothing is recorded
for them: the rows are read off the agents. Cost: proportional to the number of living threads, waits and
    holds; names are looked up in the source (cached).
"""

import time
from typing import Any, NamedTuple

from lockwatch import diagnosis
from lockwatch._core import agents
from lockwatch._core.waits import FREE, innermost
from lockwatch.findings import Hold, WaitsFor


class WaitRow(NamedTuple):
    """One wait.

    Attributes:
        agent: Who waits, as "Thread 'worker'".
        ident: The thread's ident.
        waits_for: What it waits for, where and since when.
        rule: Who could end it: "all" of the blockers, "any" one of them, or "open": anybody; "free": it is
            ending.
        blockers: Who that is; for "open" those known to be concerned.
    """

    agent: str
    ident: int
    waits_for: WaitsFor
    rule: str
    blockers: tuple[str, ...]


class HolderRow(NamedTuple):
    """One hold.

    Attributes:
        agent: Who holds, as "Thread 'worker'".
        ident: The thread's ident.
        hold: What it holds, where taken and since when.
        waiters: How many wait for it.
    """

    agent: str
    ident: int
    hold: Hold
    waiters: int


def waits() -> tuple[WaitRow, ...]:
    """Return all waits for watched locks in this process, oldest first."""
    now = time.monotonic_ns()
    current = [wait for agent in agents.living() for wait in agent.waits.copy()]
    current += [wait for wait in map(innermost, agents.others()) if wait is not None]
    rows = []
    for wait in sorted(current, key=lambda wait: wait.serial):
        blockers = wait.resource.blockers(wait)
        rows.append(
            WaitRow(
                diagnosis.agent_label(wait.agent),
                wait.agent.ident,
                diagnosis.wait_value(wait, now),
                blockers.rule,
                () if blockers.rule is FREE else tuple(map(diagnosis.agent_label, blockers.agents)),
            )
        )
    return tuple(rows)


def holders() -> tuple[HolderRow, ...]:
    """Return all watched locks that living threads of this process hold, oldest first for each thread."""
    now = time.monotonic_ns()
    rows = []
    for agent in agents.living() + agents.others():
        for hold in agent.holds.copy().values():
            value = diagnosis.hold_value(hold, now)
            lock: Any = hold[1]()
            if value is not None and lock is not None:
                rows.append(HolderRow(diagnosis.agent_label(agent), agent.ident, value, len(lock._queue)))
    return tuple(rows)
