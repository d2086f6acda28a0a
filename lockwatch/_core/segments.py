"""Segments: which stretches of threads cannot run at the same time, since one was over when the other began.

A thread's life is cut into segments where it starts or joins another thread, submits work or takes its
result. Vector clocks say of two segments whether one happened before the other: what a thread did before it
started a child, and what a child did that was joined, cannot be part of a deadlock with what came after.

Guarantees: keeps no thread alive; a clock knows only of clocks with which a lock order was recorded, of at
most `MOST` others. Where it has forgotten one, segments count as concurrent.

Assumes: only the agent itself advances its clock; a `Past` is never changed, so whoever has read one can keep it. No
lock is needed, with and without the GIL.

Cost: some microseconds for each start, join, submit or result, as long as no order is recorded; else a look at all that
one of the two knows. Nothing on locks.
"""

from __future__ import annotations

from itertools import count
from weakref import ref

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

_numbers = count(1).__next__
_serials = count(1).__next__


class _Vector:
    """Last segments, by clocks' numbers; shared by many, and never changed.

    Attributes:
        entries: The segments.
        serial: Its number; not used again.
        within: The numbers of vectors of which it was made: it contains them, but for what it had no room for.
    """

    __slots__ = ("entries", "serial", "within")

    def __init__(self, entries: dict[int, int]) -> None:
        while len(entries) >= MOST:
            del entries[next(iter(entries))]
        self.entries = entries
        self.serial = _serials()
        self.within: set[int] = set()

    def contains(self, other: _Vector) -> bool:
        """Return whether ``other`` is known to be within this one, at once."""
        return other is self or other.serial in self.within


class Past:
    """What has happened before a segment: of other agents, the last segments that are over. Never changed.

    It is a vector clock in two parts. Agents that work for each other know the same but for one entry, so they share
    the rest, and to compare what they know is mostly to compare that entry.

    Args:
        vector: The last segments, by clocks' numbers.
        number: The clock of which more is over than is in there, or 0.
        segment: Its last segment.
    """

    __slots__ = ("number", "segment", "vector")

    def __init__(self, vector: _Vector, number: int = 0, segment: int = 0) -> None:
        self.vector = vector
        self.number = number
        self.segment = segment

    def last(self, clock: int) -> int:
        """Return the last segment of a clock that is over, or 0."""
        return self.segment if clock == self.number else self.vector.entries.get(clock, 0)

    def covers(self, other: Past, but: int = 0) -> bool:
        """Return whether all in ``other`` is over, apart from what the clock ``but`` did."""
        return (
            self.vector.contains(other.vector)
            or all(
                segment <= self.last(clock) or clock == but for clock, segment in other.vector.entries.items()
            )
        ) and (other.number == but or other.segment <= self.last(other.number))

    def joined_with(self, other: Past, but: int = 0) -> Past:
        """Return both together, apart from what the clock ``but`` did."""
        if self.vector.contains(other.vector):
            if other.number == but or other.segment <= self.last(other.number):
                return self
            if self.number in (0, other.number):
                return Past(self.vector, other.number, other.segment)
        entries = self.flat()
        for clock, segment in other.flat().items():
            if segment > entries.get(clock, 0) and clock != but:
                entries[clock] = segment
        joined = _Vector(entries)
        joined.within.add(self.vector.serial)
        if not but:
            joined.within.add(other.vector.serial)
        return Past(joined)

    def known(self) -> Past:
        """Return this: what is known where there is no clock any more."""
        return self

    def flat(self) -> dict[int, int]:
        """Return all of it as a dictionary of its own."""
        entries = self.vector.entries.copy()
        if self.number:
            entries[self.number] = self.segment
        return entries

    def __bool__(self) -> bool:
        return bool(self.number or self.vector.entries)


NOTHING = Past(_Vector({}))
"""What has happened before, as long as no lock order was seen."""

Moment = tuple[int, int, Past]
"""A segment of one agent: its clock's number, its own there, and what had happened before it."""


class Exactness:
    """Whether what is known of an agent's orders is to be looked at again in every segment of its clock.

    It is, if an order that was seen is not recorded with all there is to it, or is in a cycle that can become
    dangerous.

    Args:
        agent: The agent.

    Attributes:
        on: Whether it is so.
    """

    __slots__ = ("_agent", "on")

    def __init__(self, agent: Agent) -> None:
        self.on = False
        self._agent = ref(agent)

    def look_closely(self) -> None:
        """Have it so from now on, also for what is known in the present segment."""
        if not self.on:
            self.on = True
            agent = self._agent()
            if agent is not None and agent.clock is not None and agent.clock.exact is self:
                chains.new_era(agent)


