"""Segments: which stretches of threads cannot run at the same time, since one was over when the other began.

A thread's life is cut into segments where it starts or joins another thread, submits work or takes its
result. Vector clocks say of two segments whether one happened before the other: what a thread did before it
started a child, and what a child did that was joined, cannot be part of a deadlock with what came after.

Guarantees: keeps no thread alive; a clock knows only of clocks with which a lock order was recorded, of at
most `MOST` others. Where it has forgotten one, segments count as concurrent.

Assumes: only the agent itself advances its clock; vectors are never changed in place, so whoever has read
one can keep it. No lock is needed, with and without the GIL.

Cost: one small dictionary for each start, join, submit or result; nothing on locks.
"""

from __future__ import annotations

from itertools import count

from lockwatch._core import agents, chains, settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lockwatch._core.agents import Agent
    from lockwatch._core.holds import Hold

MOST = 512
"""How many other clocks one clock remembers."""

ATTRIBUTE = "_lockwatch_clock"
"""Where a thread or a future has its clock."""

_NOTHING: dict[int, int] = {}
"""What has happened before, as long as no lock order was seen; shared, and never changed."""

Moment = tuple[int, int, dict[int, int]]
"""A segment of one agent: its clock's number, its own there, and what had happened before it, by clocks' numbers."""

_numbers = count(1).__next__


class Clock:
    """The clock of one agent.

    Attributes:
        number: Its number: what others know it by, as they are not to keep it, and what it has seen, for ever.
        segment: The number of the segment that the agent is in.
        seen: The last segments of other agents that are over for it; only of those in which an order was recorded.
        noted: Whether a lock order was recorded in any of its segments.
        exact: One truth value: whether what is known has to be looked at again in every segment, since an order that
            was seen is not recorded with all there is to it, or is in a cycle that can become dangerous.
    """

    __slots__ = ("exact", "noted", "number", "seen", "segment")

    def __init__(self, seen: dict[int, int] | None = None) -> None:
        self.number = _numbers()
        self.segment = 1
        self.seen: dict[int, int] = _NOTHING if seen is None else seen
        self.noted = False
        self.exact = [False]

    def now(self) -> Moment:
        """Return the present segment."""
        return self.number, self.segment, self.seen

    def known(self) -> dict[int, int]:
        """Return what has happened by the end of this segment: what a child or a waiter gets to know."""
        if not self.noted and len(self.seen) <= MOST:
            return self.seen
        vector = self.seen.copy()
        if self.noted:
            vector[self.number] = self.segment
        return _bounded(vector)

    def knows(self, vector: dict[int, int]) -> bool:
        """Return whether all in ``vector`` is over already."""
        seen = self.seen
        for clock, segment in vector.items():  # noqa: SIM110 - asked for each result of a pool
            if segment > seen.get(clock, 0) and clock != self.number:
                return False
        return True

    def learn(self, vector: dict[int, int]) -> None:
        """Begin a segment that comes after all in ``vector``."""
        seen = dict(self.seen)
        for clock, segment in vector.items():
            if clock != self.number and segment > seen.get(clock, 0):
                seen[clock] = segment
        self.seen = _bounded(seen)
        self.segment += 1


def _bounded(vector: dict[int, int]) -> dict[int, int]:
    while len(vector) > MOST:
        del vector[next(iter(vector))]
    return vector


def ordered(one: Moment, other: Moment) -> bool:
    """Return whether one of two segments was over when the other began; those of one agent are."""
    return one[0] == other[0] or other[2].get(one[0], 0) >= one[1] or one[2].get(other[0], 0) >= other[1]


def count_segment(agent: Agent, clock: Clock) -> None:
    """Tell the twin in C in which segment the agent is."""
    record = getattr(agent.holds, "record", None)
    if record is not None:
        record.set_segment(clock.segment)


def look_closely(exact: list[bool]) -> None:
    """Have what is known looked at again, now and in every segment of the clock with this value (as far as allowed)."""
    if not exact[0]:
        exact[0] = True
        for agent in agents.living() + agents.others():
            if agent.clock is not None and agent.clock.exact is exact:
                chains.new_era(agent)


