"""What the search must and must not find on graphs made for the purpose: readings that change, rules of their own."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from lockwatch._core import detector
from lockwatch._core import settings as knobs
from lockwatch._core.knots import ASLEEP, CYCLE, ORPHAN
from lockwatch._core.waits import ALL, ANY, FREE, GRANTED, OPEN, VERDICT, Blockers, Wait, withdraw

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockwatch._core.agents import Agent
    from tests.detector.conftest import Stubs

# --- what is read twice ------------------------------------------------------------------------------------


def changing(stubs: Stubs, one: Agent, rule: str, *parties: Agent, after: Blockers) -> Wait:
    """Publishes a wait whose resource gives one answer, and from the second question on another."""
    wait = stubs.wait(one, rule, *parties)
    stubs.answers(wait).append(after)
    return wait


@pytest.mark.parametrize("rule", [ALL, ANY])
def test_a_hold_that_came_back_is_another_one(stubs: Stubs, rule: str) -> None:
    """ABA: an owner that let go and took again between the two readings was able to act: no deadlock."""
    a, b = stubs.agent(), stubs.agent()
    changing(stubs, a, rule, b, after=Blockers(rule, (b,), object()))
    closing = stubs.wait(b, rule, a)
    with stubs.world([a, b]):
        assert detector.check(closing) is None
        assert detector.check(closing) is not None  # from now on it stands


@pytest.mark.parametrize("change", ["leaves", "gets a verdict", "waits inside the wait", "ends"])
@pytest.mark.parametrize("rule", [ALL, ANY])
def test_a_party_that_moved_in_between(stubs: Stubs, rule: str, change: str) -> None:
    """What a party did after it was read and before the last one was is seen by the second reading: no deadlock."""
    a, b = stubs.agent(), stubs.agent()
    first, second = stubs.wait(a, rule, b), stubs.wait(b, rule, a)
    answer = second.resource.blockers(second)

    def ask(wait: Wait, /) -> Blockers:
        if change == "leaves":
            withdraw(first)
        elif change == "gets a verdict":
            first.slot[VERDICT] = GRANTED
        elif change == "ends":
            a.ended = True
        elif len(a.waits) == 1:
            stubs.wait(a, FREE)
        return answer

    with stubs.world([a, b]):
        assert detector.check(first) is not None
        with mock.patch.object(second.resource, "blockers", ask):
            assert detector.check(first) is None


def test_only_the_innermost_wait_counts(stubs: Stubs) -> None:
    """An agent that waits inside a wait (in a signal handler) may be let go there: no deadlock."""
    a, b = stubs.agent(), stubs.agent()
    stubs.wait(a, ALL, b)
    stubs.wait(a, FREE)
    with stubs.world([a, b]):
        assert detector.check(stubs.wait(b, ALL, a)) is None


def test_a_change_elsewhere_hides_no_knot(stubs: Stubs) -> None:
    """Two agents are stuck by ANY edges; that two others move on at the same moment does not save them.

    Nobody would look again: the others' own next waits do not lead here.
    """
    a, b, c, d = (stubs.agent() for _ in range(4))
    stubs.wait(a, ANY, b)
    closing = stubs.wait(b, ANY, a)
    stubs.wait(c, ANY, d)
    changing(stubs, d, ANY, c, after=Blockers(FREE))
    with stubs.world([a, b, c, d]):
        knot = detector.check(closing)
    assert knot is not None
    assert {edge.agent for edge in knot.edges} == {a, b}


@pytest.mark.parametrize("rule", [ALL, ANY])
def test_an_orphans_knot_is_its_waiter_alone(stubs: Stubs, rule: str) -> None:
    """Who waits behind the one that waits for an ended owner is a tail: not a party, and never the victim.

    The victim would be the tail, whose wait is newer; nothing is won by that.
    """
    first, tail = stubs.agent(), stubs.agent()
    orphaned = stubs.wait(first, rule, stubs.agent(ended=True))
    behind = stubs.wait(tail, rule, first)
    with stubs.world([first, tail]):
        knot = detector.check(behind)
    assert knot is not None
    assert knot.cause == ORPHAN
    assert knot.victim is orphaned
    assert [edge.agent for edge in knot.edges] == [first]


# --- rules of their own --------------------------------------------------------------------------------------


def test_any_of_nobody_is_nobody(stubs: Stubs) -> None:
    """A wait that anyone of an empty set could end never ends; one that needs all of an empty set ends at once."""
    a, b = stubs.agent(), stubs.agent()
    hopeless, free = stubs.wait(a, ANY), stubs.wait(b, ALL)
    with stubs.world([a, b]):
        knot = detector.check(hopeless)
        assert knot is not None
        assert knot.cause == ORPHAN
        assert detector.check(free) is None


def test_a_blocker_named_twice_is_one(stubs: Stubs) -> None:
    """One agent that is named twice among ALL lets go once for both."""
    a, b = stubs.agent(), stubs.agent()
    wait = stubs.wait(a, ALL, b, b)
    with stubs.world([a, b]):
        assert detector.check(wait) is None


def test_all_needs_the_last_of_several_blockers(stubs: Stubs) -> None:
    """One stuck blocker of several is enough, wherever it stands among them (the last kept, the first kept: both miss)."""
    for place in range(3):
        a, b, c, d = (stubs.agent() for _ in range(4))
        others = [c, d]
        others.insert(place, b)
        stubs.wait(a, ALL, *others)
        with stubs.world([a, b, c, d]):
            knot = detector.check(stubs.wait(b, ALL, a))
            assert knot is not None
            assert {edge.agent for edge in knot.edges} == {a, b}


def test_a_long_chain_is_no_deadlock_by_depth(stubs: Stubs) -> None:
    """5,000 waits in a row are a long queue, not a deadlock; and closed they are one ring of 5,000."""
    people = [stubs.agent() for _ in range(5000)]
    for one, following in zip(people, people[1:], strict=False):
        stubs.wait(one, ALL, following)
    with stubs.world(people):
        assert detector.check(people[0].waits[-1]) is None
        knot = detector.check(stubs.wait(people[-1], ALL, people[0]))
    assert knot is not None
    assert knot.cause == CYCLE
    assert len(knot.edges) == len(people)


def test_an_open_wait_ends_with_one_agent_awake(stubs: Stubs) -> None:
    """Anybody awake may end an open wait, and all that hang on it; with nobody awake all of them are asleep."""
    a, b, c = stubs.agent(), stubs.agent(), stubs.agent()
    open_wait, behind = stubs.wait(a, OPEN), stubs.wait(b, ALL, a)
    with stubs.world([a, b, c]):
        assert detector.check(open_wait) is None
        assert detector.check(behind) is None
        stubs.wait(c, ANY, a, b)
        for wait in (open_wait, behind):
            knot = detector.check(wait)
            assert knot is not None
            assert knot.cause == ASLEEP
            assert knot.victim is open_wait
    with stubs.world([a, b, c], outsiders=True):
        assert detector.check(behind) is None


def ring_with_hope(
    stubs: Stubs, sees: Callable[[set[int]], bool], age: int
) -> tuple[list[Agent], Wait, Wait]:
    """Two agents that wait for each other, one of them softly, for so many nanoseconds; and a third that is awake."""
    a, b, c = stubs.agent(), stubs.agent(), stubs.agent()
    soft = stubs.wait(a, stubs.SOFT, b)
    stubs.answers(soft)[:] = [Blockers(ALL, (b,), object(), sees)]
    soft.since_ns -= age
    closing = stubs.wait(b, ALL, a)
    closing.since_ns -= age
    return [a, b, c], soft, closing


def test_a_soft_edge_has_a_grace(stubs: Stubs) -> None:
    """A ring that somebody awake may untie is left alone for the grace, unseen; with nobody awake it is a deadlock."""

    def unasked(idle: set[int]) -> bool:
        raise AssertionError

    people, soft, closing = ring_with_hope(stubs, unasked, age=0)
    with stubs.world(people):
        for wait in (soft, closing):
            assert detector.check(wait) is None
            assert wait.recheck_ns is not None
            assert wait.recheck_ns - wait.since_ns >= knobs.reacquire_grace_ns
    with stubs.world(people[:2]):
        assert detector.check(closing) is not None
    with stubs.world(people[:2], outsiders=True):
        assert detector.check(closing) is None


@pytest.mark.parametrize("in_sight", [True, False])
def test_after_the_grace_it_is_asked_who_sees_it(stubs: Stubs, in_sight: bool) -> None:
    """Then it is a deadlock unless somebody who can move sees the lock; that is asked without those that are stuck."""
    asked: list[set[int]] = []

    def sees(idle: set[int]) -> bool:
        asked.append(idle)
        return in_sight

    people, soft, closing = ring_with_hope(stubs, sees, age=2 * knobs.reacquire_grace_ns)
    with stubs.world(people):
        knot = detector.check(closing)
        assert asked == [{soft.agent.ident, closing.agent.ident}]
        assert soft.hope is in_sight
        if in_sight:
            assert knot is None
            assert closing.recheck_ns is not None
            assert closing.recheck_ns > monotonic_ns()  # the same time again
        else:
            assert knot is not None
            assert knot.cause == CYCLE
            assert {edge.agent for edge in knot.edges} == {soft.agent, closing.agent}
