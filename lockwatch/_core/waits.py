"""Waits: the edges from agents to what they wait for, and who could end one.

A wait is published in its agent's own table (`Agent.waits`, innermost last: a signal handler can wait inside
a wait) before anyone looks for a deadlock, so the last of several agents to close a knot always sees all of
it. Nothing is kept anywhere else: with no agent blocked, the wait-for graph is empty.

The *verdict* of a wait (MySQL's GRANTED, VICTIM, TIMEOUT, KILLED) is claimed once, by
``slot.setdefault(VERDICT, ...)``; whoever loses the claim does as the winner said.

Assumed atomic, with and without the GIL: ``list.append``, ``list.remove`` of objects compared by identity,
``dict.setdefault`` with a small int as key, one attribute store.
"""

from __future__ import annotations

from itertools import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any, Protocol

    from lockwatch._core.agents import Agent

    class Resource(Protocol):
        """Anything that can be waited for."""

        def blockers(self, wait: Wait, /) -> Blockers:
            """Say who could end this wait.

            Reads only; may be asked by any thread, at any time, more than once.
            """
            ...

        def forget_waits(self, survivor: Agent, /) -> None:
            """Drop the waits of all agents but one: the others did not come along through a fork."""
            ...

        # A resource may also have ``doubt(wait) -> bool``: asked when ``wait`` is part of a knot, and what costs too
        # much to ask before. True if its blockers have become soft by that.


FREE = "free"
"""Nothing stands in the way: the wait is about to end."""
ALL = "all"
"""Each of the agents must act before the wait can end."""
ANY = "any"
"""One of the agents is enough."""
OPEN = "open"
"""Any agent at all could end it."""

VERDICT = 0
GRANTED = "granted"
TIMED_OUT = "timed out"
INTERRUPTED = "interrupted"
SUSPENDED = "suspended"


class Victim:
    """The verdict of the wait that was chosen to end a deadlock.

    Attributes:
        finding: What to raise; set before the waiter is woken.
        ready: Whether that has happened.
        revoked: The wait turned out not to be able to take an error; it goes on.
    """

    __slots__ = ("finding", "ready", "revoked")

    def __init__(self) -> None:
        self.finding: object = None
        self.ready = self.revoked = False


class Blockers:
    """Who could end a wait.

    Attributes:
        rule: FREE, ALL, ANY or OPEN.
        sight: Given if the answer is *soft*: the rule is ALL or ANY, but only as far as is known; while the wait
            has hope, somebody else may end it. (A plain lock taken by a bare ``acquire()`` may be a signal, which
            another thread will release; a future may be cancelled.) Says whether a thread that is not among the
            idle ones (idents) could be that somebody; may be slow.
        agents: The agents concerned; for OPEN those that the report should name, which decide nothing.
        evidence: What this answer was read off (a hold, say); the answer stands as long as asking again gives
            the same object.
    """

    __slots__ = ("agents", "evidence", "rule", "sight")

    def __init__(
        self,
        rule: str,
        agents: tuple[Agent, ...] = (),
        evidence: object = None,
        sight: Callable[[set[int]], bool] | None = None,
    ) -> None:
        self.rule = rule
        self.sight = sight
        self.agents = agents
        self.evidence = evidence

    def same(self, other: Blockers) -> bool:
        """Whether ``other`` says the same thing of the same state."""
        return (
            self.rule is other.rule
            and self.soft == other.soft
            and self.evidence is other.evidence
            and self.agents == other.agents
        )

    @property
    def soft(self) -> bool:
        """Whether somebody else than the agents may end the wait, as far as is known."""
        return self.sight is not None

    @property
    def is_open(self) -> bool:
        """Whether anybody at all may be able to end the wait."""
        return self.sight is not None or self.rule is OPEN


NOBODY = Blockers(FREE)

_serials = count(1)


class Wait:
    """One agent waiting for one resource.

    Attributes:
        agent: Who waits.
        resource: What for.
        mode: In which mode ("exclusive" for a mutex).
        since_ns: Since when, on the monotonic clock, in nanoseconds.
        deadline_ns: When it ends by itself, or None.
        code, lasti: Where: the code object and the instruction of the caller.
        serial: Its number; later waits have higher ones.
        slot: Holds the verdict once there is one.
        hope: Whether its soft blockers are to be taken as such; False once nobody else can be found to end it.
        doubted: The evidence (a hold, say) that was looked at closely and is soft since; or None.
        recheck_ns: When the waiter itself is to look again (a grace runs out), or None.
        raises: Whether its agent can be given an error; False for the wait at interpreter exit.
        open_seen: Whether its resource has ever said OPEN: such a wait is looked at again when an agent ends.
    """

    __slots__ = (
        "agent",
        "code",
        "deadline_ns",
        "doubted",
        "hope",
        "lasti",
        "mode",
        "open_seen",
        "raises",
        "recheck_ns",
        "resource",
        "serial",
        "since_ns",
        "slot",
    )

    def __init__(
        self,
        agent: Agent,
        resource: Resource,
        since_ns: int,
        deadline_ns: int | None = None,
        code: CodeType | None = None,
        lasti: int = -1,
        mode: str = "exclusive",
    ) -> None:
        self.agent = agent
        self.resource = resource
        self.mode = mode
        self.since_ns = since_ns
        self.deadline_ns = deadline_ns
        self.code = code
        self.lasti = lasti
        self.serial = next(_serials)
        self.slot: dict[int, Any] = {}
        self.hope = True
        self.doubted: object = None
        self.recheck_ns: int | None = None
        self.raises = True
        self.open_seen = False

    def begin_again(self) -> None:
        """Count as a new wait from now on, without a verdict, but with the clock running on."""
        self.serial = next(_serials)
        self.slot = {}

    def can_raise(self) -> bool:
        """Whether its agent can be given an error now."""
        return self.raises

    def is_worth_a_look(self) -> bool:
        """Whether it may be part of a knot, as far as is seen at once; asked before it is searched for."""
        return True

    def may_end_otherwise(self) -> bool:
        """Whether something beside its blockers may still end it; asked when it is part of a knot, may be slow."""
        return False

    def wake(self) -> None:
        """Wake the agent, to read its verdict.

        A wait that cannot be woken leaves this empty and has ``raises`` False.
        """

    def give_way(self) -> None:
        """Make room while the frame that waits is suspended under a signal handler or finalizer that waits itself."""


def publish(wait: Wait) -> None:
    """Put ``wait`` into the graph, as its agent's innermost."""
    wait.agent.waits.append(wait)


def withdraw(wait: Wait) -> None:
    """Take ``wait`` out of the graph; nothing happens if it is not in it."""
    try:
        wait.agent.waits.remove(wait)
    except ValueError:
        pass


def innermost(agent: Agent) -> Wait | None:
    """Return what ``agent`` waits for right now, or None."""
    return agent.innermost()
