"""What to do about a deadlock, in one sentence.

Guarantee: a pure function of the finding's values; says something that is true of this knot, with its names,
or nothing. It never advises a time-out: that hides the defect.

Cost: proportional to the number of parties.
"""

from collections.abc import Sequence

from lockwatch.findings import Hold, Party, WaitsFor

_MANY = 5
"""Names listed before the rest is counted."""


def advice(cause: str | None, parties: Sequence[Party]) -> str:
    """Return what to do, or an empty string where nothing better is known than the facts.

    Args:
        cause: why nobody can move, one of ``findings.CAUSES``.
        parties: who takes part; for a cycle in its order (each waits for what the next one holds).
    """
    if cause == "cycle":
        return _cycle(parties)
    if cause == "self":
        return _self(parties)
    if cause == "orphan":
        return _orphan(parties)
    if cause == "asleep":
        return _asleep(parties)
    if cause == "starved":
        return (
            "the pool waits for its own work: do not wait for a task from inside a task of the same pool, "
            "or give the inner tasks a pool of their own"
        )
    return ""


def _cycle(parties: Sequence[Party]) -> str:
    waits = [party.waits_for for party in parties if party.waits_for is not None]
    if len(waits) < 2:
        return ""
    if not all(wait.kind.endswith("Lock") for wait in waits):
        return _mixed(parties)

    same_line = len({wait.created for wait in waits}) == 1 and waits[0].created is not None
    names = _names(waits)
    if len(set(names)) < len(names) or (same_line and not any(wait.name for wait in waits)):
        return (
            f"these {len(waits):,} locks are made at one place: give them an order (an index, a key, id()) "
            "and take them in that order everywhere"
        )

    # All but the victim agree on one order: it begins with what the victim wants and ends with what it holds.
    victim = next((index for index, party in enumerate(parties) if party.victim), 0)
    ordered = names[victim:] + names[:victim] if len(waits) == len(parties) else names
    text = f"take them in one order everywhere: {_listed(ordered, ' before ')}"
    if len(waits) == len(parties) and parties[victim].victim:
        text += f"; {parties[victim].agent} takes {ordered[-1]} first"
    return text


def _mixed(parties: Sequence[Party]) -> str:
    for party in parties:
        wait = party.waits_for
        if wait is not None and not wait.kind.endswith("Lock") and party.holds:
            held = _listed([_name(hold) for hold in party.holds], " and ")
            return f"do not wait for {wait.resource} while holding {held}, which others need to get there"
    return "break the cycle: no party may wait for what needs that party to go on"


def _self(parties: Sequence[Party]) -> str:
    party = next((party for party in parties if party.waits_for is not None), None)
    if party is None or party.waits_for is None:
        return ""

    wait = party.waits_for
    if any(frame.function == "__del__" for frame in party.stack):
        return (
            "a finalizer runs wherever the garbage collector starts, also while its own lock is held: let "
            "__del__ only put the work into a queue.SimpleQueue, and do it elsewhere"
        )
    if not wait.kind.endswith("Lock"):
        return f"{party.agent} waits for itself: nothing else can end {wait.resource}"

    caller = f"{wait.where.function}()" if wait.where else "code that takes it again"
    return (
        f"{_name(wait)} is not re-entrant: use an RLock, or do not call back into {caller} while it is held"
    )


def _orphan(parties: Sequence[Party]) -> str:
    owner = next((party for party in parties if not party.alive), None)
    wait = next((party.waits_for for party in reversed(parties) if party.waits_for is not None), None)
    who = owner.agent if owner else "its owner"
    what = _name(wait) if wait else "it"
    return (
        f"{who} ended (or did not come along through fork) without releasing {what}: take it by `with`, so that "
        "every way out releases it; do not fork while threads hold locks"
    )


_HOW_TO_END = {
    "Lock": "release",
    "RLock": "release",
    "Semaphore": "release",
    "Event": "set",
    "Condition": "notify",
    "Queue": "put into, or take from,",
    "SimpleQueue": "put into",
    "Future": "complete",
    "Barrier": "come to",
}


def _asleep(parties: Sequence[Party]) -> str:
    waits = [party.waits_for for party in parties if party.waits_for is not None]
    roots = [wait for wait in waits if _plain(wait.kind) in _HOW_TO_END] or waits
    what = _listed(
        list(dict.fromkeys(f"{_HOW_TO_END.get(_plain(wait.kind), 'end')} {_name(wait)}" for wait in roots)),
        " or ",
    )
    who = "task and thread" if any(party.runs_in for party in parties) else "thread"
    return (
        f"nobody is left to {what or 'wake them'}: every {who} that could has ended or waits itself; keep one running "
        "that will, or give the wait a way to end when they are gone"
    )


def _plain(kind: str) -> str:
    """Return a kind without the module's name: asyncio's things end as those of threading do."""
    return kind.removeprefix("asyncio.")


def _names(waits: Sequence[WaitsFor]) -> list[str]:
    return [_name(wait) for wait in waits]


def _name(thing: Hold | WaitsFor) -> str:
    return thing.resource if thing.name is None else str.__repr__(thing.name)


def _listed(names: list[str], joint: str) -> str:
    if len(names) > _MANY:
        return joint.join(names[: _MANY - 1]) + f", and so on ({len(names):,} in all)"
    return joint.join(names)