def clock_of(agent: Agent) -> Clock:
    """Return an agent's clock: the one that its thread was given when it was started, or a new one."""
    clock: Clock | None = agent.clock
    if clock is None:
        thread = agent.thread() if agent.kind == "thread" else None
        given = None if thread is None else thread.__dict__.get(ATTRIBUTE)
        clock = agent.clock = given if isinstance(given, Clock) else Clock()
    return clock


def release(agent: Agent) -> dict[int, int]:
    """End a segment of the calling agent; return what whoever comes after it gets to know."""
    clock = agent.clock or clock_of(agent)
    if not clock.noted and not clock.seen:
        return _NOTHING  # no order was seen in this segment, so it may go on
    vector = clock.known()
    clock.segment += 1
    chains.new_era(agent)
    return vector


def submit(agent: Agent) -> dict[int, int]:
    """End a segment of the calling agent, as `release`; the next one differs in nothing but its number.

    So what is known of the order of locks stays known, and what is seen again only writes the number down, for
    `Context.moment <lockwatch._core.orderedges.Context>` to read. Not so if it may close a cycle in a later segment.
    (A thread that is started also knows what its starter held, and since when: so that is looked at anew.)
    """
    clock = agent.clock or clock_of(agent)
    if clock.exact[0] or not clock.noted:
        return release(agent)
    vector = clock.known()
    clock.segment += 1
    if agent.chains:
        count_segment(agent, clock)
    return vector


def acquire(agent: Agent, vector: dict[int, int]) -> None:
    """Begin a segment of the calling agent, after what is in ``vector``; there is none if it knows that already."""
    if vector:
        clock = agent.clock or clock_of(agent)
        if clock.knows(vector):
            return
        clock.learn(vector)
        chains.new_era(agent)


def started(thread: Any) -> None:
    """The calling thread is about to start ``thread``."""
    if settings.order:
        me = agents.current()
        thread.__dict__[ATTRIBUTE] = Clock(release(me))
        if me.holds:
            thread.__dict__[INHERITED] = (me, tuple(me.holds.items()))


def joined(thread: Any) -> None:
    """The calling thread has seen the end of ``thread``."""
    if settings.order:
        clock = thread.__dict__.get(ATTRIBUTE)
        if isinstance(clock, Clock):
            acquire(agents.current(), clock.known())


def begin_work(agent: Agent, vector: dict[int, int]) -> Clock:
    """The calling agent begins a piece of work that was submitted after ``vector``; return the work's clock.

    It stays the thread's own afterwards, too, unless `end_work` is called: to be done if an order was noted in it.
    """
    seen = (agent.clock or clock_of(agent)).known()
    if seen and vector:
        merged = vector
        for clock, segment in seen.items():
            if segment > merged.get(clock, 0):
                if merged is vector:
                    merged = vector.copy()
                merged[clock] = segment
        seen = merged
    agent.clock = work = Clock(seen or vector)
    chains.new_era(agent)
    _give_to_thread(agent, work)
    return work


def end_work(agent: Agent) -> None:
    """The calling agent has ended a piece of work."""
    agent.clock = clock = Clock((agent.clock or clock_of(agent)).known())
    chains.new_era(agent)
    _give_to_thread(agent, clock)


def _give_to_thread(agent: Agent, clock: Clock) -> None:
    thread = agent.thread()
    if thread is not None:
        thread.__dict__[ATTRIBUTE] = clock


INHERITED = "_lockwatch_gates"
"""Where a thread or a task has who started it, and what that one held."""


def inherited_gates(agent: Agent) -> tuple[Hold, ...]:
    """Return the holds that whoever started this thread had then and still has.

    They keep others out as if the thread held the locks itself (Sulzmann, arXiv 2512.23552).
    """
    begun: Any = agent.thread() if agent.kind == "thread" else agent.task_ref()  # type: ignore[attr-defined]
    given = getattr(begun, INHERITED, None)
    if given is None:
        return ()
    parent, held = given
    gates = tuple(hold for key, hold in held if parent.holds.get(key) is hold)
    return gates + inherited_gates(parent) if gates else ()
