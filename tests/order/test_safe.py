"""What cannot deadlock is not reported: the false alarms that users of other tools complain of."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import lockwatch
from lockwatch._core import segments
from tests.order.conftest import nest

if TYPE_CHECKING:
    from tests.conftest import RunPython
    from tests.order.conftest import Stage


def test_one_thread_alone(stage: Stage) -> None:
    """Both orders in one thread, and no other thread takes either lock."""
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")

    def both() -> None:
        nest(a, b)()
        nest(b, a)()

    stage.run(both)
    assert stage.found() == []


def test_common_gate(stage: Stage) -> None:
    """Both orders always under one outer lock (go-deadlock 24, TSan 488)."""
    gate, a, b = (lockwatch.Lock(name=name) for name in ("gate", "a", "b"))
    stage.run(nest(gate, a, b), nest(gate, b, a))
    assert stage.found() == []


def test_factory_that_makes_locks_of_two_kinds(stage: Stage) -> None:
    """Locks of two kinds that one line makes, in pairs: those of one pair one way round, of another pair the other."""

    def make(kind: type[lockwatch.Lock | lockwatch.RLock]) -> lockwatch.Lock | lockwatch.RLock:
        return kind()

    a, b, c, d = (make(kind) for kind in (lockwatch.Lock, lockwatch.RLock) * 2)
    stage.run(nest(a, b), nest(d, c))
    assert stage.found() == []


def test_attributes_of_two_kinds(stage: Stage) -> None:
    """The twin that is found: two lines make them, for each object, so what is done to one is done to another."""

    def make() -> tuple[lockwatch.Lock, lockwatch.RLock]:
        one = lockwatch.Lock()
        return one, lockwatch.RLock()

    (a, b), (c, d) = make(), make()
    stage.run(nest(a, b), nest(d, c))
    assert len(stage.found()) == 1


def test_gate_among_three(stage: Stage) -> None:
    """A ring of three of which two sides share a gate."""
    gate, a, b, c = (lockwatch.RLock(name=name) for name in ("gate", "a", "b", "c"))
    stage.run(nest(gate, a, b), nest(b, c), nest(gate, c, a))
    assert stage.found() == []


def test_try_acquire_that_backs_off(stage: Stage) -> None:
    """The reverse order only tries."""
    a, b = lockwatch.Lock(name="a"), lockwatch.RLock(name="b")

    def polite() -> None:
        with b:
            assert a.acquire(blocking=False)
            a.release()
            assert a.try_acquire()
            a.release()

    stage.run(nest(a, b), polite)
    assert stage.found() == []


def test_timed_acquire(stage: Stage) -> None:
    """The reverse order waits for a while only."""
    a, b = lockwatch.Lock(name="a"), lockwatch.RLock(name="b")

    def timed() -> None:
        with b:
            assert a.acquire(timeout=5)
            a.release()

    stage.run(nest(a, b), timed)
    assert stage.found() == []


def test_re_entry(stage: Stage) -> None:
    """An RLock that is taken again under another lock was there first."""
    a, b = lockwatch.RLock(name="a"), lockwatch.Lock(name="b")

    def again() -> None:
        with a, b, a:
            pass

    stage.run(again, nest(a, b))
    assert stage.found() == []


def test_one_class_ordered_by_id(stage: Stage) -> None:
    """Locks of one class that are always taken in the order of their numbers."""
    locks = [lockwatch.Lock() for _ in range(6)]
    pairs = [(i, j) for i in range(6) for j in range(i + 1, 6)]
    stage.run(*(nest(locks[i], locks[j]) for i, j in pairs))
    assert stage.found() == []


def test_one_class_in_a_tree(stage: Stage) -> None:
    """Parent before child, where each is a parent or a child of others of its class."""
    locks = [lockwatch.Lock() for _ in range(7)]
    stage.run(*(nest(locks[(child - 1) // 2], locks[child]) for child in range(1, 7)))
    assert stage.found() == []


def test_two_classes_that_alternate_in_a_tree(stage: Stage) -> None:
    """A node's lock before its child's queue's, that before the grandchild's lock: classes in a ring, locks in none."""

    class Node:
        def __init__(self) -> None:
            self.lock = lockwatch.Lock()
            self.queue = lockwatch.Lock()

    one, two, three = Node(), Node(), Node()
    stage.run(nest(one.lock, two.queue), nest(two.queue, three.lock))
    assert stage.found() == []


def test_locks_of_a_factory(stage: Stage) -> None:
    """What one place makes for many uses is no class in which one lock stands for another, also over time."""

    def make(kind: type[lockwatch.Lock | lockwatch.RLock]) -> lockwatch.Lock | lockwatch.RLock:
        return lockwatch.Lock() if kind is lockwatch.Lock else lockwatch.RLock()

    def program(kinds: list[type[lockwatch.Lock | lockwatch.RLock]]) -> None:
        locks = [make(kind) for kind in kinds]
        for first in range(len(locks)):
            for second in range(first + 1, len(locks)):
                if kinds[first] is not kinds[second]:
                    nest(locks[first], locks[second])()

    plain, recursive = lockwatch.Lock, lockwatch.RLock
    stage.run(lambda: program([plain, recursive, recursive]), lambda: program([recursive, plain, plain]))
    assert stage.found() == []


def test_hand_over_hand(stage: Stage) -> None:
    """Walking a list, the next is taken before the last is let go; several walk in the same direction."""
    locks = [lockwatch.Lock() for _ in range(5)]

    def walk() -> None:
        locks[0].acquire()
        for one, two in zip(locks, locks[1:], strict=False):
            two.acquire()
            one.release()
        locks[-1].release()

    stage.run(walk, walk, walk)
    assert stage.found() == []


def test_orders_separated_by_join(stage: Stage) -> None:
    """The first thread had been joined before the second was started."""
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")
    stage.run(nest(a, b))
    stage.run(nest(b, a))
    assert stage.found() == []


def test_before_the_start_of_the_thread(stage: Stage) -> None:
    """What the starter did before, and does after the join, is over or has not begun."""
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")
    nest(b, a)()
    stage.run(nest(a, b))
    nest(b, a)()
    assert stage.found() == []


def test_order_that_changes_between_phases(stage: Stage) -> None:
    """Many threads in one phase, many in the next, all joined in between."""
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")
    for locks in ((a, b), (b, a), (a, b)):
        stage.run(*(nest(*locks) for _ in range(4)))
    assert stage.found() == []


def test_gate_held_by_the_parent(stage: Stage) -> None:
    """The starter holds the gate until its children have ended (Sulzmann, arXiv 2512.23552)."""
    gate, a, b = (lockwatch.Lock(name=name) for name in ("gate", "a", "b"))

    def parent(*locks: lockwatch.Lock) -> None:
        with gate:
            child = threading.Thread(target=nest(*locks))
            segments.started(child)
            child.start()
            child.join()
            segments.joined(child)

    stage.run(lambda: parent(a, b), lambda: parent(b, a))
    assert stage.found() == []


def test_gate_of_siblings(stage: Stage) -> None:
    """The twin: children that were started under one and the same ownership of the gate run at the same time."""
    gate, a, b = (lockwatch.Lock(name=name) for name in ("gate", "a", "b"))
    with gate:
        stage.run(nest(a, b), nest(b, a))
    assert len(stage.found()) == 1


def test_signal(stage: Stage) -> None:
    """A lock that others release is a signal: it has no order."""
    a, signal = lockwatch.Lock(name="a"), lockwatch.Lock()

    def wait_under_a() -> None:
        with a:
            signal.acquire()

    def set_under_a() -> None:
        nest(a)()
        signal.release()

    signal.acquire()
    stage.run(set_under_a, wait_under_a, signal.release, nest(signal, a))
    assert stage.found() == []


def test_condition_that_waits_lets_its_lock_go(stage: Stage) -> None:
    """Nothing is held by whoever waits in a condition."""
    condition, a = lockwatch.Condition(), lockwatch.Lock(name="a")

    def notify() -> None:
        with a, condition:
            condition.notify_all()

    def wait() -> None:
        with condition:
            condition.wait(0.01)
        nest(a)()

    stage.run(wait, notify, wait)
    assert stage.found() == []


def test_lock_let_go_in_between(stage: Stage) -> None:
    """A, then B after A was released, is no order."""
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")

    def apart() -> None:
        nest(b)()
        nest(a)()

    stage.run(nest(a, b), apart)
    assert stage.found() == []


def test_released_out_of_order(stage: Stage) -> None:
    """A and B are taken, A is let go, C is taken: that says nothing of A and C (the story of algorithms' lockdep)."""
    a, b, c = (lockwatch.Lock(name=name) for name in "abc")

    def crossed() -> None:
        a.acquire()
        b.acquire()
        a.release()
        c.acquire()
        b.release()
        c.release()

    stage.run(crossed, nest(a, c))
    assert stage.found() == []
    stage.run(nest(b, c), nest(a, b))
    assert stage.found() == []


def test_same_thread_needed_twice(stage: Stage) -> None:
    """A ring of three in which two sides are of one thread."""
    a, b, c = (lockwatch.Lock(name=name) for name in "abc")

    def two_sides() -> None:
        nest(a, b)()
        nest(b, c)()

    stage.run(two_sides, nest(c, a))
    assert stage.found() == []


def test_ignored(stage: Stage) -> None:
    """A lock, a class or a block that the program answers for; it is counted."""
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")

    def in_a_block() -> None:
        with lockwatch.ignore():
            nest(b, a)()

    stage.run(nest(a, b), in_a_block)
    lockwatch.ignore(b)
    stage.run(nest(a, b), nest(b, a))
    c, d = lockwatch.Lock(name="c"), lockwatch.Lock(name="d")
    lockwatch.ignore("d")
    stage.run(nest(c, d), nest(d, c))
    assert stage.found() == []


def test_nested(stage: Stage) -> None:
    """In `nested` blocks the order among locks of one class is the program's business, but keys must ascend."""
    locks = [lockwatch.Lock() for _ in range(2)]

    def by_design(one: lockwatch.Lock, two: lockwatch.Lock) -> None:
        with lockwatch.nested(1), one, lockwatch.nested(2), two:
            pass

    stage.run(lambda: by_design(*locks), lambda: by_design(*reversed(locks)))
    assert stage.found() == []
    with lockwatch.nested(2), lockwatch.nested(1):
        pass
    assert len(stage.found()) == 1


def test_work_separated_by_results(run_python: RunPython) -> None:
    """Under install(): the result of the first work was there before the second was submitted; then both at once."""
    done = run_python(
        """
        import lockwatch
        lockwatch.install()
        import threading
        from concurrent.futures import ThreadPoolExecutor
        a, b = threading.Lock(), threading.Lock()
        def nest(one, two, meet=None):
            if meet is not None:
                meet.wait()
            with one:
                with two:
                    pass
            if meet is not None:
                meet.wait()
            return threading.get_ident()
        with ThreadPoolExecutor(2) as pool:
            meet = threading.Barrier(2)
            c, d = threading.Lock(), threading.Lock()
            for work in [pool.submit(nest, c, d, meet), pool.submit(nest, c, d, meet)]:
                work.result()
            pool.submit(nest, a, b).result()
            main = [nest(b, a)]
            pool.submit(nest, a, b).result()
        print(len(lockwatch.recorded_findings()))
        """
    )
    assert (done.returncode, done.stdout.split()) == (0, ["0"]), done.stderr
