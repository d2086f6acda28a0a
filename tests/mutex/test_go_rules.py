"""Go's rules on real threads: barging, the switch of modes, hand-off, and what `statistics()` says of it.

The clock is the test's, and a woken thread stops at a gate until the test lets it run: so who is awake, who has run and who
has waited for how long is given, and nothing depends on the scheduler.
"""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import lockwatch
from lockwatch._core import agents, fastpath, handover, mutex, parking, settings, twin

pytestmark = pytest.mark.skipif(
    fastpath.IMPLEMENTATION == "c", reason="the C twin takes the time itself; they run with LOCKWATCH_PURE=1"
)

LIMIT = 20
"""Seconds after which what a test waits for will not come any more."""
MS = 1_000_000

KINDS = pytest.mark.parametrize("make", [lockwatch.Lock, lockwatch.RLock])


class Stage:
    """The clock, the gate behind which woken threads wait, and the threads of one test.

    Attributes:
        now: The time, in nanoseconds.
        gate: Set while woken threads may run on.
        asleep, woken: Names of threads that sleep for a lock, or have been woken and stand at the gate.
        order: Who got the lock, in order.
    """

    def __init__(self) -> None:
        self.now = 0
        self.gate = threading.Event()
        self.gate.set()
        self.asleep: set[str] = set()
        self.woken: set[str] = set()
        self.order: list[str] = []
        self.threads: list[threading.Thread] = []

    def clock(self) -> int:
        """Stand for the monotonic clock."""
        return self.now

    def park(self, parker: Any, timeout_ns: int | None) -> bool:
        """Stand for `parking.park`: who has been woken takes the permit, and runs on, only behind the gate."""
        name = threading.current_thread().name
        end = time.monotonic() + (LIMIT if timeout_ns is None else timeout_ns / 1e9)
        self.asleep.add(name)
        while parker.locked() and time.monotonic() < end:
            time.sleep(0.0005)
        self.woken.add(name)
        self.asleep.discard(name)
        assert self.gate.wait(LIMIT)
        self.woken.discard(name)
        return _park(parker, 0)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until a state is reached."""
        deadline = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < deadline, f"{self.asleep=} {self.woken=} {self.order=}"
            time.sleep(0.001)

    def waiter(self, lock: Any, name: str, leave: threading.Event | None = None) -> threading.Thread:
        """Start a thread that takes the lock, and holds it until ``leave`` is set; return when it sleeps for it."""

        def body() -> None:
            with lock:
                self.order.append(name)
                assert leave is None or leave.wait(LIMIT)

        thread = threading.Thread(target=body, name=name, daemon=True)
        self.threads.append(thread)
        thread.start()
        self.until(lambda: name in self.asleep)
        return thread

    def end(self) -> None:
        """Join all threads."""
        self.gate.set()
        for thread in self.threads:
            thread.join(LIMIT)
            assert not thread.is_alive(), f"{thread.name} hangs"


_park = parking.park


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A stage whose clock and gate the mutex uses."""
    made = Stage()
    monkeypatch.setattr(settings, "starvation_threshold_ns", MS)
    monkeypatch.setattr(mutex, "monotonic_ns", made.clock)
    monkeypatch.setattr(handover, "monotonic_ns", made.clock)
    monkeypatch.setattr(twin, "monotonic_ns", made.clock)
    monkeypatch.setattr(parking, "park", made.park)
    yield made
    made.end()


def names(lock: Any) -> list[str]:
    """Name the waiters in the order of the queue."""
    return [waiter.agent.name for waiter in lock._queue]


def wake_and_overtake(stage: Stage, lock: Any, name: str) -> None:
    """Release the lock, which wakes ``name``, and take it again before that one runs."""
    stage.gate.clear()
    lock.release()
    stage.until(lambda: name in stage.woken)
    assert lock.acquire(False)


def lose(stage: Stage, name: str) -> None:
    """Let ``name`` run, find the lock taken, and sleep again."""
    stage.gate.set()
    stage.until(lambda: name in stage.asleep)


def starve(stage: Stage, lock: Any, name: str) -> None:
    """Let the head of the queue lose past the threshold, so that it enters starvation mode; we own the lock."""
    wake_and_overtake(stage, lock, name)
    stage.now += 2 * MS
    lose(stage, name)
    assert lock.statistics().mode == "starvation"


@KINDS
def test_newcomer_wins_beside_a_woken_waiter(make: Any, stage: Stage) -> None:
    """Normal mode: a thread that comes while the head is awake, but not running yet, gets the lock."""
    lock = make()
    lock.acquire()
    stage.waiter(lock, "first")
    wake_and_overtake(stage, lock, "first")
    assert lock.statistics().owner == threading.current_thread().name
    lose(stage, "first")
    lock.release()
    stage.end()
    assert stage.order == ["first"]
    assert lock.statistics().handoffs == 0


