"""Graph reduction: which agents can never act again, when waits have several possible enders or open ones.

Source: Holt 1972. Mark every agent that may act; repeat: an agent whose blockers let it go (ALL: all are
    marked; ANY: one is;
OPEN: anybody at all is) is marked. Who stays unmarked is deadlocked. With OPEN waits this is Go's
    ``checkdead``: they end only
if somebody is awake, and everything that DESIGN section 4 says may act counts as awake.

Each edge is looked at once (a count of what is still missing per agent, and the reverse edges): linear in
agents and edges.
"""

from __future__ import annotations

import os
import sys
import threading
from time import sleep

from lockwatch._core import agents, settings
from lockwatch._core.frames import current_frames
from lockwatch._core.knots import ASLEEP, CYCLE, ORPHAN, SELF, STARVED, Edge, Knot
from lockwatch._core.originals import get_ident
from lockwatch._core.signals import may_run_handler
from lockwatch._core.waits import ALL, ANY, FREE, OPEN, innermost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lockwatch._core.agents import Agent
    from lockwatch._core.waits import Wait

_PATIENCE = 20
"""Milliseconds for a thread that has ended to disappear from the system's count."""

harmless_natives: set[int] = set()
"""Threads that are not Python's and never let one of its go, by the system's number: a tool's timer, say."""


def reduce(wait: Wait, *, soft_open: bool = True) -> Knot | None:
    """Find the knot that ``wait`` is in or leads to, or None.

    Args:
        wait: A published wait.
        soft_open: Whether soft blockers count as open. If not, what is found is a knot only if nobody but the
            agents named ends those waits; there is no other knot than within what is found so.

    Cost: proportional to what can be reached from ``wait``, if that is closed or a thread is awake; else one pass
    over the living agents, under 100 ms for 10,000 of them. The system is asked for threads that Python does not
    know of only when no agent is awake.
    """
    edges, awake = _reach(wait.agent)
    anyone = not awake and _has_open(edges, soft_open) and _somebody_awake()
    if not awake and not anyone and _has_open(edges, soft_open):
        edges, awake = _read()
    stuck = unmarked(edges, awake, anyone=anyone, soft_open=soft_open)
    if wait.agent not in stuck:
        return None
    if _has_open(stuck, soft_open) and someone_else_may_act(stuck):
        stuck = unmarked(edges, awake, anyone=True, soft_open=soft_open)
        if wait.agent not in stuck:
            return None
    knot = trace(wait.agent, stuck)
    needed = _grounds(knot, stuck, soft_open)
    knot.rest_on(tuple(needed.values()))
    if not knot.stands() or knot.may_dissolve():
        return None
    if _has_open(needed, soft_open) and someone_else_may_act(stuck):
        return None
    return knot


def stuck_if_closed() -> dict[Agent, Edge]:
    """Return the agents that could not move again if soft blockers were the only ones who could end their waits."""
    edges, awake = _read()
    return unmarked(edges, awake, anyone=True, soft_open=False)


def stuck_closed(starts: list[Agent]) -> dict[Agent, Edge]:
    """Return those of ``starts``, and of whom they wait for, that could not move even if every open wait ended."""
    edges, awake = _reach(*starts)
    return unmarked(edges, awake, anyone=True, soft_open=False)


def _read() -> tuple[dict[Agent, Edge], list[Agent]]:
    """Read the graph: the edges of the agents that wait, and the agents that may act."""
    edges: dict[Agent, Edge] = {}
    awake: list[Agent] = []
    for agent in agents.living() + agents.others():
        edge = _edge_of(agent)
        if edge is None:
            awake.append(agent)
        else:
            edges[agent] = edge
    return edges, _without_ghosts(awake)


def _reach(*starts: Agent) -> tuple[dict[Agent, Edge], list[Agent]]:
    """Read the part of the graph that can be reached from some agents."""
    edges: dict[Agent, Edge] = {}
    awake: list[Agent] = []
    seen = set(starts)
    work = list(reversed(starts))
    while work:
        agent = work.pop()
        edge = _edge_of(agent)
        if edge is None:
            awake.append(agent)
            continue
        edges[agent] = edge
        for party in edge.blockers.agents:
            if party not in seen and not party.ended:
                seen.add(party)
                work.append(party)
    return edges, _without_ghosts(awake)


def _edge_of(agent: Agent) -> Edge | None:
    """Return what an agent waits for and who could end that, or None if it may act."""
    current = innermost(agent)
    if current is None or current.deadline_ns is not None or current.slot:
        return None
    blockers = current.resource.blockers(current)
    if blockers.rule is FREE:
        return None
    if blockers.is_open:
        current.open_seen = True
    return Edge(agent, current, blockers)


def _somebody_awake() -> bool:
    """Whether any thread may act; a task cannot while its thread does not."""
    unsure = []
    for agent in agents.living():
        if _edge_of(agent) is None:
            if agent.thread() is not None:
                return True
            unsure.append(agent)
    return bool(_without_ghosts(unsure))


def _without_ghosts(awake: list[Agent]) -> list[Agent]:
    """Leave out agents without a thread: what a dying thread does last can make a new agent, which nothing ends.

    A thread of a C library between two calls into Python looks the same; it is one that Python does not know of then.
    """
    if all(agent.thread() is not None for agent in awake):
        return awake
    alive = current_frames().keys()
    return [agent for agent in awake if agent.thread() is not None or agent.ident in alive]


