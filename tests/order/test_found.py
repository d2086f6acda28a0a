"""Orders that can deadlock are found: rings of any length, instances of one class, declared orders, mode ``raise``."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import networkx as nx
import pytest

import lockwatch
from lockwatch import config
from lockwatch._core import orderbook
from tests.order.conftest import nest

if TYPE_CHECKING:
    from tests.order.conftest import Stage


@pytest.mark.parametrize("chords", [False, True], ids=["ring", "chords"])
@pytest.mark.parametrize("length", [2, 3, 5, 10])
def test_ring(stage: Stage, length: int, chords: bool) -> None:
    """Each thread takes two neighbours of a ring; the last one closes it. Chords along the order change nothing."""
    locks = [lockwatch.Lock(name=f"l{number}") for number in range(length)]
    if chords:
        for number in range(length - 2):
            stage.run(nest(locks[number], locks[number + 2]))
        assert stage.found() == []
    orderbook.reset()
    stage.run(*(nest(locks[number], locks[(number + 1) % length]) for number in range(length)))
    (finding,) = stage.found()
    assert len(finding.parties) == length
    assert finding.level == "warning"
    assert {party.waits_for.name for party in finding.parties if party.waits_for} == {
        lock.name for lock in locks
    }


def test_smallest_cycle_is_shown(stage: Stage) -> None:
    """Where a chord makes a shorter cycle, that is the one."""
    a, b, c, d = (lockwatch.Lock(name=name) for name in "abcd")
    stage.run(nest(a, b), nest(b, c), nest(c, d), nest(a, d), nest(d, a))
    (finding,) = stage.found()
    assert len(finding.parties) == 2


def test_both_sides_are_shown(stage: Stage) -> None:
    """For each order: the thread, the places of both acquires, the stack, and how often."""
    a, b = lockwatch.RLock(name="a"), lockwatch.Lock(name="b")

    def often() -> None:
        for _ in range(5):
            nest(a, b)()

    def reverse() -> None:
        with b, a:
            pass

    stage.run(often, reverse)
    (finding,) = stage.found()
    one, two = finding.parties
    assert one.waits_for is not None
    assert two.waits_for is not None
    assert (one.holds[0].name, one.waits_for.name, one.waits_for.seen) == ("b", "a", 1)
    assert (two.holds[0].name, two.waits_for.name, two.waits_for.seen) == ("a", "b", 5)
    assert one.agent != two.agent
    assert one.waits_for.where is not None
    assert one.waits_for.where.function == "reverse"
    assert one.stack[-1].function == "reverse"
    assert [frame.function for frame in two.stack][-2:] == ["often", "body"]
    assert lockwatch.Finding.from_json(finding.to_json()) == finding


def test_one_problem_is_reported_once(stage: Stage) -> None:
    """The same two classes in conflict again, from other threads and places, are no news."""
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")
    stage.run(nest(a, b), nest(b, a), nest(a, b), nest(b, a))

    def elsewhere() -> None:
        with b, a:
            pass

    stage.run(nest(a, b), elsewhere)
    assert len(stage.found()) == 1


def test_instances_of_one_class_in_conflicting_orders(stage: Stage) -> None:
    """transfer(a, b) and transfer(b, a)."""
    accounts = [lockwatch.RLock() for _ in range(3)]
    stage.run(nest(accounts[0], accounts[1]), nest(accounts[1], accounts[2]))
    assert stage.found() == []
    stage.run(nest(accounts[1], accounts[2]), nest(accounts[2], accounts[1]))
    (finding,) = stage.found()
    assert finding.advice is not None
    assert "id()" in finding.advice


def test_classes_of_locks_that_come_and_go(stage: Stage) -> None:
    """A client takes its locks in one order, the next client in the other: no lock was in both."""

    class Client:
        def __init__(self) -> None:
            self.inner = lockwatch.Lock()
            self.outer = lockwatch.Lock()

    def first() -> None:
        client = Client()
        nest(client.outer, client.inner)()

    def second() -> None:
        client = Client()
        nest(client.inner, client.outer)()

    stage.run(first, second)
    assert len(stage.found()) == 1


def test_classes_of_objects_side_by_side(stage: Stage) -> None:
    """Two clients at a time, each with both locks: what the one does, the other may do."""

    class Client:
        def __init__(self) -> None:
            self.inner, self.outer = lockwatch.Lock(), lockwatch.Lock()

    one, two = Client(), Client()
    stage.run(nest(one.outer, one.inner), nest(two.inner, two.outer))
    assert len(stage.found()) == 1


def test_alone_first_and_then_with_another(stage: Stage) -> None:
    """Both orders in one thread are silent until another thread does one of them."""
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")

    def both() -> None:
        nest(a, b)()
        nest(b, a)()

    stage.run(both, nest(a, b))
    assert len(stage.found()) == 1


def test_gate_that_one_side_leaves_out(stage: Stage) -> None:
    """A gate counts only while both sides hold it."""
    gate, a, b = (lockwatch.Lock(name=name) for name in ("gate", "a", "b"))
    stage.run(nest(gate, a, b), nest(gate, b, a), nest(b, a))
    assert len(stage.found()) == 1


def test_after_a_wait(stage: Stage) -> None:
    """An acquire that had to wait is learned as any other."""
    import threading

    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")
    held, go = threading.Event(), threading.Event()

    def holder() -> None:
        with b:
            held.set()
            go.wait(20)

    def waiter() -> None:
        held.wait(20)
        with a:
            threading.Timer(0.05, go.set).start()
            with b:
                pass

    threads = [threading.Thread(target=target) for target in (holder, waiter)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert b.statistics().contended == 1
    stage.run(nest(b, a))
    assert len(stage.found()) == 1


def test_raise(stage: Stage) -> None:
    """In mode ``raise`` the acquire that closes the cycle raises, and has not taken the lock; so does the next one."""
    config.configure(order="raise")
    a, b = lockwatch.Lock(name="a"), lockwatch.RLock(name="b")

    def reverse() -> None:
        for _ in range(2):
            with b:
                with pytest.raises(lockwatch.LockOrderError, match="'a'") as caught:
                    a.acquire()
                assert not a.locked()
            assert caught.value.finding.level == "error"
        assert not b._is_owned()

    stage.run(nest(a, b), reverse)
    assert len(stage.found()) == 1
    a._check()


@pytest.mark.parametrize("order", ["warn", "raise"])
@pytest.mark.parametrize("kind", [lockwatch.RLock, lockwatch.Lock])
def test_lock_of_a_condition_taken_again(stage: Stage, kind: type[lockwatch.Lock], order: str) -> None:
    """What is held while a condition waits is held when its lock is taken again; that is reported, and never raises."""
    config.configure(order=order)
    a, condition = lockwatch.Lock(name="a"), lockwatch.Condition(kind(name="c"))

    def wait_under_both() -> None:
        with condition:
            with a:
                condition.wait(0.01)
            assert condition._is_owned()  # type: ignore[attr-defined]

    stage.run(nest(condition, a), wait_under_both)
    (finding,) = stage.found()
    assert {party.holds[0].name for party in finding.parties} == {"a", "c"}
    assert not condition._is_owned()  # type: ignore[attr-defined]


def test_declared_order(stage: Stage) -> None:
    """An order that was declared needs no second thread, and holds across what stands between."""
    lockwatch.lock_order("a", "b", "c")
    a, c = lockwatch.Lock(name="a"), lockwatch.Lock(name="c")
    nest(a, c)()
    assert stage.found() == []
    nest(c, a)()
    (finding,) = stage.found()
    assert "declares" in str(finding.advice)


def test_declared_order_by_names_from_the_source(stage: Stage) -> None:
    """Names that only the source gives can be used, too."""
    lockwatch.lock_order("outermost", "innermost")
    outermost = lockwatch.Lock()
    innermost = lockwatch.Lock()
    nest(innermost, outermost)()
    assert len(stage.found()) == 1


@pytest.mark.parametrize("seed", range(10))
def test_agrees_with_networkx(stage: Stage, seed: int) -> None:
    """Random pairs, each by a thread of its own: something is found exactly if the orders have a cycle."""
    chance = random.Random(seed)
    locks = [lockwatch.Lock() for _ in range(chance.choice([3, 5, 8]))]
    oracle = nx.DiGraph()
    for _ in range(chance.choice([3, 6, 10])):
        first, second = chance.sample(range(len(locks)), 2)
        oracle.add_edge(first, second)
    stage.run(*(nest(locks[first], locks[second]) for first, second in oracle.edges))
    assert bool(stage.found()) == (not nx.is_directed_acyclic_graph(oracle))