@KINDS
def test_loser_sleeps_at_the_head_with_its_clock_running_on(make: Any, stage: Stage) -> None:
    """A waiter that was woken and lost keeps its place before those that came later, and the time it has waited counts."""
    lock = make()
    lock.acquire()
    stage.waiter(lock, "first")
    stage.waiter(lock, "second")
    since = lock._queue[0].since_ns
    stage.now += MS // 2
    wake_and_overtake(stage, lock, "first")
    lose(stage, "first")
    assert names(lock) == ["first", "second"]
    assert lock._queue[0].since_ns == since
    assert lock.statistics().mode == "normal"
    wake_and_overtake(stage, lock, "first")
    stage.now += MS // 2 + 1  # only both waits together are above the threshold
    lose(stage, "first")
    assert lock.statistics().mode == "starvation"
    lock.release()
    stage.end()
    assert stage.order == ["first", "second"]


@KINDS
def test_threshold_itself_is_no_starvation(make: Any, stage: Stage) -> None:
    """The mode changes when a wait is longer than the threshold, and not when it is as long."""
    lock = make()
    lock.acquire()
    stage.waiter(lock, "first")
    wake_and_overtake(stage, lock, "first")
    stage.now += MS
    lose(stage, "first")
    assert lock.statistics().mode == "normal"
    lock.release()


@KINDS
def test_hand_off_in_order(make: Any, stage: Stage) -> None:
    """Starvation mode: each release hands the lock to the head at once; newcomers queue at the tail; the last leaves it."""
    lock = make()
    lock.acquire()
    for name in ("first", "second", "third"):
        stage.waiter(lock, name)
    starve(stage, lock, "first")
    stage.waiter(lock, "newcomer")
    assert names(lock) == ["first", "second", "third", "newcomer"]
    stage.now += 2 * MS
    stage.gate.clear()
    lock.release()
    given = lock.statistics()
    assert (given.owner, given.mode, given.handoffs) == ("first", "starvation", 1)  # before "first" has run
    stage.end()
    assert stage.order == ["first", "second", "third", "newcomer"]
    after = lock.statistics()
    assert (after.mode, after.owner, after.waiters, after.handoffs) == ("normal", None, 0, 4)


@KINDS
def test_nobody_but_the_head_gets_it_in_starvation_mode(make: Any, stage: Stage) -> None:
    """A try, with or without arguments, fails in starvation mode, also if it finds the lock free in the instant of the change."""
    lock = make()
    lock.acquire()
    stage.waiter(lock, "first")
    stage.gate.clear()
    lock.release()
    stage.until(lambda: "first" in stage.woken)
    assert not lock.locked()
    lock._starving = True  # what the head does next
    assert not lock.try_acquire()
    assert lock.statistics().owner == "first"  # the try gave the lock on
    assert not lock.acquire(False)
    assert not lock.acquire(blocking=False)
    assert not lock.acquire(timeout=0)
    assert lock.statistics().owner == "first"
    stage.end()
    assert lock.statistics().mode == "normal"


@KINDS
def test_newcomer_gives_the_lock_on_and_queues(make: Any, stage: Stage) -> None:
    """A blocking newcomer that wins the lock in the instant in which the mode changes gives it to the head and waits."""
    lock = make()
    leave = threading.Event()
    lock.acquire()
    stage.waiter(lock, "first", leave)
    stage.gate.clear()
    lock.release()
    stage.until(lambda: "first" in stage.woken)
    lock._starving = True
    stage.waiter(lock, "newcomer")
    assert names(lock) == ["first", "newcomer"]
    assert lock.statistics().owner == "first"
    stage.gate.set()
    leave.set()
    stage.end()
    assert stage.order == ["first", "newcomer"]


@KINDS
def test_short_waiter_leaves_the_mode(make: Any, stage: Stage) -> None:
    """A waiter that is handed the lock after no more than the threshold ends starvation mode, though others wait."""
    lock = make()
    leave = [threading.Event(), threading.Event()]
    lock.acquire()
    stage.waiter(lock, "first", leave[0])
    starve(stage, lock, "first")
    stage.waiter(lock, "short", leave[1])
    stage.waiter(lock, "last")
    lock.release()
    stage.until(lambda: stage.order == ["first"])
    assert lock.statistics().mode == "starvation"  # "first" has waited too long, and is not the last
    leave[0].set()
    stage.until(lambda: stage.order == ["first", "short"])
    assert lock.statistics().mode == "normal"
    assert names(lock) == ["last"]
    leave[1].set()


