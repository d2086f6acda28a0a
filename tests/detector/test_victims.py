"""Who gets the error: one party for each deadlock, the lightest; and mode "observe", in which nobody does."""

from __future__ import annotations

import json
import threading
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

import lockwatch

if TYPE_CHECKING:
    from tests.conftest import RunPython
    from tests.detector.conftest import Chain, Crew, Job


def victim(found: lockwatch.Finding) -> str:
    """The name of the one victim that a finding has."""
    (name,) = [party.name for party in found.parties if party.victim]
    return name


# --- one for each knot -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 4, 8])
def test_closed_by_all_at_the_same_moment(size: int, crew: Crew) -> None:
    """N threads that close a ring at once, 200 times: each time exactly one error; the others get their locks."""
    rounds = 200
    barrier = threading.Barrier(size)
    outcomes: list[list[str]] = [[] for _ in range(rounds)]
    rings = [[lockwatch.Lock() for _ in range(size)] for _ in range(rounds)]

    def body(index: int) -> None:
        for number, locks in enumerate(rings):
            barrier.wait()
            try:
                with locks[index]:
                    barrier.wait()
                    with locks[(index + 1) % size]:
                        outcomes[number].append("went on")
            except lockwatch.DeadlockError as error:
                assert victim(error.finding) == threading.current_thread().name
                outcomes[number].append("victim")

    for index in range(size):
        crew.start(body, index, name=f"t{index}")
    assert crew.deadlocks() == []  # none that came out
    assert [sorted(outcome) for outcome in outcomes] == [["victim"] + ["went on"] * (size - 1)] * rounds
    assert len(lockwatch.recorded_findings()) == rounds
    for lock in [lock for ring in rings for lock in ring]:
        lock._check()
        assert not lock.locked()


def test_victim_is_told_once_and_may_try_again(crew: Crew) -> None:
    """Two threads that take two locks in opposite order and start over when chosen both get through in the end."""
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")
    start = threading.Barrier(2)
    done: list[str] = []

    def body(one: lockwatch.Lock, two: lockwatch.Lock) -> int:
        start.wait()
        errors = 0
        for _ in range(50):
            while True:
                try:
                    with one, two:
                        done.append(threading.current_thread().name)
                    break
                except lockwatch.DeadlockError:
                    errors += 1
        return errors

    jobs = [crew.start(body, a, b), crew.start(body, b, a)]
    assert crew.deadlocks() == []
    assert len(done) == 100
    assert sum(int(str(job.value)) for job in jobs) == len(lockwatch.recorded_findings())


def test_two_separate_rings_have_a_victim_each(crew: Crew, chain: Chain) -> None:
    """Deadlocks that have nothing to do with each other are two findings with two victims."""
    first = chain([lockwatch.Lock() for _ in range(3)])
    second = chain([lockwatch.Lock() for _ in range(2)])
    assert len(crew.deadlocks()) == 2
    for jobs in (first, second):
        assert [type(job.error).__name__ for job in jobs if job.error] == ["DeadlockError"]


def test_victim_that_leads_on_into_another_deadlock(crew: Crew) -> None:
    """After a victim was told its waiter looks again: one thread that closes two rings at once ends both.

    "hub" holds x and y, for which two threads wait that hold the lock it wants, one after the other.
    """
    x, y, p, q = (lockwatch.Lock(name=name) for name in "xypq")
    go = threading.Event()

    def hub() -> str:
        with lockwatch.deadlock_weight(10), x, y:
            go.wait()
            with p:
                pass
            with q:
                return "went on"

    def spoke(own: lockwatch.Lock, wanted: lockwatch.Lock) -> None:
        with own, wanted:
            pass

    center = crew.start(hub, name="hub")
    crew.until(y.locked)
    for own, wanted in ((p, x), (q, y)):
        crew.blocked(crew.start(spoke, own, wanted, name=f"spoke {own.name}"), wanted)
    go.set()
    assert [victim(found) for found in crew.deadlocks()] == ["spoke p", "spoke q"]
    assert center.value == "went on"


# --- by weight -----------------------------------------------------------------------------------------------------