class Clock:
    """The clock of one agent.

    Attributes:
        number: Its number: what others know it by, as they are not to keep it, and what it has seen, for ever.
        segment: The number of the segment that the agent is in.
        seen: The last segments of other agents that are over for it; only of those in which an order was recorded.
        noted: Whether a lock order was recorded in any of its segments.
        exact: Whether all is to be looked at again in every segment; None until an order is recorded.
    """

    __slots__ = ("_covered", "exact", "noted", "number", "seen", "segment")

    def __init__(self, seen: Past = NOTHING) -> None:
        self.number = _numbers()
        self.segment = 1
        self.seen = seen
        self.noted = False
        self.exact: Exactness | None = None
        self._covered: set[int] | None = None

    def now(self) -> Moment:
        """Return the present segment."""
        return self.number, self.segment, self.seen

    def known(self) -> Past:
        """Return what has happened by the end of this segment: what a child or a waiter gets to know."""
        seen = self.seen
        if not self.noted:
            return seen
        if seen.number in (0, self.number):
            return Past(seen.vector, self.number, self.segment)
        return Past(_Vector(seen.flat()), self.number, self.segment)

    def knows(self, past: Past) -> bool:
        """Return whether all in ``past`` is over already."""
        if self._covered is not None and past.vector.serial in self._covered:
            return past.number == self.number or past.segment <= self.seen.last(past.number)
        if not self.seen.covers(past, self.number):
            return False
        self._cover(past)
        return True

    def _cover(self, past: Past) -> None:
        if self._covered is None or len(self._covered) >= MOST:
            self._covered = set()
        self._covered.add(past.vector.serial)  # it only learns, so this stays true

    def learn(self, past: Past) -> None:
        """Begin a segment that comes after all in ``past``."""
        seen = self.seen.joined_with(past, self.number)
        self.seen = Past(_Vector(seen.flat())) if seen.number else seen  # what `known` adds is its own entry
        self.segment += 1
        self._cover(past)


def ordered(one: Moment, other: Moment) -> bool:
    """Return whether one of two segments was over when the other began; those of one agent are."""
    return one[0] == other[0] or other[2].last(one[0]) >= one[1] or one[2].last(other[0]) >= other[1]


def count_segment(agent: Agent, clock: Clock) -> None:
    """Tell the twin in C in which segment the agent is."""
    record = getattr(agent.holds, "record", None)
    if record is not None:
        record.set_segment(clock.segment)


def clock_of(agent: Agent) -> Clock:
    """Return an agent's clock: the one that its thread was given when it was started, or a new one."""
    clock: Clock | None = agent.clock
    if clock is None:
        thread = agent.thread() if agent.kind == "thread" else None
        given = None if thread is None else thread.__dict__.get(ATTRIBUTE)
        clock = agent.clock = given if isinstance(given, Clock) else Clock()
    return clock


def release(agent: Agent) -> Past:
    """End a segment of the calling agent; return what whoever comes after it gets to know."""
    clock = agent.clock or clock_of(agent)
    if not clock.noted and not clock.seen:
        return NOTHING  # no order was seen in this segment, so it may go on
    past = clock.known()
    clock.segment += 1
    chains.new_era(agent)
    return past


def submit(agent: Agent) -> Past:
    """End a segment of the calling agent, as `release`; the next one differs in nothing but its number.

    So what is known of the order of locks stays known, and what is seen again only writes the number down, for
    `Context.moment <lockwatch._core.orderedges.Context>` to read. Not so if it may close a cycle in a later segment.
    (A thread that is started also knows what its starter held, and since when: so that is looked at anew.)
    """
    clock = agent.clock or clock_of(agent)
    if not clock.noted or (clock.exact is not None and clock.exact.on):
        return release(agent)
    past = clock.known()
    clock.segment += 1
    if agent.chains:
        count_segment(agent, clock)
    return past


def acquire(agent: Agent, before: Past | Clock) -> None:
    """Begin a segment of the calling agent, after what is known there; there is none if it knows that already."""
    past = before.known()
    clock = agent.clock or clock_of(agent)
    if past.vector is clock.seen.vector and past.number in (0, clock.number):
        return  # mostly the result of work that came after nothing but this
    if past and not clock.knows(past):
        clock.learn(past)
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
            acquire(agents.current(), clock)


def begin_work(agent: Agent, past: Past) -> Clock:
    """The calling agent begins a piece of work that was submitted after ``past``; return the work's clock.

    It stays the thread's own after `end_work` if no order was noted in it. Then it is known to nobody, so it is the
    next work's as well if that comes after nothing but more of the same.
    """
    clock = agent.clock or clock_of(agent)
    seen = clock.seen
    if not clock.noted and seen.vector is past.vector and (seen.number == past.number or not seen.number):
        if seen.segment < past.segment:
            clock.seen = past
        if agent.chains:
            chains.new_era(agent)
        return clock
    seen = clock.known()
    if seen.vector.contains(past.vector):
        past = seen.joined_with(past)
    elif not past.covers(seen):
        past = past.joined_with(seen)
    agent.clock = work = Clock(past)
    chains.new_era(agent)
    _give_to_thread(agent, work)
    return work


def end_work(agent: Agent, work: Clock) -> Clock | Past:
    """The calling agent has ended a piece of work with this clock; return what tells others what it knew by then."""
    if not work.noted and agent.clock is work:
        return work.seen  # the clock is the next work's
    agent.clock = clock = Clock((agent.clock or clock_of(agent)).known())
    chains.new_era(agent)
    _give_to_thread(agent, clock)
    return work


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
