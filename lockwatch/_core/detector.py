"""From waits to deadlocks: the search, the validation, the victim.

Guarantee: a knot is answered only if every party of it was in its wait, without verdict and without deadline,
    at one and the
same moment, and none of the resources could be let go by anybody else (DESIGN section 4). Nothing is locked:
the graph is read twice, and what stood unchanged in both readings stood at every moment in between (each wait
and each hold is an object of its own, so nothing can be taken away and given back unnoticed).

Sources. Block-time search by the waiter itself, after it has published its wait: MySQL's MDL
(``find_deadlock``) and deloxide. Single-blocker chains first: the pointer chase of InnoDB's out-degree-one
graph. Everything else: graph reduction (Holt, "Some Deadlock Properties of Computer Systems", 1972) in
`lockwatch._core.reduction`; with open waits it is Go's ``checkdead``. Victim by weight: MySQL and SQL Server.

Cost: the chase is linear in the length of the chain and independent of how many other agents and locks there
    are.
"""

from __future__ import annotations

from time import monotonic_ns

from lockwatch._core import agents, hooks, ontop, parking, reduction, settings
from lockwatch._core.knots import CYCLE, ORPHAN, SELF, Edge, Knot
from lockwatch._core.waits import ALL, ANY, FREE, VERDICT, Victim, innermost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from lockwatch._core.agents import Agent
    from lockwatch._core.waits import Wait


_A_MOMENT_NS = 1_000_000
_PATIENCE = 1000
"""How many moments to wait for another agent's report of a knot."""


def check(wait: Wait) -> Knot | None:
    """Look for a deadlock that ``wait`` is in or leads to. Looks only; `settle` acts.

    Args:
        wait: A published wait.

    Returns:
        The knot, or None if somebody may still end the wait (or it cannot be proved that nobody will).
    """
    knot = _search(wait)
    while knot is not None and _raises_doubts(knot):
        knot = _search(wait)
    if knot is not None and ontop.anybody_runs(knot.grounds):
        hooks.look_again()
        return None
    return knot


def _raises_doubts(knot: Knot) -> bool:
    """Look closer at the owners in a knot: whether one of them may not be who is to let go, after all."""
    doubts = False
    for edge in knot.grounds:
        doubt = getattr(edge.wait.resource, "doubt", None)
        if doubt is not None and edge.wait.hope and not edge.blockers.soft and doubt(edge.wait):
            doubts = True
    return doubts


def _search(wait: Wait) -> Knot | None:
    path: list[Edge] = []
    place: dict[Agent, int] = {}
    agent, current = wait.agent, wait
    soft = False
    while True:
        if current.deadline_ns is not None or current.slot:
            return None
        blockers = current.resource.blockers(current)
        if blockers.rule is FREE:
            return None
        path.append(Edge(agent, current, blockers))
        if blockers.rule is ANY and any(map(_moves, blockers.agents)):
            return None
        if blockers.rule is not ALL or len(blockers.agents) != 1:
            return _reduce(wait)
        soft = soft or blockers.soft
        place[agent] = len(path) - 1
        agent = blockers.agents[0]
        start = place.get(agent)
        if agent.ended and agents.may_act_yet(agent):
            return None
        if agent.ended or start is not None:
            knot = (
                path[-1:] if start is None else path[start:]
            )  # those behind an orphan's waiter go on after it
            if soft and any(edge.blockers.soft for edge in knot):
                return _give_hope_up(wait, knot)
            return _confirm(ORPHAN if start is None else SELF if len(knot) == 1 else CYCLE, knot)
        next_wait = innermost(agent)
        if next_wait is None:
            return None
        current = next_wait


def _moves(agent: Agent) -> bool:
    """Whether an agent is in no wait, or in one that ends by itself: seen without reading the whole graph."""
    current = innermost(agent)
    awake = current is None or current.deadline_ns is not None or bool(current.slot)
    return awake and agents.may_act_yet(agent)


def _reduce(wait: Wait) -> Knot | None:
    """Search with reduction; what only soft blockers stand against is left to `_give_hope_up`."""
    knot = reduction.reduce(wait, soft_open=False)
    if knot is None or not any(edge.blockers.soft for edge in knot.grounds):
        return knot
    return _give_hope_up(wait, knot.grounds)


