"""What agents know of each other's past, in two parts and with short cuts, beside plain vector clocks."""

from __future__ import annotations

import random

import pytest

from lockwatch._core import segments
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
            assert len(both) == len(joined)
            work = Clock(both)
            agents[chance.randrange(len(agents))] = work, Plain(work.number, joined)
        assert clock.seen.flat() == plain.seen
        one, other = chance.choice(pasts), chance.choice(pasts)
        assert one[0].covers(other[0]) == covers(one[1], other[1])
        assert one[0].flat() == one[1]


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
    assert len(clock.seen) <= segments.MOST
    assert clock.seen.last(10_000 + 2 * segments.MOST - 1) == 3