def weighted_ring(crew: Crew, weights: list[int | None]) -> list[Job]:
    """A ring of threads with these weights, closed by the last; None: not set."""
    locks = [lockwatch.Lock(name=f"l{index}") for index in range(len(weights))]
    turns = [threading.Event() for _ in weights]

    def body(index: int) -> None:
        with locks[index]:
            turns[index].wait()
            with locks[(index + 1) % len(locks)]:
                pass

    jobs = [crew.job(body, index, name=f"t{index}") for index in range(len(weights))]
    for job, weight, lock in zip(jobs, weights, locks, strict=True):
        if weight is not None:
            lockwatch.set_deadlock_weight(weight, job.thread)
        job.start()
        crew.until(lock.locked)
    for index, job in enumerate(jobs[:-1]):
        turns[index].set()
        crew.blocked(job, locks[index + 1])
    turns[-1].set()
    return jobs


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([0, 1, 2], "t0"),
        ([5, 1, 2], "t1"),
        ([5, 5, -3], "t2"),
        ([None, None, 1], "t1"),  # a tie between t0 and t1: t1's wait is newer
        ([None, None, None], "t2"),
        ([7, 7, 7], "t2"),
        ([-1, -1, 0, -1, 0], "t3"),
        ([10**30, 2, 3], "t1"),
    ],
    ids=str,
)
def test_lightest_is_the_victim(weights: list[int | None], expected: str, crew: Crew) -> None:
    """The lightest party is the victim, whoever closed the ring; of equally light ones the newest wait is.

    The weights are set on threads that have not started yet.
    """
    weighted_ring(crew, weights)
    (found,) = crew.deadlocks()
    assert victim(found) == expected
    shown = {party.name: party.weight for party in found.parties}
    assert shown == {f"t{index}": weight or 0 for index, weight in enumerate(weights)}


def test_victim_gets_the_error_in_its_own_thread(crew: Crew) -> None:
    """A victim that did not close the ring is woken with the error; the one that closed it goes on without."""
    jobs = weighted_ring(crew, [-1, 0, 0])
    crew.join()
    assert [type(job.error).__name__ for job in jobs] == ["DeadlockError", "NoneType", "NoneType"]


def test_weight_of_a_block_nests(crew: Crew) -> None:
    """The innermost ``deadlock_weight`` counts, and leaving a block brings back the weight before, errors or not."""

    def weight() -> int:
        lock = lockwatch.Lock()
        with lock, pytest.raises(lockwatch.DeadlockError) as caught, lock:
            pass
        return caught.value.finding.parties[0].weight

    def body() -> list[int]:
        seen = [weight()]
        spare = lockwatch.deadlock_weight(3)
        with spare:
            seen.append(weight())
            with lockwatch.deadlock_weight(-2), spare:
                seen.append(weight())
            seen.append(weight())
            with pytest.raises(KeyError), lockwatch.deadlock_weight(9):
                raise KeyError
            seen.append(weight())
        seen.append(weight())
        lockwatch.set_deadlock_weight(4)
        seen.append(weight())
        return seen

    job = crew.start(body)
    assert crew.deadlocks() == []
    assert job.value == [0, 3, 3, 3, 3, 0, 4]


def test_weight_of_a_running_thread(crew: Crew) -> None:
    """A thread's weight can be set from outside, while it runs and before it ever used a lock; others keep theirs."""
    run, checked = threading.Event(), threading.Event()

    def body() -> int:
        checked.set()
        run.wait()
        lock = lockwatch.Lock()
        with lock, pytest.raises(lockwatch.DeadlockError) as caught, lock:
            pass
        return caught.value.finding.parties[0].weight

    jobs = [crew.start(body), crew.start(body)]
    lockwatch.set_deadlock_weight(6, jobs[0].thread)
    run.set()
    assert crew.deadlocks() == []
    assert [job.value for job in jobs] == [6, 0]


@pytest.mark.parametrize("weight", ["1", 1.0, None, True])
def test_a_weight_is_an_integer(weight: object) -> None:
    """Anything else is refused when it is given, not when a deadlock needs it."""
    with pytest.raises(TypeError, match="must be an int"):
        lockwatch.deadlock_weight(weight)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be an int"):
        lockwatch.set_deadlock_weight(weight)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be a threading\.Thread"):
        lockwatch.set_deadlock_weight(1, "worker")  # type: ignore[arg-type]


# --- observe -----------------------------------------------------------------------------------------------------

