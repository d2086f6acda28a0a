"""Waits that anybody could end: ``Condition``, ``Event``, ``Barrier``. Found when nobody is left awake."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.waits.conftest import Watched

WAITS = {
    "condition": (
        "Condition 'changed'",
        """
changed = threading.Condition()
flag = []
def wait():
    with changed:
        changed.wait_for(lambda: flag)  # the wait
def end():
    with changed:
        flag.append(1)
        changed.notify_all()
""",
    ),
    "condition on a lock": (
        "Condition 'changed'",
        """
changed = threading.Condition(threading.Lock())
flag = []
def wait():
    with changed:
        while not flag:
            changed.wait()  # the wait
def end():
    with changed:
        flag.append(1)
        changed.notify_all()
""",
    ),
    "event": (
        "Event 'ready'",
        """
ready = threading.Event()
def wait():
    ready.wait()  # the wait
end = ready.set
""",
    ),
    "barrier": (
        "Barrier 'gate'",
        """
gate = threading.Barrier(2)
def wait():
    gate.wait()  # the wait
end = gate.wait
""",
    ),
}

KINDS = pytest.mark.parametrize("kind", list(WAITS))


@KINDS
def test_alone(watched: Watched, kind: str) -> None:
    """The last thread awake waits: it gets the error, at its own line, and the thing is named as in the source."""
    resource, make = WAITS[kind]
    outcome = watched(f"from scene import *\n{make}\nattempt(wait)\nsay('last line')")
    assert outcome.deadlocks == [("asleep", "MainThread", {"MainThread": (resource, "the wait")})]
    assert outcome.said == ["MainThread: DeadlockError at the wait", "last line"]


@KINDS
def test_made_before_install(watched: Watched, kind: str) -> None:
    """The same for a thing that exists already when lockwatch is installed, though its place is not known then."""
    resource, make = WAITS[kind]
    outcome = watched(f"import threading\n{make}\nfrom scene import *\nattempt(wait)")
    (found,) = outcome.deadlocks
    assert found[:2] == ("asleep", "MainThread")
    assert found.waits["MainThread"][0].startswith(resource.split()[0])
    assert found.waits["MainThread"][1] == "the wait"
    assert outcome.said == ["MainThread: DeadlockError at the wait"]


@KINDS
def test_not_while_somebody_is_awake(watched: Watched, kind: str) -> None:
    """A sleeping thread, a timer, a socket, a timed wait, a signal handler, a slow thread: each may still end it."""
    make = WAITS[kind][1].replace("\n", "\n    ")
    program = f"from scene import *\ndef make():\n    {make}\n    return wait, end\nrescues(make)"
    outcome = watched(program)
    assert outcome.said == ["rescued"]
    assert outcome.findings == []


@KINDS
def test_threads_started_before_install(watched: Watched, kind: str) -> None:
    """A thread that ran before install, and is unknown to lockwatch, counts as awake; it ends the wait."""
    make = WAITS[kind][1]
    outcome = watched(
        f"""