@KINDS
def test_only_the_waiter_says_that_it_starves(make: Any, stage: Stage) -> None:
    """A waiter that was woken, is past the threshold and has not had the CPU yet: a release frees the lock, as before."""
    lock = make()
    lock.acquire()
    stage.waiter(lock, "first")
    wake_and_overtake(stage, lock, "first")
    stage.now += 2 * MS
    lock.release()
    freed = lock.statistics()
    assert (freed.owner, freed.mode, freed.handoffs) == (None, "normal", 0)
    stage.end()
    assert stage.order == ["first"]
    assert lock.statistics().handoffs == 0


@KINDS
def test_mode_that_was_not_left_in_time_does_no_harm(make: Any, stage: Stage) -> None:
    """If the mode is on and nobody waits, a newcomer gets the lock at once, and the next waiter leaves the mode."""
    lock = make()
    lock._starving = True
    assert lock.try_acquire()
    stage.waiter(lock, "first")
    lock.release()
    stage.end()
    assert stage.order == ["first"]
    assert lock.statistics().mode == "normal"


@KINDS
def test_counters(make: Any, stage: Stage) -> None:
    """Acquisitions, those that had to wait, hand-offs, waiters, levels, owner and mode are as they happened."""
    lock = make()
    me = threading.current_thread().name
    assert lock.statistics() == lockwatch_statistics()
    lock.acquire()
    assert lock.statistics() == lockwatch_statistics(owner=me, count=1, acquisitions=1)
    if make is lockwatch.RLock:
        lock.acquire()
        assert lock.statistics() == lockwatch_statistics(owner=me, count=2, acquisitions=1)
        lock.release()
    stage.waiter(lock, "first")
    stage.waiter(lock, "second")
    assert lock.statistics() == lockwatch_statistics(owner=me, count=1, waiters=2, acquisitions=1)
    starve(stage, lock, "first")
    stage.now += 2 * MS
    assert lock.statistics() == lockwatch_statistics(
        owner=me, count=1, waiters=2, mode="starvation", acquisitions=2
    )
    lock.release()
    stage.end()
    assert lock.statistics() == lockwatch_statistics(acquisitions=4, contended=2, handoffs=2)


def lockwatch_statistics(**changed: Any) -> Any:
    """Return the statistics of a new lock, but for what is given."""
    new = {"owner": None, "count": 0, "waiters": 0, "mode": "normal"}
    counters = {"acquisitions": 0, "contended": 0, "handoffs": 0}
    return type(lockwatch.Lock().statistics())(**{**new, **counters, **changed})


@KINDS
def test_nothing_is_kept_per_acquisition(make: Any) -> None:
    """After a release, contended or not, nothing of the acquisition is left: no table grows, no memory is kept."""
    lock = make()
    me = agents.current()
    before = dict(me.holds)

    def rounds(count: int) -> None:
        for _ in range(count):
            with lock:
                pass
            lock.acquire()
            lock.release()
            assert lock.acquire(timeout=1)
            lock.release()

    def contend() -> None:
        threads = [threading.Thread(target=rounds, args=(200,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
            assert not thread.is_alive()

    rounds(10)
    contend()
    gc.collect()
    tracemalloc.start()
    try:
        rounds(2000)
        first = tracemalloc.get_traced_memory()[0]
        rounds(2000)
        contend()
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0] - first
    finally:
        tracemalloc.stop()
    assert kept < 20_000  # 6,000 acquisitions at a single pointer each would be more than twice as much
    assert (me.holds, me.waits, lock._state, lock._queue) == (before, [], {}, [])


@KINDS
@pytest.mark.parametrize("state", ["fresh", "used", "held", "contended"])
def test_dropped_lock_is_gone_at_once(make: Any, state: str) -> None:
    """A lock that nobody refers to any more is freed by its reference count alone, also while it is held."""
    lock = make()
    me = agents.current()
    before = dict(me.holds)
    if state != "fresh":
        lock.acquire()
    if state == "used":
        lock.release()
    if state == "contended":
        thread = threading.Thread(target=lambda taken: taken.acquire() and taken.release(), args=(lock,))
        thread.start()
        deadline = time.monotonic() + LIMIT
        while not lock._queue and time.monotonic() < deadline:
            time.sleep(0.001)
        lock.release()
        thread.join(LIMIT)
        del thread
    dead = weakref.ref(lock)
    gc.disable()
    try:
        del lock
        deadline = time.monotonic() + LIMIT
        while dead() is not None and time.monotonic() < deadline:
            time.sleep(0.001)  # the watchdog may be looking at the wait
        assert dead() is None
    finally:
        gc.enable()
    assert me.holds == before
