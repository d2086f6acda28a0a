"""The search for agents that can never act again, against its definition: on graphs of stubs, without threads.

The oracle is the definition itself: the greatest set of agents of whom nobody can be let go by anyone outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import networkx as nx
from hypothesis import given, settings
from hypothesis import strategies as st

from lockwatch._core import detector, reduction
from lockwatch._core.knots import ASLEEP, CYCLE, ORPHAN, SELF, Edge, Knot
from lockwatch._core.waits import ALL, ANY, FREE, OPEN

if TYPE_CHECKING:
    from lockwatch._core.agents import Agent
    from tests.detector.conftest import Stubs

small = settings(derandomize=True, deadline=None, max_examples=500, database=None)
large = settings(small, max_examples=100)

Plan = tuple[str, list[int]]
"""What an agent does: "awake", "timed", "decided", or the rule of its wait; and the numbers of its blockers."""


def build(stubs: Stubs, plans: list[Plan], ended: int) -> list[Agent]:
    """Agents that do as planned, and then some that have ended, which blockers may name, too."""
    people = [stubs.agent() for _ in plans] + [stubs.agent(ended=True) for _ in range(ended)]
    for one, (what, numbers) in zip(people, plans, strict=False):
        parties = [people[number % len(people)] for number in numbers]
        if what in {"timed", "decided"}:
            stubs.wait(one, ALL, *parties, timed=what == "timed", decided=what == "decided")
        elif what != "awake":
            stubs.wait(one, what, *parties)
    return people


def can_be_let_go(one: Agent, group: set[Agent], living: list[Agent], *, outsiders: bool) -> bool:
    """Whether ``one`` of the group may act, or be let go by those who are not in the group."""
    if not one.waits:
        return True
    wait = one.waits[-1]
    if wait.deadline_ns is not None or wait.slot:
        return True
    blockers = wait.resource.blockers(wait)
    helps = [not party.ended and party not in group for party in blockers.agents]
    if blockers.is_open:
        return outsiders or any(other not in group for other in living)
    return {FREE: True, ALL: all(helps), ANY: any(helps)}[blockers.rule]


def by_subsets(living: list[Agent], *, outsiders: bool) -> set[Agent]:
    """The greatest group of whom nobody can be let go, by looking at all groups."""
    greatest: set[Agent] = set()
    for bits in range(1, 1 << len(living)):
        group = {one for place, one in enumerate(living) if bits >> place & 1}
        if not any(can_be_let_go(one, group, living, outsiders=outsiders) for one in group):
            greatest |= group
    return greatest


def by_removal(living: list[Agent], *, outsiders: bool) -> set[Agent]:
    """The same for many: take out whoever can be let go, until nobody can."""
    group = set(living)
    while out := {one for one in group if can_be_let_go(one, group, living, outsiders=outsiders)}:
        group -= out
    return group


def stuck_agents(living: list[Agent], *, outsiders: bool) -> set[Agent]:
    """What `reduction.unmarked` says."""
    awake, edges = [], {}
    for one in living:
        wait = one.waits[-1] if one.waits else None
        if (
            wait is None
            or wait.deadline_ns is not None
            or wait.slot
            or (blockers := wait.resource.blockers(wait)).rule == FREE
        ):
            awake.append(one)
        else:
            edges[one] = Edge(one, wait, blockers)
    return set(reduction.unmarked(edges, awake, anyone=outsiders))


def graphs(most: int) -> st.SearchStrategy[list[Plan]]:
    """Plans for up to ``most`` agents, mostly waiting ones; some graphs have open waits, most do not."""
    numbers = st.lists(st.integers(0, most + 1), max_size=3)
    closed = st.sampled_from([ALL, ALL, ANY, ANY, ALL, "awake", "timed", "decided", FREE])
    sleepy = st.sampled_from([ALL, ANY, OPEN, "soft"])
    return st.one_of(
        st.lists(st.tuples(closed, numbers), min_size=1, max_size=most),
        st.lists(st.tuples(sleepy, numbers), min_size=1, max_size=most),
        st.lists(st.tuples(st.one_of(closed, sleepy), numbers), min_size=1, max_size=most),
    )


@small
@given(plans=graphs(7), ended=st.integers(0, 2), outsiders=st.booleans())
def test_unmarked_is_the_greatest_dead_set(
    stubs: Stubs, plans: list[Plan], ended: int, outsiders: bool
) -> None:
    """Reduction leaves exactly the agents that no order of events could ever let go."""
    living = build(stubs, plans, ended)[: len(plans)]
    expected = by_subsets(living, outsiders=outsiders)
    assert stuck_agents(living, outsiders=outsiders) == expected == by_removal(living, outsiders=outsiders)


@large
@given(plans=graphs(60), ended=st.integers(0, 5), outsiders=st.booleans())
def test_unmarked_on_larger_graphs(stubs: Stubs, plans: list[Plan], ended: int, outsiders: bool) -> None:
    """The same with many agents."""
    living = build(stubs, plans, ended)[: len(plans)]
    assert stuck_agents(living, outsiders=outsiders) == by_removal(living, outsiders=outsiders)


def assert_knot(knot: Knot, stuck: set[Agent], living: list[Agent]) -> None:
    """The knot is a proof: its parties are stuck, in this order, for the cause given."""
    parties = [edge.agent for edge in knot.edges]
    assert set(parties) <= stuck
    assert len(parties) == len(set(parties))
    if knot.cause == ASLEEP:
        assert set(parties) == set(living)
        assert any(edge.blockers.is_open for edge in knot.edges)
    else:
        for edge, following in zip(knot.edges, parties[1:], strict=False):
            assert following in edge.blockers.agents
        last = knot.edges[-1].blockers.agents
        if knot.cause == ORPHAN:
            assert not last or any(party.ended for party in last)
        else:
            assert parties[0] in last
            one_alone = SELF if len(parties) == 1 else CYCLE
            assert knot.cause in (one_alone, "starved")
            assert knot.cause == one_alone or any(edge.blockers.rule == ANY for edge in knot.edges)
    assert knot.victim in [edge.wait for edge in knot.edges]
    assert set(knot.edges) <= set(knot.grounds)
    assert {edge.agent for edge in knot.grounds} <= stuck
    assert knot.serial == max(edge.wait.serial for edge in knot.grounds)


@small
@given(plans=graphs(8), ended=st.integers(0, 2), outsiders=st.booleans())
def test_check_finds_a_knot_when_its_waiter_is_stuck(
    stubs: Stubs, plans: list[Plan], ended: int, outsiders: bool
) -> None:
    """From every wait: a knot if its agent can never act again, none if it can; and what it says of it is so."""
    living = build(stubs, plans, ended)[: len(plans)]
    stuck = by_removal(living, outsiders=outsiders)
    with stubs.world(living, outsiders=outsiders):
        for one in living:
            if one.waits:
                knot = detector.check(one.waits[-1])
                if knot is None:
                    assert one not in stuck
                else:  # also for one that others may let go, behind parties of a knot
                    assert_knot(knot, stuck, living)


@small
@given(next_one=st.lists(st.integers(-1, 40), min_size=1, max_size=40))
def test_chains_against_networkx(stubs: Stubs, next_one: list[int]) -> None:
    """With one blocker each: the cycles found are the strongly connected components, tails lead to them."""
    people = [stubs.agent() for _ in next_one]
    graph = nx.DiGraph()
    graph.add_nodes_from(people)
    for one, following in zip(people, next_one, strict=True):
        if 0 <= following < len(people):
            stubs.wait(one, ALL, people[following])
            graph.add_edge(one, people[following])
    components = [
        component
        for component in nx.strongly_connected_components(graph)
        if len(component) > 1 or graph.has_edge(*list(component) * 2)
    ]
    with stubs.world(people):
        for one in people:
            reached = {one, *nx.descendants(graph, one)}
            expected = [component for component in components if component <= reached]
            knot = detector.check(one.waits[-1]) if one.waits else None
            found = [{edge.agent for edge in knot.edges}] if knot is not None else []
            assert found == expected
            if knot is not None:
                assert_knot(knot, set().union(*components), people)
