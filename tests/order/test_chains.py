"""What an agent remembers of its chains of locks: eras, how many looks there are, locks that come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import lockwatch
from lockwatch._core import agents, chains, lockorder, orderbook, orderedges, segments
from lockwatch._core import looks as looks_module
from tests.order.conftest import nest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.order.conftest import Stage


MOST = 100


@pytest.fixture
def me(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> agents.Agent:
    """This thread, with a clock that nothing has happened to."""
    agent = agents.current()
    monkeypatch.setattr(agent, "clock", segments.Clock())
    return agent


@pytest.fixture
def looks(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the looks in its one element."""
    seen, counted = lockorder._seen, [0]

    def counting(*args: object, **named: object) -> object:
        counted[0] += 1
        return seen(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(lockorder, "_seen", counting)
    return counted


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Nanoseconds, in its one element, that the allowances go by; they are full."""
    now = [1_000_000_000]
    monkeypatch.setattr(looks_module, "monotonic_ns", lambda: now[0])
    for name, most, per_second in (("known", MOST, 20), ("new", 10 * MOST, 50)):
        monkeypatch.setattr(looks_module, name, looks_module.Allowance(most, per_second))
    looks_module.reset()
    return now


@pytest.fixture
def used_up(clock: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The allowance for chains of known classes is used up."""
    monkeypatch.setattr(looks_module, "known", looks_module.Allowance(0, 0))


def test_locks_that_come_and_go_leave_what_is_known_known(me: agents.Agent, looks: list[int]) -> None:
    """Pairs of locks of one make, each used for a while and dropped, as those of pools: a later segment needs no look."""
    for _ in range(3 * orderedges.TWINS):
        pair = nest(lockwatch.Lock(), lockwatch.Lock())
        for _ in range(3):
            pair()
            segments.submit(me)
    assert looks == [3 * orderedges.TWINS]


def test_counts_of_locks_that_are_gone_count(stage: Stage, me: agents.Agent) -> None:
    """Pairs of one make, had again in a second segment, then dropped; one more takes their place, and says when."""

    def pair() -> Callable[[], None]:
        return nest(lockwatch.Lock(name="a"), lockwatch.Lock(name="b"))

    pairs = [pair() for _ in range(orderedges.TWINS)]
    for number in range(len(pairs)):
        pairs[number]()
    before = segments.submit(me)
    for number in range(1, len(pairs)):
        pairs[number]()
    pairs.clear()
    for _ in range(2):
        pair()()
    (edge,) = [edge for (first, _), edge in orderbook._order.edges.items() if first == "a"]
    (context,) = edge.contexts
    assert len(context.twins) < orderedges.TWINS
    assert me.clock is not None
    assert me.clock.exact is not None
    assert not me.clock.exact.on

    def other_way_round() -> None:
        agents.current().clock = segments.Clock(before)
        nest(lockwatch.Lock(name="b"), lockwatch.Lock(name="a"))()

    stage.run(other_way_round)
    assert len(stage.found()) == 1


def test_looking_again_is_bounded(me: agents.Agent, looks: list[int], clock: list[int]) -> None:
    """Where eras change all the time, a chain is looked at again until the allowance is used up, and as it fills."""
    pair = nest(lockwatch.Lock(), lockwatch.Lock())
    pair()
    for _ in range(2 * MOST):
        chains.new_era(me)
        pair()
        pair()
    assert looks == [1 + MOST]
    clock[0] += 1_000_000_000
    for _ in range(2 * MOST):
        chains.new_era(me)
        pair()
    assert looks == [1 + MOST + 20]


def test_looks_at_new_locks_are_bounded(me: agents.Agent, looks: list[int], clock: list[int]) -> None:
    """Where each object has two locks of its own, the first are looked at, then as many as the allowance gives."""
    for _ in range(3 * MOST):
        nest(lockwatch.Lock(), lockwatch.Lock())()
    assert looks == [looks_module.FREE + MOST]


def test_looks_at_locks_with_names_of_their_own_are_bounded(
    me: agents.Agent, looks: list[int], clock: list[int]
) -> None:
    """The same where each is a class by itself."""
    for number in range(12 * MOST):
        nest(lockwatch.Lock(name=f"a{number}"), lockwatch.Lock(name=f"b{number}"))()
    assert looks == [11 * MOST]


def test_new_classes_are_looked_at_without_allowance(stage: Stage, used_up: None) -> None:
    """The allowance is for what was seen before: an order that is new is found with nothing left of it."""
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")
    stage.run(nest(a, b), nest(b, a))
    assert len(stage.found()) == 1


def test_each_agent_is_looked_at(stage: Stage, looks: list[int], used_up: None) -> None:
    """One thread has used up the free looks at an order; the next one, which does it the other way round, is seen."""

    def pairs(first: str, second: str) -> None:
        for _ in range(2 * looks_module.FREE):
            nest(lockwatch.Lock(name=first), lockwatch.Lock(name=second))()

    stage.run(lambda: pairs("a", "b"), lambda: pairs("a", "b"), lambda: pairs("b", "a"))
    assert looks[0] < 3 * 2 * looks_module.FREE
    assert len(stage.found()) == 1


def test_passed_over_is_asked_for_again(
    looks: list[int], used_up: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chain that was passed over counts as known for a while; when there are looks again, it is looked at."""
    pairs = [nest(lockwatch.Lock(), lockwatch.Lock()) for _ in range(looks_module.FREE + 1)]
    for pair in pairs:
        pair()
    late = pairs[-1]
    assert looks == [looks_module.FREE]
    monkeypatch.setattr(looks_module, "known", looks_module.Allowance(10, 0))
    for _ in range(chains.PASSED_OVER_FOR - 2):
        late()
    assert looks == [looks_module.FREE]
    for _ in range(20 * chains.PASSED_OVER_FOR):
        late()
    assert looks == [looks_module.FREE + 1]


def test_new_era_without_looks(
    me: agents.Agent, looks: list[int], used_up: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An era begins while no look is left: known chains are not looked at, and asked for again after a while."""
    pair = nest(lockwatch.Lock(), lockwatch.Lock())
    pair()
    for _ in range(10):
        chains.new_era(me)
        pair()
    assert looks == [1]
    monkeypatch.setattr(looks_module, "known", looks_module.Allowance(10, 0))
    for _ in range(2 * chains.PASSED_OVER_FOR):
        pair()
    assert looks == [2]


@pytest.mark.parametrize("left", [0, 100])
def test_what_was_passed_over_says_nothing(
    stage: Stage, me: agents.Agent, clock: list[int], monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    """A thread does a known order again after it has learned of another thread's end: known only with a look."""
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")
    nest(a, b)()
    before = segments.release(me)
    monkeypatch.setattr(looks_module, "known", looks_module.Allowance(left, 0))
    nest(a, b)()  # in a second segment, of which the other thread knows nothing

    def other_way_round() -> None:
        agents.current().clock = segments.Clock(before)
        nest(b, a)()

    stage.run(other_way_round)
    assert len(stage.found()) == (1 if left else 0)


def test_forgotten_chains_are_new(looks: list[int], used_up: None) -> None:
    """Where all is forgotten, as between two tests, a chain is looked at without allowance."""
    pair = nest(lockwatch.Lock(), lockwatch.Lock())
    for _ in range(3):
        pair()
        chains.forget_all()
    assert looks == [3]


def test_very_many_locks_held(me: agents.Agent, looks: list[int]) -> None:
    """A thread that holds hundreds of locks is looked at for the first of them, not for the square of their number."""
    locks = [lockwatch.Lock() for _ in range(500)]
    nest(*locks)()
    assert 1 <= looks[0] < chains.DEEPEST
