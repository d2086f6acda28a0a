"""Deadlocks between running threads: each that must be found, and the twin beside it that must not."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

import lockwatch
from lockwatch._core import agents
from lockwatch._core.waits import GRANTED, VERDICT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.detector.conftest import Chain, Crew, Job

    AnyLock = lockwatch.Lock | lockwatch.RLock

KINDS = [lockwatch.Lock, lockwatch.RLock]


def names(locks: list[AnyLock]) -> set[str]:
    """How the locks are called in findings."""
    return {f"{lock.kind} {lock.name!r}" for lock in locks}


def untouched(*locks: AnyLock) -> bool:
    """Whether the locks are as good as new: free, nobody in the queue, invariants kept."""
    for lock in locks:
        lock._check()
    return not any(lock.locked() or lock.statistics().waiters for lock in locks)


# --- cycles --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 5, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_ring(kind: Callable[..., AnyLock], size: int, crew: Crew, chain: Chain) -> None:
    """A ring of any length is found when it closes: one error, which names all of it; all others go on."""
    locks = [kind(name=f"l{index}") for index in range(size)]
    jobs = chain(locks)
    (found,) = crew.deadlocks()
    assert found.cause == "cycle"
    assert {party.name for party in found.parties} == {f"t{index}" for index in range(size)}
    assert set(found.cycle[1::2]) == names(locks)
    assert isinstance(jobs[-1].error, lockwatch.DeadlockError)  # the one that closed it
    assert [job.value for job in jobs[:-1]] == ["went on"] * (size - 1)
    assert untouched(*locks)


@pytest.mark.parametrize("size", [2, 5])
def test_open_chain(size: int, crew: Crew, chain: Chain) -> None:
    """Twin: waits in a row whose last one waits for nothing all end by themselves."""
    locks = [lockwatch.Lock() for _ in range(size)]
    chain(locks, closed=False)
    assert crew.deadlocks() == []
    assert lockwatch.recorded_findings() == ()
    assert untouched(*locks)


def test_cycle_is_given_in_its_order(crew: Crew, chain: Chain) -> None:
    """The cycle reads agent, resource it wants, agent that has it, ... and comes back to its start."""
    locks = [lockwatch.Lock(name=f"l{index}") for index in range(4)]
    chain(locks)
    (found,) = crew.deadlocks()
    pairs = dict(zip(found.cycle[::2], found.cycle[1::2], strict=True))
    assert pairs == {f"Thread 't{index}'": f"Lock 'l{(index + 1) % 4}'" for index in range(4)}
    agents = found.cycle[::2]
    holds = {party.agent: {hold.resource for hold in party.holds} for party in found.parties}
    for place, agent in enumerate(agents):
        assert pairs[agent] in holds[agents[(place + 1) % 4]]


def test_ring_with_chord(crew: Crew) -> None:
    """A thread of the ring that holds one more lock, for which others wait, changes nothing: the ring is named."""
    a, b, c, extra = (lockwatch.Lock(name=name) for name in ("a", "b", "c", "extra"))
    go, have_b, have_c = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with a, extra:
            go.wait()
            with b:
                pass

    def second() -> None:
        with b:
            have_b.set()
            go.wait()
            with c:
                pass

    def third() -> None:
        with c:
            have_c.set()
            crew.blocked(chord, extra)
            crew.blocked(one, b)
            crew.blocked(two, c)
            with a:
                pass

    def wants_extra() -> None:
        with extra:
            pass

    one = crew.start(first, name="first")
    crew.until(lambda: extra.locked())
    chord = crew.start(wants_extra, name="chord")
    two = crew.start(second, name="second")
    crew.until(have_b.is_set)
    crew.start(third, name="third")
    crew.until(have_c.is_set)
    go.set()
    (found,) = crew.deadlocks()
    assert [party.name for party in found.parties if party.victim] == ["third"]
    assert {party.name for party in found.parties} == {"first", "second", "third"}
    assert untouched(a, b, c, extra)


@pytest.mark.parametrize("tail_first", [True, False])
def test_tail_waiters_get_no_error(tail_first: bool, crew: Crew, chain: Chain) -> None:
    """Whoever only queues behind a cycle is no party: it gets no error, is not named, and goes on afterwards."""
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")
    seen: list[str] = []
    entered = threading.Event()

    def tail(lock: lockwatch.Lock, own: lockwatch.Lock) -> None:
        with own:
            entered.set()
            with lock:
                seen.append(threading.current_thread().name)

    own = [lockwatch.Lock(name=f"own{index}") for index in range(4)]
    tails = [crew.job(tail, lock, own[index], name=f"tail{index}") for index, lock in enumerate((a, b, a))]
    tails.append(crew.job(tail, own[0], own[3], name="tail of a tail"))

    def start_tails() -> None:
        for job, lock in zip(tails, (a, b, a, own[0]), strict=True):
            job.start()
            crew.blocked(job, lock)

    turn = threading.Event()

    def opposite() -> None:
        with b:
            turn.wait()
            with a:
                pass

    def straight() -> None:
        with a:
            crew.until(b.locked)
            if tail_first:
                start_tails()
            with b:
                pass

    jobs = [crew.start(opposite, name="opposite"), crew.start(straight, name="straight")]
    crew.blocked(jobs[1], b)
    turn.set()
    (found,) = crew.deadlocks()
    assert {party.name for party in found.parties} == {"opposite", "straight"}
    if tail_first:
        assert sorted(seen) == ["tail of a tail", "tail0", "tail1", "tail2"]
    assert untouched(a, b, *own)


def test_converging_waits(crew: Crew) -> None:
    """Twin: many ways that lead to one lock, whose owner runs, are no cycle."""
    top, left, right = (lockwatch.Lock(name=name) for name in ("top", "left", "right"))
    done = threading.Event()

    def owner() -> None:
        with top:
            done.wait()

    def side(lock: lockwatch.Lock) -> None:
        with lock, top:
            pass

    def bottom() -> None:
        with left:
            pass
        with right:
            pass

    crew.start(owner)
    crew.until(top.locked)
    for lock in (left, right):
        crew.blocked(crew.start(side, lock), top)
    for _ in range(3):
        crew.blocked(crew.start(bottom), left)
    done.set()
    assert crew.deadlocks() == []
    assert lockwatch.recorded_findings() == ()


# --- waits that end by themselves ----------------------------------------------------------------------------------


def cross(crew: Crew, timed: float, first_timed: bool) -> tuple[Job, Job, list[lockwatch.Lock]]:
    """An AB-BA cross in which one of the waits has a time-out; returns the timed and the other thread."""
    locks = [lockwatch.Lock(name="a"), lockwatch.Lock(name="b")]
    first_waits, second_holds = threading.Event(), threading.Event()

    def first() -> bool:
        with locks[0]:
            second_holds.wait()
            got = locks[1].acquire(timeout=timed) if first_timed else locks[1].acquire()
            if got:
                locks[1].release()
        return got

    def second() -> bool:
        with locks[1]:
            second_holds.set()
            first_waits.wait()
            got = locks[0].acquire() if first_timed else locks[0].acquire(timeout=timed)
            if got:
                locks[0].release()
        return got

    one = crew.start(first, name="first")
    crew.until(locks[0].locked)
    two = crew.start(second, name="second")
    crew.blocked(one, locks[1])
    first_waits.set()
    return (one, two, locks) if first_timed else (two, one, locks)


@pytest.mark.parametrize("first_timed", [True, False])
def test_cycle_with_a_timed_edge_resolves(first_timed: bool, crew: Crew) -> None:
    """Time-outs are no proof: nobody gets an error, the timed wait runs out, and the other thread goes on."""
    timed, other, locks = cross(crew, 0.05, first_timed)
    assert crew.deadlocks() == []
    assert (timed.value, other.value) == (False, True)
    assert lockwatch.recorded_findings() == ()
    assert untouched(*locks)


def test_timed_wait_for_oneself(crew: Crew) -> None:
    """A thread that waits for its own lock with a time-out gets False, not an error."""
    lock = lockwatch.Lock()

    def body() -> bool:
        with lock:
            return lock.acquire(timeout=0.02)

    job = crew.start(body)
    assert crew.deadlocks() == []
    assert job.value is False
    assert untouched(lock)


def test_no_try_acquire_is_a_wait(crew: Crew, chain: Chain) -> None:
    """A failed try leaves no trace: the owner stays the owner, and nobody is deadlocked by it."""
    a, b = lockwatch.Lock(), lockwatch.RLock()

    def body() -> tuple[bool, bool, bool]:
        return a.acquire(blocking=False), a.try_acquire(), b.acquire(timeout=0)

    with a, b:
        job = crew.start(body)
        crew.join()
        owners = {lock.statistics().owner for lock in (a, b)}
    assert job.value == (False, False, False)
    assert owners == {threading.current_thread().name}
    assert lockwatch.recorded_findings() == ()


def test_granted_waiter_is_awake(crew: Crew) -> None:
    """A waiter that was handed the lock but has not run yet may act: whoever waits for it is not deadlocked."""
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")
    held, go = threading.Event(), threading.Event()

    def granted() -> None:
        with b:
            held.set()
            go.wait()
            with a:
                pass

    a.acquire()
    waiter = crew.start(granted, name="granted")
    crew.until(held.is_set)
    go.set()
    crew.blocked(waiter, a)
    wait = waiter.wait()
    assert wait is not None
    # As in the hand-off of starvation mode, stopped between the verdict and the waiter's first instruction.
    agents.current().holds.pop(a._key, None)
    wait.slot[VERDICT] = GRANTED
    a._state[0] = wait.hold  # type: ignore[attr-defined]

    def take_b() -> None:
        b.acquire()
        b.release()

    late = crew.start(take_b, name="late")
    crew.blocked(late, b)
    assert b.acquire(timeout=0.01) is False
    wait.wake()
    assert crew.deadlocks() == []
    assert lockwatch.recorded_findings() == ()


# --- with itself ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ways", [("with", "with"), ("with", "acquire"), ("acquire", "with")])
def test_self_by_with(ways: tuple[str, str], crew: Crew) -> None:
    """A plain Lock taken twice by its thread, by ``with`` at least once, is a deadlock with itself, at once.

    (The default grace for signals, one second, is not waited for, though others have the lock in sight.)
    """
    lock = lockwatch.Lock(name="mine")

    def body(first: str, *more: str) -> None:
        if first == "with":
            with lock:
                inner(*more)
        else:
            lock.acquire()
            try:
                inner(*more)
            finally:
                lock.release()

    def inner(*more: str) -> None:
        if more:
            body(*more)

    job = crew.start(body, *ways, name="selfish")
    crew.until(job.done)
    (found,) = crew.deadlocks()
    assert found.cause == "self"
    assert [(party.name, party.victim) for party in found.parties] == [("selfish", True)]
    assert found.cycle == ("Thread 'selfish'", "Lock 'mine'")
    assert found.parties[0].waits_for is not None
    assert found.parties[0].waits_for.age < 1.0
    assert untouched(lock)


def test_rlock_is_not_its_own_enemy(crew: Crew) -> None:
    """Twin: a re-entrant lock is taken again by its owner, as often as it likes, in any way."""
    lock = lockwatch.RLock()

    def body() -> int:
        with lock, lock:
            lock.acquire()
            lock.acquire(timeout=1)
            try:
                return lock.statistics().count
            finally:
                lock.release()
                lock.release()

    job = crew.start(body)
    assert crew.deadlocks() == []
    assert job.value == 4
    assert untouched(lock)


def test_lock_inside_rlock_of_one_thread(crew: Crew) -> None:
    """Both kinds in one cycle: an RLock's owner waits for a Lock whose owner waits for the RLock."""
    plain, again = lockwatch.Lock(name="plain"), lockwatch.RLock(name="again")
    turn = threading.Event()

    def first() -> None:
        with again, again:
            crew.until(plain.locked)
            turn.set()
            with plain:
                pass

    def second() -> None:
        with plain:
            turn.wait()
            with again:
                pass

    crew.start(first)
    crew.until(again.locked)
    crew.start(second)
    (found,) = crew.deadlocks()
    assert set(found.cycle[1::2]) == {"Lock 'plain'", "RLock 'again'"}
    assert untouched(plain, again)
