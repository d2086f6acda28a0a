"""What agents know of each other's past, in two parts and with short cuts, beside plain vector clocks."""

from __future__ import annotations

import random

import pytest

from lockwatch._core import segments
from lockwatch._core.agents import Agent
from lockwatch._core.segments import Clock, Past


class Plain:
    """A clock with a plain dictionary."""

    def __init__(self, number: int, seen: dict[int, int]) -> None:
        self.number, self.seen, self.segment, self.noted = number, dict(seen), 1, False

    def known(self) -> dict[int, int]:
        return {**self.seen, self.number: self.segment} if self.noted else dict(self.seen)

    def knows(self, past: dict[int, int]) -> bool:
        return all(
            clock == self.number or segment <= self.seen.get(clock, 0) for clock, segment in past.items()
        )

    def learn(self, past: dict[int, int]) -> None:
        for clock, segment in past.items():
            if clock != self.number:
                self.seen[clock] = max(segment, self.seen.get(clock, 0))
        self.segment += 1


def covers(one: dict[int, int], other: dict[int, int]) -> bool:
    """Whether all of one plain vector is within another."""
    return all(segment <= one.get(clock, 0) for clock, segment in other.items())


@pytest.mark.parametrize("seed", range(60))
def test_as_plain_vector_clocks(seed: int) -> None:
    """Random submits, pieces of work and results: each agent knows exactly what it would know with plain clocks."""
    chance = random.Random(seed)
    first = Clock()
    agents: list[tuple[Clock, Plain]] = [(first, Plain(first.number, {}))]
    pasts: list[tuple[Past, dict[int, int]]] = [(segments.NOTHING, {})]
    for _ in range(300):
        clock, plain = chance.choice(agents)
        past, vector = chance.choice(pasts[-8:])
        what = chance.randrange(5)
        if what == 0:
            clock.noted = plain.noted = True
        elif what == 1:
            pasts.append((clock.known(), plain.known()))
            clock.segment += 1
            plain.segment += 1
        elif what == 2 and len(agents) < 12:
            new = Clock(past)
            agents.append((new, Plain(new.number, vector)))
        elif what == 3:
            assert clock.knows(past) == plain.knows(vector)
            if not clock.knows(past):
                clock.learn(past)
                plain.learn(vector)
        else:
            seen, model = clock.known(), plain.known()
            if seen.vector.contains(past.vector):
                both = seen.joined_with(past)
            else:
                both = past if past.covers(seen) else past.joined_with(seen)
            joined = {key: max(model.get(key, 0), vector.get(key, 0)) for key in {*model, *vector}}
            assert {key: both.last(key) for key in joined} == joined
            assert len(both.flat()) == len(joined)
            work = Clock(both)
            agents[chance.randrange(len(agents))] = work, Plain(work.number, joined)
        assert clock.seen.flat() == plain.seen
        one, other = chance.choice(pasts), chance.choice(pasts)
        assert one[0].covers(other[0]) == covers(one[1], other[1])
        assert one[0].flat() == one[1]


class Worker:
    """An agent beside a plain record of what happened before what it does now."""

    def __init__(self) -> None:
        self.agent = Agent(0, 0, None)
        self.before: set[int] = set()
        self.work: tuple[Clock, dict[str, object]] | None = None

    def begin(self, past: Past, before: set[int]) -> None:
        """Begin a piece of work that was submitted after ``past``, as `lockwatch.locks.pools` does."""
        clock = segments.begin_work(self.agent, past)
        self.work = clock, {"known": clock}
        self.before |= before

    def end(self) -> tuple[dict[str, object], set[int]]:
        """End it, as there; return its future and what happened before that was there."""
        assert self.work is not None
        clock, future = self.work
        future["known"] = segments.end_work(self.agent, clock)
        self.work = None
        return future, set(self.before)


@pytest.mark.parametrize("seed", range(100))
def test_pieces_of_work_happen_in_the_order_of_submit_and_result(seed: int) -> None:
    """Random pools: of two lock orders one is known to have happened before the other exactly if it has."""
    chance = random.Random(seed)
    everyone = [Worker() for _ in range(4)]
    submitted: list[tuple[Past, set[int]]] = []
    done: list[tuple[dict[str, object], set[int]]] = []
    orders: list[tuple[segments.Moment, set[int], Worker]] = []
    notes = chance.choice([1, 5, 20])
    for _ in range(200):
        worker = chance.choice(everyone)
        what = chance.randrange(4)
        if what == 0 and chance.randrange(notes) == 0:
            clock = segments.clock_of(worker.agent)
            clock.noted = True
            orders.append((clock.now(), set(worker.before), worker))
            worker.before.add(len(orders) - 1)
        elif what == 1:
            submitted.append((segments.submit(worker.agent), set(worker.before)))
        elif what == 2 and submitted and worker is not everyone[0]:
            if worker.work is None:
                worker.begin(*submitted.pop(chance.randrange(len(submitted))))
            else:
                done.append(worker.end())
        elif what == 3 and done:
            future, before = chance.choice(done)
            known = future["known"]
            assert isinstance(known, (Clock, Past))
            segments.acquire(worker.agent, known.known())
            worker.before |= before
    for number, (moment, _, worker) in enumerate(orders):
        for later, before, other in orders[number + 1 :]:
            assert segments.ordered(moment, later) == (number in before or other is worker)


def test_pieces_of_work_share_what_they_know() -> None:
    """A pool that is given one piece of work after the other compares entries, not vectors."""
    main, worker = Clock(), Clock()
    main.noted = True
    main.learn(Past(segments._Vector(dict.fromkeys(range(1000, 1200), 1))))
    known = worker.known()
    for _ in range(5):
        given = main.known()
        main.segment += 1
        assert given.covers(known)
        known = Clock(given).known()
        assert known.vector is main.seen.vector
        assert main.knows(known)


def test_bounded() -> None:
    """A clock knows of a limited number of others; those heard of first are forgotten."""
    clock = Clock()
    for number in range(10_000, 10_000 + 2 * segments.MOST):
        clock.learn(Past(segments.NOTHING.vector, number, 3))
    assert len(clock.seen.flat()) <= segments.MOST
    assert clock.seen.last(10_000 + 2 * segments.MOST - 1) == 3