def _give_hope_up(wait: Wait, knot: Sequence[Edge]) -> Knot | None:
    """Decide on a knot that somebody else may still untie: with locks in it that may be signals.

    If nobody else is awake, nobody will. Otherwise those who are get a grace in which to do so; after that, as long
    as one of them has such a lock in sight, it is given the same time again.
    """
    found = reduction.reduce(wait)
    if found is not None:
        return found
    now = monotonic_ns()
    if wait.recheck_ns is not None and now < wait.recheck_ns:
        return None  # whoever looks meanwhile does not put that off
    closed_ns = max(edge.wait.since_ns for edge in knot)
    if now - closed_ns >= settings.reacquire_grace_ns:
        idle = {agent.ident for agent in reduction.stuck_if_closed()}
        soft = [edge for edge in knot if edge.blockers.soft]
        if not any(edge.blockers.sight is not None and edge.blockers.sight(idle) for edge in soft):
            for edge in soft:
                edge.wait.hope = False
            return _search(wait)
    wait.recheck_ns = now + max(now - closed_ns, settings.reacquire_grace_ns - (now - closed_ns), 1)
    return None


def _confirm(cause: str, edges: list[Edge]) -> Knot | None:
    """Read the edges a second time; the knot is real if all of them stand unchanged."""
    knot = Knot(cause, tuple(edges))
    return knot if knot.stands() and not knot.may_dissolve() else None


_claims: dict[int, _Claim] = {}
"""Knots in the hands of some agent, by serial; entries of knots whose wait is over are dropped at the next claim."""


def block(wait: Wait) -> None:
    """Look for deadlocks that ``wait`` closes and settle them, until there is none or it has its verdict.

    Called by the agent about to sleep, after it has published its wait. Never raises for an error of ours:
    the detector then says so once and stays silent for that wait.
    """
    if not settings.watch:
        return
    if agents.lost and wait.deadline_ns is not None:
        hooks.lost_in_fork(wait)
    try:
        if not wait.is_worth_a_look():
            return
        while not wait.slot:
            knot = check(wait)
            if knot is None or not settle(knot):
                return
    except Exception as error:
        hooks.internal("detector", error)


def settle(knot: Knot) -> bool:
    """Report ``knot`` and give its victim the verdict.

    Returns:
        Whether to search again: a victim was told, and there may be another knot. False if somebody else has
            this knot in
        hand, if deadlocks are only observed, or if it has dissolved.
    """
    mine = _Claim()
    _forget_claims()
    claim = _claims.setdefault(knot.serial, mine)
    if claim is not mine:
        return _await(claim)
    again = True
    try:
        again = not knot.stands() or _tell(knot)  # somebody else may just have settled it
    finally:
        if again:
            _claims.pop(knot.serial, None)
        claim.again = again
    return again


class _Claim:
    """A knot in somebody's hands; ``again`` says, when that one is done, whether to search again."""

    __slots__ = ("again",)

    def __init__(self) -> None:
        self.again: bool | None = None


def _await(claim: _Claim) -> bool:
    """Wait until whoever has the knot is done with it; not for ever: that may be the frame under a signal handler."""
    for _ in range(_PATIENCE):
        if claim.again is not None:
            return claim.again
        parking.park(parking.new_parker(), _A_MOMENT_NS)
    return False


def _tell(knot: Knot) -> bool:
    victim = knot.victim
    if victim is None or not settings.raise_deadlocks:
        hooks.report(knot)
        return False
    verdict = Victim()
    if victim.slot.setdefault(VERDICT, verdict) is not verdict:
        return False
    if (
        not victim.can_raise()
    ):  # it has gone to sleep where no error reaches it: another one is to be the victim
        verdict.revoked = verdict.ready = True
        victim.slot.pop(VERDICT, None)
        return True
    try:
        verdict.finding = hooks.report(knot)
    finally:
        verdict.ready = True
        victim.wake()
    return True


def _forget_claims() -> None:
    """Drop the claims of knots that are gone.

    They are few: one for each deadlock that is being looked at or was left alone.
    """
    if _claims:
        claimed = list(_claims.copy())  # first these: a claim that comes later is not looked at
        waiting = {wait.serial for agent in agents.living() for wait in agent.waits}
        tasks = map(innermost, agents.others())
        waiting.update(wait.serial for wait in tasks if wait is not None)
        for serial in claimed:
            if serial not in waiting:
                _claims.pop(serial, None)


def look_after(agent: Agent) -> None:
    """Look at those whom the end of ``agent`` may have left without hope.

    They are the waiters for what it held, and, if nobody else is awake, all open waits: one look decides for them.
    """
    for hold in list(agent.holds.copy().values()):
        lock = hold[1]()
        if lock is not None:
            for waiter in lock._queue.copy():
                block(waiter)
                if waiter.recheck_ns is not None:
                    waiter.wake()  # a grace has begun: it parks anew, until its end
    for other in agents.living():
        wait = innermost(other)
        if wait is not None and wait.open_seen:
            block(wait)
            return