import threading, time
{make}
threading.Thread(target=lambda: (time.sleep(0.4), end())).start()
from scene import *
attempt(wait)
"""
    )
    assert outcome.findings == []
    assert outcome.said == ["MainThread: went on"]


def test_one_after_the_other(watched: Watched) -> None:
    """Of several asleep each gets the error in turn, those in open waits before the one who merely joins."""
    outcome = watched(
        """
        from scene import *
        ready, gate = threading.Event(), threading.Barrier(3)
        def first():
            ready.wait()  # first
        def second():
            gate.wait()  # second
        threads = [go("first", first), go("second", second)]
        waiting(threads[0], "Event")
        waiting(threads[1], "Barrier")
        def join():
            for thread in threads:
                thread.join()  # join
        attempt(join)
        """
    )
    assert [one.cause for one in outcome.deadlocks] == ["asleep", "asleep"]
    assert {one.victim for one in outcome.deadlocks} == {"first", "second"}
    assert outcome.deadlocks[0].waits == {
        "MainThread": ("end of thread 'first'", "join"),
        "first": ("Event 'ready'", "first"),
        "second": ("Barrier 'gate'", "second"),
    }
    assert outcome.said == [
        "MainThread: went on",
        "first: DeadlockError at first",
        "second: DeadlockError at second",
    ]


def test_the_lock_that_every_notifier_wants(watched: Watched) -> None:
    """A waiter that keeps an outer lock is the root: who would notify waits for that lock, and goes on after the error."""
    outcome = watched(
        """
        from scene import *
        outer, changed = threading.Lock(), threading.Condition()
        def consumer():
            with outer, changed:
                changed.wait()  # waits
        def producer():
            with outer:  # wants outer
                with changed:
                    changed.notify()
        one = go("consumer", consumer)
        waiting(one, "Condition")
        two = go("producer", producer)
        waiting(two, "Lock")
        two.join()
        """
    )
    (found,) = outcome.deadlocks
    assert found[:2] == ("asleep", "consumer")
    assert found.waits["producer"] == ("Lock 'outer'", "wants outer")
    assert found.waits["consumer"] == ("Condition 'changed'", "waits")
    assert outcome.said == ["consumer: DeadlockError at waits", "producer: went on"]


def test_the_lock_is_taken_again(watched: Watched) -> None:
    """The victim of a condition owns the condition's lock when the error arrives, all levels of it, and lets it go after."""
    outcome = watched(
        """
        from scene import *
        changed = threading.Condition()
        def wait():
            changed.wait()  # the wait
        with changed, changed:
            attempt(wait)
            assert changed._is_owned()
            assert not changed._waiters
        assert not changed._is_owned()
        go("next", changed.acquire).join()
        """
    )
    assert len(outcome.deadlocks) == 1
    assert outcome.said == ["MainThread: DeadlockError at the wait", "next: went on"]


def test_victims_of_a_barrier(watched: Watched) -> None:
    """An exception in ``Barrier.wait`` does not break the barrier in CPython: so each that waits there gets its own."""
    outcome = watched(
        """
        from scene import *
        gate = threading.Barrier(3)
        def arrive():
            gate.wait()  # arrives
        threads = [go("one", arrive), go("two", arrive)]
        for thread in threads:
            thread.join()
        assert not gate.broken and not gate.n_waiting
        """
    )
    assert sorted(str(one.victim) for one in outcome.deadlocks) == ["one", "two"]
    assert outcome.said == ["one: DeadlockError at arrives", "two: DeadlockError at arrives"]


def test_events_with_awake_daemons(watched: Watched) -> None:
    """A daemon thread that is awake could set any event: nothing is said, and a timed wait tells that it is not so."""
    outcome = watched(
        """
        from scene import *
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        ready = threading.Event()
        thread = go("waiter", ready.wait)
        waiting(thread, "Event")
        assert not threading.Event().wait(0.3)
        ready.set()
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["waiter: went on"]


def test_notified_but_not_run_yet(watched: Watched) -> None:
    """Who was notified counts as awake though it still stands in its wait: ping-pong on one condition is never found."""
    outcome = watched(
        """
        from scene import *
        changed, turn = threading.Condition(), [0]
        def player(me):
            for _ in range(3000):
                with changed:
                    while turn[0] != me:
                        changed.wait()
                    turn[0] = (me + 1) % 3
                    changed.notify_all()
        threads = [go(f"p{n}", player, n) for n in range(3)]
        for thread in threads:
            thread.join()
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["p0: went on", "p1: went on", "p2: went on"]


def test_events_back_and_forth(watched: Watched) -> None:
    """Two threads that set each other's event by turns are never both asleep."""
    outcome = watched(
        """
        from scene import *
        events = [threading.Event(), threading.Event()]
        def player(me):
            for _ in range(3000):
                events[me].wait()
                events[me].clear()
                events[1 - me].set()
        threads = [go(f"p{n}", player, n) for n in range(2)]
        events[0].set()
        for thread in threads:
            thread.join()
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["p0: went on", "p1: went on"]
