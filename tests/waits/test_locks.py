"""``Lock`` and ``RLock``: the owner could end the wait. Here with what else threads wait for; the rest is in tests/detector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.waits.conftest import Watched

BOTH = pytest.mark.parametrize("kind", ["Lock", "RLock"])


@BOTH
def test_crosswise(watched: Watched, kind: str) -> None:
    """Two threads that take two locks in opposite orders: the one that closes the cycle gets the error, the other both locks."""
    outcome = watched(
        f"""
        from scene import *
        first, second = threading.{kind}(), threading.{kind}()
        have = threading.Event()
        def one():
            with first:
                have.wait()
                with second:  # wants second
                    pass
        thread = go("one", one)
        def main():
            with second:
                have.set()
                waiting(thread, "{kind}")
                with first:  # wants first
                    pass
        attempt(main)
        """
    )
    # First one, then MainThread: the order of the cycle is that of the search.
    waits = {
        "one": (f"{kind} 'second'", "wants second"),
        "MainThread": (f"{kind} 'first'", "wants first"),
    }
    assert outcome.deadlocks == [("cycle", "MainThread", waits)]
    assert outcome.said == ["MainThread: DeadlockError at wants first", "one: went on"]


@BOTH
@pytest.mark.parametrize("early", [True, False], ids=["lock first", "install first"])
def test_with_a_join(watched: Watched, kind: str, early: bool) -> None:
    """Joining a thread under a lock that it wants is a cycle, though another thread is awake; also of an adopted lock."""
    make = f"import threading\nlock = threading.{kind}()"
    lines = ["from scene import *", make]
    if early:
        lines.reverse()
    outcome = watched(
        "\n".join(lines)
        + """
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
def worker():
    with lock:  # wants the lock
        pass
def main():
    with lock:
        thread = go("worker", worker)
        waiting(thread, type(lock).__name__)
        thread.join()  # joins
attempt(main)
"""
    )
    (found,) = outcome.deadlocks
    assert found.cause == "cycle"
    assert found.victim == "MainThread"
    assert found.waits["MainThread"] == ("end of thread 'worker'", "joins")
    assert found.waits["worker"][1] == "wants the lock"
    if not early:
        assert found.waits["worker"][0] == f"{kind} 'lock'"
    assert outcome.said == ["MainThread: DeadlockError at joins", "worker: went on"]


@BOTH
def test_whose_owner_is_asleep(watched: Watched, kind: str) -> None:
    """Who waits for a lock whose owner waits for an event that nobody can set: the owner is the root and the victim."""
    outcome = watched(
        f"""
        from scene import *
        lock, ready = threading.{kind}(), threading.Event()
        def owner():
            with lock:
                ready.wait()  # waits
        thread = go("owner", owner)
        waiting(thread, "Event")
        def main():
            with lock:  # wants the lock
                pass
        attempt(main)
        """
    )
    waits = {"MainThread": (f"{kind} 'lock'", "wants the lock"), "owner": ("Event 'ready'", "waits")}
    assert outcome.deadlocks == [("asleep", "owner", waits)]
    assert outcome.said == ["MainThread: went on", "owner: DeadlockError at waits"]


@BOTH
def test_whose_owner_is_awake(watched: Watched, kind: str) -> None:
    """An owner that sleeps, reads from a socket, computes or waits with a timeout lets go in the end."""
    outcome = watched(
        f"""
        from scene import *
        lock = threading.{kind}()
        def hold(awake):
            have = threading.Event()
            def body():
                with lock:
                    have.set()
                    awake()
            thread = threading.Thread(target=body)
            thread.start()
            have.wait()
            return thread
        def reads():
            here, there = socket.socketpair()
            with here, there:
                threading.Timer(DELAY, there.send, [b"x"]).start()
                here.recv(1)
        def works():
            stop = time.monotonic() + DELAY
            while time.monotonic() < stop:
                pass
        other = threading.Lock()
        other.acquire()
        for awake in (
            lambda: time.sleep(DELAY), reads, works,
            lambda: threading.Event().wait(DELAY),
            lambda: threading.Thread(target=time.sleep, args=(DELAY,)).start() or time.sleep(DELAY),
            lambda: other.acquire(timeout=DELAY),
            lambda: queue.Queue().get(timeout=DELAY) if False else queue.SimpleQueue().empty(),
        ):
            thread = hold(awake)
            with lock:
                pass
            thread.join()
        say("done")
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["done"]


def test_released_by_somebody_else(watched: Watched) -> None:
    """A plain lock that is taken twice may be released by whoever is awake: all seven ways."""
    outcome = watched(
        """
        from scene import *
        def make():
            lock = threading.Lock()
            lock.acquire()
            return lock.acquire, lock.release
        rescues(make)
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["rescued"]


def test_wait_with_a_timeout_is_never_told(watched: Watched) -> None:
    """A cycle with a timed edge ends by itself: nothing is raised or reported, and the time-out is returned."""
    outcome = watched(
        """
        from scene import *
        first, second = threading.Lock(), threading.Lock()
        have = threading.Event()
        def one():
            with first:
                have.wait()
                with second:
                    pass
        thread = go("one", one)
        with second:
            have.set()
            waiting(thread, "Lock")
            say("got it:", first.acquire(timeout=0.1))
        thread.join()
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["got it: False", "one: went on"]
