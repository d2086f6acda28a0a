"""Findings that are no deadlock: a lock held across an await, tasks that a closed loop left behind.

Guarantees: as of `lockwatch.diagnosis`: reads only, imports nothing when used, never raises into the program. One
problem is said once (`say`): what has the same fingerprint is the same problem.

Cost: a few milliseconds each; every one is made once.
"""

import os
import time
from collections.abc import Sequence

from lockwatch import delivery, diagnosis, findings
from lockwatch._core import hooks
from lockwatch._core.agents import Agent
from lockwatch._core.holds import CODE, LASTI, LOCK, Hold
from lockwatch.naming import site

_MANY = 5


def held_across_await(agent: Agent, hold: Hold) -> None:
    """Report that a task holds a thread's lock while it awaits: whoever wants it in that loop blocks the loop."""
    lock = hold[LOCK]()
    if lock is None:
        return
    who, what = diagnosis.agent_label(agent), diagnosis.resource_label(lock)
    say(
        "misuse",
        f"{who} awaits while it holds {what}, a lock for threads: any other task that wants it stops the event loop",
        advice="use asyncio.Lock there, or let the lock go before the await",
        parties=diagnosis.parties((agent,)),
        evidence=[(lock.lock_class, site(hold[CODE], hold[LASTI]))],
    )


def left_behind(tasks: Sequence[Agent]) -> None:
    """Report that an event loop was closed while tasks of it were pending: they never run again."""
    names = [diagnosis.agent_label(agent) for agent in tasks[:_MANY]]
    more = len(tasks) - len(names)
    say(
        "leak",
        f"an event loop was closed with {len(tasks):,} of its tasks pending: {', '.join(names)}"
        f"{f' and {more:,} more' if more else ''}",
        advice="await them, or cancel them and let the loop run until they have ended (asyncio.run does)",
        parties=diagnosis.parties(tasks[:_MANY]),
        evidence=[("event loop", diagnosis.place_of(agent)) for agent in tasks[:_MANY]],
    )


def say(
    kind: str,
    message: str,
    *,
    advice: str,
    parties: Sequence[findings.Party],
    evidence: Sequence[tuple[str, findings.Site | None]],
    level: str = "warning",
) -> None:
    """Deliver and announce a finding, unless one of this kind with this evidence was. Never raises."""
    try:
        fingerprint = findings.fingerprint(kind, None, evidence)
        if not delivery.first_time(fingerprint):
            return
        finding = findings.Finding(
            kind=kind,
            level=level,
            message=message,
            pid=os.getpid(),
            time=time.time(),
            parties=tuple(parties),
            advice=advice,
            fingerprint=fingerprint,
        )
        delivery.deliver(finding)
        delivery.announce_apart(finding)
    except Exception as error:
        delivery.note_internal(f"{kind} report", error)


hooks.held_across_await = held_across_await
hooks.left_behind = left_behind
