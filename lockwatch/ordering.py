"""Lock orders that can deadlock become findings.

Guarantees: as of `lockwatch.diagnosis`: reads only, imports nothing when used, never raises into the program.
One problem is reported once: what has the same fingerprint is the same problem.

Assumes: called by whoever closed the cycle or came by just then, with nothing of ours held.

Cost: a few milliseconds for each finding, once; nothing else.
"""

import os
import sys
import time
from types import CodeType

from lockwatch import config, delivery, diagnosis, errors, findings
from lockwatch._core import agents, hooks, lockorder, orderbook, settings
from lockwatch._core.orderedges import Context, LockFacts
from lockwatch._core.orderrelation import Cycle
from lockwatch.naming import lock_name, site

_MANY = 5


def finding_of(cycle: Cycle) -> findings.Finding:
    """Return the finding that explains a cycle of lock orders: for each order who took what where, and how often."""
    suffixes = _suffixes(cycle)
    episodes = {context.episode for context in cycle.contexts}
    parties = tuple(
        party_of(context, count, suffixes, named=len(episodes) > 1)
        for context, count in zip(cycle.contexts, cycle.counts, strict=True)
    )
    links: list[str] = []
    for party in parties:
        links += [party.agent, party.holds[0].resource]
    names = [party.holds[0].resource for party in parties]
    return findings.Finding(
        kind="lock-order",
        level="error" if config.current().order == "raise" else "warning",
        message=f"{_chain(names)}: {_who(parties)} can deadlock when they come together",
        pid=os.getpid(),
        time=time.time(),
        parties=parties,
        cycle=tuple(links),
        advice=_advice(cycle),
        fingerprint=findings.fingerprint(
            "lock-order",
            None,
            [(class_text(context.inner), _site(context.taken_at)) for context in cycle.contexts],
        ),
    )


def class_text(facts: LockFacts) -> str:
    """Return a lock class as text."""
    if facts.name is not None:
        return facts.name
    return "unknown" if facts.created is None else str(site(*facts.created))


def _name(facts: LockFacts) -> str | None:
    if facts.name is not None or facts.created is None:
        return facts.name
    return lock_name(*facts.created)


def _label(facts: LockFacts, suffixes: dict[int, str]) -> str:
    created = None if facts.created is None else site(*facts.created)
    return findings.resource_label(facts.kind, _name(facts), created) + suffixes.get(facts.key, "")


def _suffixes(cycle: Cycle) -> dict[int, str]:
    """Number the locks that would be called the same, if the cycle is one of locks."""
    called: dict[str, dict[int, None]] = {}
    of_locks = cycle.contexts[0].outer.key == cycle.nodes[0]
    for context in cycle.contexts:
        for facts in (context.outer, context.inner):
            if of_locks and facts.key:
                called.setdefault(_label(facts, {}), {})[facts.key] = None
    return {
        key: f" #{number}" for keys in called.values() if len(keys) > 1 for number, key in enumerate(keys, 1)
    }


def _site(place: tuple[CodeType, int] | None) -> findings.Site | None:
    return None if place is None else site(*place)


def party_of(context: Context, count: int, suffixes: dict[int, str], *, named: bool = True) -> findings.Party:
    """Return one side of a conflict.

    Args:
        context: its evidence.
        count: how often it was seen.
        suffixes: what tells locks of one name apart, by their numbers.
        named: whether to say in which test it was.
    """
    age = max(0, time.monotonic_ns() - context.since_ns) / 1e9 if context.since_ns else 0.0
    seen_here = context.agent not in {orderbook.DECLARED, orderbook.FILED}
    who = findings.agent_label(context.kind, context.label) if seen_here else context.label
    return findings.Party(
        agent=f"{who} in {context.episode}" if named and context.episode else who,
        name=context.label,
        ident=context.ident or None,
        native_id=context.native_id or None,
        daemon=context.daemon,
        holds=(
            findings.Hold(
                resource=_label(context.outer, suffixes),
                kind=context.outer.kind,
                name=_name(context.outer),
                created=_site(context.outer.created),
                taken=_site(context.held_at),
                how="with" if context.held_how else "acquire",
            ),
        ),
        waits_for=findings.WaitsFor(
            resource=_label(context.inner, suffixes),
            kind=context.inner.kind,
            name=_name(context.inner),
            created=_site(context.inner.created),
            where=_site(context.taken_at),
            age=age,
            seen=count if seen_here else None,
        ),
        stack=diagnosis.places(context.stack, config.current().stack_depth),
    )


def _chain(names: list[str]) -> str:
    shown = names if len(names) <= _MANY * 2 else [*names[: _MANY * 2], f"{len(names) - _MANY * 2} more"]
    return " -> ".join([*shown, names[0]])


def _who(parties: tuple[findings.Party, ...]) -> str:
    who = list(dict.fromkeys(party.agent for party in parties))
    if len(who) > _MANY:
        return f"{len(who):,} threads or tasks"
    return " and ".join(who)


def _advice(cycle: Cycle) -> str:
    if any(context.agent == orderbook.DECLARED for context in cycle.contexts):
        advice = "the program declares this order by lock_order(): keep to it, or declare another"
    elif len({context.inner.lock_class.key for context in cycle.contexts}) == 1:
        advice = "these locks are made at one place: give them an order (an index, a key, id()) and take them in it"
    else:
        advice = "take them in one order everywhere"
    left_out = lockorder.ignored
    return f"{advice}\n(ignore() has left out {left_out:,} acquires so far)" if left_out else advice


def descending(around: object, key: object) -> None:
    """Report `nested` blocks whose keys do not ascend.

    Raises:
        LockOrderError: Under ``order="raise"``.
    """
    caller = sys._getframe(2)
    place = site(caller.f_code, caller.f_lasti)
    me = agents.acting()
    finding = findings.Finding(
        kind="lock-order",
        level="error" if config.current().order == "raise" else "warning",
        message=f"nested({key!r}) within nested({around!r}) in {diagnosis.agent_label(me)}: keys must ascend inwards",
        pid=os.getpid(),
        time=time.time(),
        parties=diagnosis.parties([me]),
        advice="take the locks of the outer level first, everywhere",
        fingerprint=findings.fingerprint("lock-order", None, [("nested", place)]),
    )
    if not settings.order or finding.fingerprint in _said:
        return
    if not settings.order_raises and len(_said) < 1_000:
        _said.add(finding.fingerprint)
    delivery.deliver(finding)
    delivery.announce(finding)
    if settings.order_raises:
        raise errors.LockOrderError(finding)


_said: set[str] = set()


def _report(cycle: Cycle) -> findings.Finding | None:
    try:
        finding = finding_of(cycle)
        delivery.deliver(finding)
        delivery.announce(finding)
    except Exception as error:
        delivery.note_internal("lock order report", error)
        return None
    return finding


def _error(finding: object) -> BaseException:
    if isinstance(finding, findings.Finding):
        return errors.LockOrderError(finding)
    return errors.LockwatchError(f"lock order: {finding}")


def _trimmed() -> None:
    limits = config.current()
    finding = findings.Finding(
        kind="internal",
        level="note",
        message="lock order: there are more locks than the limits; those used longest ago are forgotten",
        pid=os.getpid(),
        time=time.time(),
        advice=f"the limits are order_locks={limits.order_locks:,} and order_edges={limits.order_edges:,}",
        fingerprint=findings.fingerprint("internal", None, [("lock order", "limits")]),
    )
    delivery.deliver(finding)


hooks.order = _report
hooks.order_error = _error
hooks.order_trimmed = _trimmed
