"""What is remembered is bounded, and errors, finalizers and signal handlers do no harm."""

from __future__ import annotations

import gc
import threading
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

import lockwatch
from lockwatch import config
from lockwatch._core import agents, chains, orderbook, segments, settings
from lockwatch._core.ordergraph import OrderGraph
from lockwatch._core.orderrelation import Relation
from tests.order.conftest import nest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.order.conftest import Stage


def test_short_lived_locks_leave_nothing_behind(stage: Stage) -> None:
    """Thousands of locks nested in one that stays: when they are gone, so is what was known of them."""
    outer = lockwatch.Lock(name="outer")
    for _ in range(5_000):
        nest(outer, lockwatch.Lock())()
    gc.collect()
    sizes = orderbook.sizes()
    assert sizes["locks"] <= 1
    assert sizes["classes"] == 2
    assert sizes["edges"] <= 1
    assert len(agents.current().chains) <= chains.FEW_CHAINS


@pytest.mark.parametrize("order", ["warn", "off"])
def test_chains_are_bounded(stage: Stage, order: str) -> None:
    """One thread that takes very many locks, which stay, in very many combinations."""
    config.configure(order=order)
    locks = [lockwatch.Lock() for _ in range(120)]
    for step in range(1, 60):
        for one, two in zip(locks, locks[step:], strict=False):
            nest(one, two)()
    known = len(agents.current().chains)
    assert known <= chains.MOST_CHAINS
    assert known > chains.FEW_CHAINS or order == "off"
    stage.run(nest(locks[1], locks[0]))
    assert stage.found() == []


def test_limits_and_the_word_about_them(stage: Stage) -> None:
    """Past the limits the least used go, with one finding of kind ``internal``; what is used stays."""
    config.configure(order_locks=50)
    outer, used = lockwatch.Lock(name="outer"), lockwatch.Lock(name="used")
    locks = [lockwatch.Lock(name=f"l{number}") for number in range(300)]
    for lock in locks:
        nest(outer, lock)()
        nest(outer, used)()
    sizes = orderbook.sizes()
    assert max(sizes["locks"], sizes["classes"]) <= 50
    words = [one for one in lockwatch.recorded_findings() if one.kind == "internal"]
    assert [one.level for one in words] == ["note"]
    stage.run(nest(outer, used), nest(used, outer))
    assert len(stage.found()) == 1


def test_class_that_was_forgotten_comes_again(stage: Stage) -> None:
    """Past the limits a class is forgotten, while locks of it are not; new ones are of the same class all the same."""
    config.configure(order_locks=10)

    def account() -> lockwatch.Lock:
        return lockwatch.Lock()

    first, second = account(), account()
    others = [lockwatch.Lock(name=f"l{number}") for number in range(30)]
    for other in others:
        nest(other, others[0] if other is not others[0] else others[1])()
        nest(first, second)()
    third = account()
    stage.run(nest(first, third), nest(first, second, third), nest(second, third))
    assert stage.found() == []
    assert not [pair for pair in orderbook._order.edges if pair[0] == pair[1]]