OBSERVE = """
    import json, os, sys, threading, time
    import lockwatch
    from lockwatch._core import agents
    from lockwatch.config import configure

    configure(mode="observe", cpu=False)
    heard = []
    lockwatch.on_finding(heard.append)

    def start(body, *args, name):
        thread = threading.Thread(target=body, args=args, name=name, daemon=True)
        thread.start()
        return thread

    def until(condition):
        while not condition():
            time.sleep(0.001)

    def parked(thread):
        frame = sys._current_frames().get(thread.ident)
        return frame is not None and frame.f_code.co_name == "park"

    def finish():
        print(json.dumps([[one.kind, one.cause, sorted(party.name for party in one.parties if party.alive),
                           any(party.victim for party in one.parties)] for one in lockwatch.recorded_findings()]))
        assert tuple(heard) == lockwatch.recorded_findings()
        sys.stdout.flush()
        os._exit(0)
"""


def observed(run_python: RunPython, body: str) -> list[list[object]]:
    """Runs a program in mode "observe" and returns its findings: kind, cause, living parties, any victim."""
    done = run_python(dedent(OBSERVE) + dedent(body))
    assert done.returncode == 0, done.stderr
    found: list[list[object]] = json.loads(done.stdout)
    return found


RING = """
    a, b = lockwatch.Lock(), lockwatch.Lock()
    ready = threading.Barrier(2)

    def body(one, two):
        with one:
            ready.wait()
            with two:
                print("got through")

    ring = [start(body, a, b, name="ab"), start(body, b, a, name="ba")]
    until(lambda: all(map(parked, ring)) and lockwatch.recorded_findings())
"""


def test_observe_raises_nothing_and_says_it_once(run_python: RunPython) -> None:
    """A deadlock that is only observed is one finding, without a victim: not one more with each new waiter or end."""
    found = observed(
        run_python,
        RING
        + """
    def tail(lock):
        with lock:
            print("got through")

    for number in range(4):
        thread = start(tail, (a, b)[number % 2], name=f"tail {number}")
        until(lambda: parked(thread))
    for number in range(4):
        start(agents.current, name="short").join()
    assert all(thread.is_alive() for thread in ring)
    finish()
    """,
    )
    assert found == [["deadlock", "cycle", ["ab", "ba"], False]]


def test_observe_sees_the_next_deadlock_too(run_python: RunPython) -> None:
    """A deadlock left alone does not keep another one from being found."""
    second = RING.replace('"ab"', '"ab2"').replace('"ba"', '"ba2"').replace("findings()", "findings()[1:]")
    found = observed(run_python, RING + second + "\n    finish()")
    assert found == [["deadlock", "cycle", ["ab", "ba"], False], ["deadlock", "cycle", ["ab2", "ba2"], False]]


def test_observe_closed_by_all_at_once(run_python: RunPython) -> None:
    """Three threads that close one ring at the same moment make one finding, 30 rings one after the other make 30."""
    found = observed(
        run_python,
        """
    size, rounds = 3, 30
    def body(locks, index, gate):
        with locks[index]:
            gate.wait()
            with locks[(index + 1) % size]:
                print("got through")

    for number in range(rounds):
        locks = [lockwatch.Lock() for _ in range(size)]
        gate = threading.Barrier(size)
        threads = [start(body, locks, index, gate, name=f"t{index}") for index in range(size)]
        until(lambda: all(map(parked, threads)) and len(lockwatch.recorded_findings()) > number)
    finish()
    """,
    )
    assert found == [["deadlock", "cycle", ["t0", "t1", "t2"], False]] * 30


def test_observe_says_an_orphan_once(run_python: RunPython) -> None:
    """A lock whose owner has ended is one finding for its waiter, and waiters behind that one add none."""
    found = observed(
        run_python,
        """
    dead, outer = lockwatch.Lock(), lockwatch.Lock()
    start(dead.acquire, name="gone").join()

    def first():
        with outer, dead:
            print("got through")

    def tail():
        with outer:
            print("got through")

    thread = start(first, name="first")
    until(lambda: parked(thread) and lockwatch.recorded_findings())
    for number in range(3):
        thread = start(tail, name=f"tail {number}")
        until(lambda: parked(thread))
    finish()
    """,
    )
    assert found == [["deadlock", "orphan", ["first"], False]]