def _grounds(knot: Knot, stuck: dict[Agent, Edge], soft_open: bool) -> dict[Agent, Edge]:
    """Return the edges that prove ``knot``: all of them if one is open, else those that can be reached from it."""
    grounds: dict[Agent, Edge] = {}
    work = [edge.agent for edge in knot.edges]
    while work:
        agent = work.pop()
        edge = stuck.get(agent)
        if edge is None or agent in grounds:
            continue
        grounds[agent] = edge
        if edge.blockers.rule is OPEN or (soft_open and edge.blockers.soft):
            return stuck
        work.extend(edge.blockers.agents)
    return grounds


def _has_open(stuck: dict[Agent, Edge], soft_open: bool) -> bool:
    return any(edge.blockers.rule is OPEN or (soft_open and edge.blockers.soft) for edge in stuck.values())


def unmarked(
    edges: dict[Agent, Edge], awake: list[Agent], *, anyone: bool = False, soft_open: bool = True
) -> dict[Agent, Edge]:
    """Reduce the graph and return the edges of the agents that nobody marked.

    Args:
        edges: What each waiting agent waits for.
        awake: The agents that may act to begin with.
        anyone: Whether somebody outside the graph may end open waits.
        soft_open: Whether soft blockers count as open.
    """
    missing: dict[Agent, int] = {}
    waiting_for: dict[Agent, list[Agent]] = {}
    opens: list[Agent] = []
    work = list(awake)
    for agent, edge in edges.items():
        rule, parties = edge.blockers.rule, edge.blockers.agents
        if rule is OPEN or (edge.blockers.soft and (soft_open or not parties)):
            missing[agent] = 1
            opens.append(agent)
            continue
        distinct = set(parties)
        missing[agent] = len(distinct) if rule is ALL else min(1, len(distinct)) or 1
        if rule is ALL and not distinct:
            work.append(agent)
        for party in distinct:
            waiting_for.setdefault(party, []).append(agent)
            if party not in edges and agents.may_act_yet(party):
                work.append(party)  # it began to wait, or to be, after the graph was read: it was awake then
    if anyone:
        work.extend(opens)
    opened = anyone
    marked: set[Agent] = set()
    while work:
        agent = work.pop()
        if agent in marked:
            continue
        marked.add(agent)
        if not opened:
            opened = True
            work.extend(opens)
        for other in waiting_for.get(agent, ()):
            missing[other] -= 1
            if missing[other] <= 0:
                work.append(other)
    return {agent: edge for agent, edge in edges.items() if agent not in marked}


def trace(agent: Agent, stuck: dict[Agent, Edge]) -> Knot:
    """Follow the unmarked blockers from ``agent`` to the root: a cycle, an ended owner, or open waits."""
    path: list[Edge] = []
    place: dict[Agent, int] = {}
    while True:
        edge = stuck[agent]
        place[agent] = len(path)
        path.append(edge)
        blockers = edge.blockers
        if blockers.rule is OPEN:
            return Knot(
                ASLEEP, tuple(sorted(stuck.values(), key=lambda each: each.agent.serial))
            )  # whoever finds it
        following = [party for party in blockers.agents if party in stuck]
        if not following:
            return Knot(ORPHAN, (edge,))
        agent = next((party for party in following if party in place), following[0])
        if agent in place:
            knot = tuple(path[place[agent] :])
            if any(edge.blockers.rule is ANY for edge in knot):
                return Knot(STARVED, knot)
            return Knot(SELF if len(knot) == 1 else CYCLE, knot)


def someone_else_may_act(stuck: dict[Agent, Edge]) -> bool:
    """Whether somebody who is not an agent could end an open wait.

    That is: a Python thread that never used a watched lock, a signal handler that may run in a main thread
        that waits, or a
    thread that is not Python's (unless those are to be ignored).
    """
    if threading._limbo:  # type: ignore[attr-defined]  # a thread is being started
        return True
    me = get_ident()
    known = {agent.ident for agent in stuck}
    known |= {
        agent.ident for agent in agents.dying.copy().values() if agent.ident == me
    }  # it looks as its last act
    if _unknown_threads(known):
        return True
    return any(agent.main for agent in stuck) and may_run_handler()


def _unknown_threads(known: set[int]) -> bool:
    """Whether there are threads that are no agents. One that is just ending gets a moment to be gone."""
    for _ in range(_PATIENCE):
        if [agent for agent in agents.dying.copy().values() if agents.may_act_yet(agent)]:
            sleep(0.001)
            continue
        everyone = set(current_frames())
        unknown = everyone - known - agents.internal_idents
        if unknown & threading._active.keys():  # type: ignore[attr-defined]
            return True
        foreign = settings.respect_foreign_threads and native_threads() - _harmless() > len(everyone)
        if not unknown and not foreign:
            return False
        sleep(0.001)
    return True


def _harmless() -> int:
    """Count the native threads that are known not to matter and are still there."""
    return sum(os.path.exists(f"/proc/self/task/{number}") for number in harmless_natives)


def native_threads() -> int:
    """Count the threads of this process, Python's or not; 0 where it cannot be told."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        pass
    psutil = sys.modules.get("psutil")
    try:
        return int(psutil.Process().num_threads()) if psutil is not None else 0
    except Exception:
        return 0
