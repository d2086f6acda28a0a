"""Knots: agents that can never move again, and which of them is to be the victim.

Values only; the searches that find them are in `lockwatch._core.detector` and `lockwatch._core.reduction`.
"""

from __future__ import annotations

import sys

from lockwatch._core.waits import OPEN, innermost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lockwatch._core.agents import Agent
    from lockwatch._core.waits import Blockers, Wait

CYCLE = "cycle"
SELF = "self"
ORPHAN = "orphan"
STARVED = "starved"
ASLEEP = "asleep"

EXPENDABLE = -sys.maxsize
"""The weight of an agent that is always the victim, whatever the cause: what it does is not the program's."""


class Edge:
    """One party of a knot: ``agent`` waits in ``wait``, and ``blockers`` says for whom."""

    __slots__ = ("agent", "blockers", "wait")

    def __init__(self, agent: Agent, wait: Wait, blockers: Blockers) -> None:
        self.agent = agent
        self.wait = wait
        self.blockers = blockers

    def stands(self) -> bool:
        """Whether the edge is still there, just as it was read."""
        return (
            innermost(self.agent) is self.wait
            and not self.wait.slot
            and not self.agent.ended
            and self.blockers.same(self.wait.resource.blockers(self.wait))
        )


class Knot:
    """Agents that can never move again.

    Attributes:
        cause: CYCLE, SELF, ORPHAN, STARVED or ASLEEP.
        edges: The parties in the order in which they wait for each other: each one's blocker is the next one's
            agent, and the last one's is the first, the ended owner, or nobody. (Agents that are asleep: the oldest
            first.) Waiters behind a cycle, or behind
            the waiter for an orphan, are not of the knot: they go on when it is untied.
        grounds: The edges that prove it: its own, and those of all others who could have ended one of its waits.
        serial: The number of the newest wait of the grounds: the one that closed it. Two agents that find one
            knot agree on it, also if each of them enters it at another edge.
        victim: Whose wait is to be ended by the error; None if none can be.
    """

    __slots__ = ("cause", "edges", "grounds", "serial", "victim")

    def __init__(self, cause: str, edges: tuple[Edge, ...]) -> None:
        self.cause = cause
        self.edges = edges
        self.victim = _choose_victim(cause, edges)
        self.rest_on(edges)

    def rest_on(self, grounds: tuple[Edge, ...]) -> None:
        """Note the edges that prove the knot."""
        self.grounds = grounds
        self.serial = max(edge.wait.serial for edge in grounds)

    def may_dissolve(self) -> bool:
        """Whether a party may yet be let go by what is no blocker: a time-out, or somebody awake who cancels a task.

        With an open wait among the grounds nobody is awake.
        """
        if any(edge.blockers.is_open for edge in self.grounds):
            return False
        return any(edge.wait.may_end_otherwise() for edge in self.grounds)

    def stands(self) -> bool:
        """Whether it is still there: nobody who could untie it has moved, or been told to."""
        return all(edge.stands() for edge in self.grounds)


def _choose_victim(cause: str, edges: tuple[Edge, ...]) -> Wait | None:
    """Pick the lightest party; of equals the newest wait, which closed the knot.

    Of agents that are asleep those in open waits come first (the others merely wait for them), non-daemon
    before daemon.
    """
    candidates = [edge for edge in edges if edge.wait.can_raise()]
    if not candidates:
        return None

    def rank(edge: Edge) -> tuple[bool, bool, bool, int, int]:
        asleep = cause == ASLEEP
        return (
            edge.agent.weight > EXPENDABLE,
            asleep and edge.blockers.rule is not OPEN,
            asleep and bool(edge.agent.daemon),
            edge.agent.weight,
            -edge.wait.serial,
        )

    return min(candidates, key=rank).wait