def test_new_locks_while_others_are_forgotten(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else comes up with a lock in the middle of the forgetting: no error of ours."""
    contains = OrderGraph.__contains__
    kept: list[lockwatch.Lock] = []

    def meanwhile(self: OrderGraph, node: object) -> bool:
        if len(kept) < 300:
            kept.append(lockwatch.Lock())
            nest(lockwatch.Lock(), kept[-1])()
        return contains(self, node)

    monkeypatch.setattr(OrderGraph, "__contains__", meanwhile)
    config.configure(order_locks=10)
    outer = lockwatch.Lock(name="outer")
    locks = [lockwatch.Lock() for _ in range(30)]
    for lock in locks:
        nest(outer, lock)()
    assert len(kept) == 300
    assert [one.level for one in lockwatch.recorded_findings()] == ["note"]
    kept.clear()
    locks.clear()
    gc.collect()
    assert orderbook.sizes()["locks"] <= 10


def test_threads_that_nested_locks_leave_no_clocks(stage: Stage) -> None:
    """Thousands of threads, each started after the last one's end: what they have seen of each other goes with them."""
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")
    for _ in range(segments.MOST + 200):
        stage.run(nest(a, b))
    gc.collect()
    clocks = [one for one in gc.get_objects() if isinstance(one, segments.Clock)]
    assert len(clocks) < 20
    assert max(len(clock.seen.flat()) for clock in clocks) <= segments.MOST


def test_middle_of_a_chain_goes(stage: Stage) -> None:
    """A, B and C were held together; when B is gone, A before C is still known."""
    a, b, c = lockwatch.Lock(name="a"), lockwatch.Lock(name="b"), lockwatch.Lock(name="c")
    stage_run = [nest(a, b, c)]
    stage.run(*stage_run, lambda: None)
    stage_run.clear()
    del b
    gc.collect()
    orderbook.work_off()
    assert ("a", "c") in orderbook._order.edges
    assert (a._key, c._key) in orderbook._locks.edges


def test_order_implied_by_a_lock_that_is_gone(stage: Stage) -> None:
    """A before B, B before C, by two threads; B dies; C before A by a third still closes the ring of classes."""
    a, c = lockwatch.Lock(name="a"), lockwatch.Lock(name="c")
    middle = [lockwatch.Lock(name="b")]
    stage.run(
        lambda: nest(a, middle[0])(),
        lambda: nest(middle[0], c)(),
        middle.clear,
        nest(c, a),
    )
    assert len(stage.found()) == 1


@pytest.mark.parametrize("length", [3, 6])
def test_order_implied_by_locks_of_one_class_that_are_gone(stage: Stage, length: int) -> None:
    """The same among locks of one class, whose orders no class keeps; all but the ends are dropped, one by one."""
    locks = [lockwatch.Lock() for _ in range(length)]
    first, last = locks[0], locks[-1]
    chain = [nest(*pair) for pair in pairwise(locks)]
    middle = locks[1:-1]
    locks.clear()

    def drop() -> None:
        while middle:
            middle.pop()
            gc.collect()
            orderbook.work_off()

    stage.run(*chain, chain.clear, drop, nest(first, last))
    assert stage.found() == []
    assert orderbook.sizes()["locks"] == 2
    stage.run(nest(last, first))
    assert stage.found() == []  # not at the same time as the others


@pytest.mark.parametrize("length", [3, 6])
def test_ring_with_locks_of_one_class_that_are_gone(stage: Stage, length: int) -> None:
    """The twin: closed by a thread that was there with the others, it is reported with all of its sides."""
    locks = [lockwatch.Lock() for _ in range(length)]
    first, last = locks[0], locks[-1]
    chain = [nest(*pair) for pair in pairwise(locks)]
    locks.clear()
    steps = [partial(_run_and_forget, chain) for _ in range(length - 1)]
    stage.run(*steps, gc.collect, orderbook.work_off, nest(last, first))
    (finding,) = stage.found()
    assert len(finding.parties) == length
    assert len({party.holds[0].resource for party in finding.parties}) == length


def test_one_thread_that_saw_the_lock_go(stage: Stage) -> None:
    """A before B and B before C by one and the same thread imply nothing that can deadlock, with B or without."""
    a, b, c = locks = [lockwatch.Lock() for _ in range(3)]

    def both() -> None:
        nonlocal b
        nest(a, b)()
        nest(b, c)()
        locks.clear()
        b = a
        gc.collect()

    stage.run(both, nest(c, a))
    assert orderbook.sizes()["locks"] == 2
    assert stage.found() == []


def _run_and_forget(chain: list[Callable[[], None]]) -> None:
    chain.pop(0)()


def test_removed_nodes_leave_no_edges() -> None:
    """A relation from which all was removed is empty."""
    relation = Relation()
    from lockwatch._core.orderedges import Context, LockClass, LockFacts

    lock_class = LockClass("x", None, named=True)
    known = [LockFacts(number, lock_class, "Lock", None, None) for number in range(6)]
    for one in known:
        for other in known:
            if one is not other:
                relation.learn(one.key, other.key, Context(agent=1, label="t", outer=one, inner=other))
    for one in known:
        relation.remove(one.key)
    assert (len(relation), relation.edges, relation._refused, relation._refused_before) == (0, {}, {}, {})


def test_off(stage: Stage) -> None:
    """With ``order="off"`` nothing is learned."""
    config.configure(order="off")
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")
    stage.run(nest(a, b), nest(b, a))
    assert stage.found() == []
    assert orderbook.sizes()["edges"] == 0


def test_seen_while_the_book_is_in_use(stage: Stage) -> None:
    """What a finalizer or another thread does while somebody works events off is worked off later, not waited for."""
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")
    assert orderbook._busy.acquire(False)
    try:
        stage.run(nest(a, b), nest(b, a))
        assert lockwatch.recorded_findings() == ()
    finally:
        orderbook._busy.release()
    assert len(stage.found()) == 1


def test_error_of_ours_switches_lock_order_off(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one finding of kind ``internal``, and the program goes on."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(Relation, "learn", broken)
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")
    stage.run(nest(a, b), nest(a, b))
    assert settings.order is False
    (finding,) = lockwatch.recorded_findings()
    assert (finding.kind, "planted" in finding.message) == ("internal", True)


def test_interrupt_in_the_middle(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception out of a signal handler leaves the lock free and the book usable."""
    learn = Relation.learn

    def interrupted(self: Relation, *arguments: object) -> object:
        monkeypatch.setattr(Relation, "learn", learn)
        raise KeyboardInterrupt

    monkeypatch.setattr(Relation, "learn", interrupted)
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")
    with a, pytest.raises(KeyboardInterrupt):
        b.acquire()
    assert not b.locked()
    stage.run(nest(a, b), nest(b, a))
    assert len(stage.found()) == 1


def test_many_threads(stage: Stage) -> None:
    """Threads that nest locks of their own and common ones at the same time find what is there, once."""
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")
    gate = lockwatch.Lock(name="gate")

    def work() -> None:
        for _ in range(200):
            nest(gate, a, lockwatch.Lock(), b)()
            nest(gate, b, a)()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert stage.found() == []
    assert not [one for one in lockwatch.recorded_findings() if one.kind == "internal"]
    stage.run(nest(a, b), nest(b, a))
    assert len(stage.found()) == 1


def test_ownership_can_be_asserted(stage: Stage) -> None:
    """assert_owned() and assert_not_owned() raise a MisuseError that names the owner and the place."""
    lock = lockwatch.Lock(name="x")
    lock.assert_not_owned()
    with pytest.raises(lockwatch.MisuseError, match="nobody holds it"):
        lock.assert_owned()
    with lock:
        lock.assert_owned()
        with pytest.raises(lockwatch.MisuseError, match="test_bounds"):
            lock.assert_not_owned()
        with pytest.raises(lockwatch.MisuseError, match="took it at"):
            stage.run(lock.assert_owned)


@pytest.mark.parametrize("names", [("a",), ("a", "a"), ()])
def test_bad_declarations_are_refused(names: tuple[str, ...]) -> None:
    """An order needs two names, and each of them once."""
    with pytest.raises(ValueError, match="two names"):
        lockwatch.lock_order(*names)
    with pytest.raises(TypeError):
        lockwatch.ignore(1)
