"""Semaphores: any agent that holds a permit could end the wait, if all permits were taken by ``with``; else anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.waits.conftest import Watched

BOTH = pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore"])
DAEMON = "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"


@BOTH
def test_nested_permits(watched: Watched, kind: str) -> None:
    """Every holder of a permit wants a second one: certain, though another thread is awake. One gives up, the rest go on."""
    outcome = watched(
        f"""
        from scene import *
        {DAEMON}
        room = threading.{kind}(2)
        have = threading.Barrier(2)
        def worker():
            with room:
                have.wait()
                with room:  # wants another
                    pass
        threads = [go(f"w{{n}}", worker) for n in range(2)]
        for thread in threads:
            thread.join()
        assert room._value == 2
        """
    )
    (found,) = outcome.deadlocks
    assert found.cause == "starved"
    assert found.victim in ("w0", "w1")
    assert found.waits[found.victim] == (f"{kind} 'room'", "wants another") or found.waits[found.victim] == (
        "Semaphore 'room'",
        "wants another",
    )
    other = "w1" if found.victim == "w0" else "w0"
    assert outcome.said == sorted([f"{found.victim}: DeadlockError at wants another", f"{other}: went on"])


@BOTH
def test_twice_by_one_thread(watched: Watched, kind: str) -> None:
    """The only permit taken twice by one thread can come back from nobody else."""
    outcome = watched(
        f"""
        from scene import *
        {DAEMON}
        room = threading.{kind}(1)
        def body():
            with room:
                with room:  # again
                    pass
        attempt(body)
        assert room._value == 1
        """
    )
    (found,) = outcome.deadlocks
    assert found.victim == "MainThread"
    assert found.waits["MainThread"] == ("Semaphore 'room'", "again")
    assert outcome.said == ["MainThread: DeadlockError at again"]


@BOTH
def test_crosswise_with_a_lock(watched: Watched, kind: str) -> None:
    """A permit and a lock, taken in opposite orders by two threads, make a cycle with a thread awake."""
    outcome = watched(
        f"""
        from scene import *
        {DAEMON}
        room, lock = threading.{kind}(1), threading.Lock()
        have = threading.Event()
        def one():
            with room:
                have.wait()
                with lock:  # wants the lock
                    pass
        thread = go("one", one)
        def main():
            with lock:
                have.set()
                waiting(thread, "Lock")
                with room:  # wants a permit
                    pass
        attempt(main)
        """
    )
    (found,) = outcome.deadlocks
    assert found.victim == "MainThread"
    assert found.waits == {
        "one": ("Lock 'lock'", "wants the lock"),
        "MainThread": ("Semaphore 'room'", "wants a permit"),
    }
    assert outcome.said == ["MainThread: DeadlockError at wants a permit", "one: went on"]


@BOTH
@pytest.mark.parametrize("early", [True, False], ids=["semaphore first", "install first"])
def test_bare_permits(watched: Watched, kind: str, early: bool) -> None:
    """Permits taken by a bare acquire may come back from anybody: found when nobody is awake, also of older semaphores."""
    lines = ["from scene import *", f"import threading\nroom = threading.{kind}(1)"]
    if early:
        lines.reverse()
    outcome = watched(
        "\n".join(lines)
        + """
def body():
    room.acquire()
    room.acquire()  # again
attempt(body)
"""
    )
    (found,) = outcome.deadlocks
    assert found[:2] == ("asleep", "MainThread")
    assert found.waits["MainThread"][1] == "again"
    assert outcome.said == ["MainThread: DeadlockError at again"]


@BOTH
@pytest.mark.parametrize("how", ["with", "acquire"])
def test_not_while_somebody_is_awake(watched: Watched, kind: str, how: str) -> None:
    """Whoever is awake may release a permit that was taken bare; who holds it by ``with`` may be awake, too."""
    taken = "room.acquire()" if how == "acquire" else ""
    value = 1 if how == "acquire" else 0
    wait = "room.acquire" if how == "acquire" else "room.__enter__"
    if kind == "BoundedSemaphore" and how == "with":
        value, taken = 1, "room.acquire()"
    outcome = watched(
        f"""
        from scene import *
        def make():
            room = threading.{kind}({value})
            {taken}
            return {wait}, room.release
        rescues(make)
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["rescued"]


@BOTH
def test_one_holder_is_awake(watched: Watched, kind: str) -> None:
    """One of two holders waits for the waiter, the other one is only slow: no alarm, and the slow one ends the wait."""
    outcome = watched(
        f"""
        from scene import *
        room = threading.{kind}(2)
        have = threading.Barrier(3)
        def slow():
            with room:
                have.wait()
                time.sleep(0.2)
        def waits_for_it():
            with room:
                have.wait()
                until(wanter.is_alive)
                wanter.join()
        def wants():
            with room:
                pass
        wanter = threading.Thread(target=attempt, args=(wants,), name="wanter")
        threads = [go("slow", slow), go("joiner", waits_for_it)]
        have.wait()
        wanter.start()
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["joiner: went on", "slow: went on", "wanter: went on"]


def test_a_permit_more(watched: Watched) -> None:
    """A semaphore that has got more permits by ``release`` since may get one back from a bare acquirer, who is awake."""
    outcome = watched(
        """
        from scene import *
        room = threading.Semaphore(1)
        room.release()
        have = threading.Barrier(3)
        def bare():
            room.acquire()
            have.wait()
            time.sleep(0.3)
            room.release()
        def joiner():
            with room:
                have.wait()
                until(wanter.is_alive)
                wanter.join()
        def wants():
            with room:
                pass
        wanter = threading.Thread(target=attempt, args=(wants,), name="wanter")
        threads = [go("bare", bare), go("joiner", joiner)]
        have.wait()
        wanter.start()
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["bare: went on", "joiner: went on", "wanter: went on"]


def test_released_from_outside(watched: Watched) -> None:
    """A permit that others than its taker have given back before may be given back by anybody again."""
    outcome = watched(
        """
        from scene import *
        room = threading.Semaphore(1)
        room.acquire()
        go("outside", room.release).join()
        def joiner():
            with room:
                wanter.start()
                wanter.join()
        def wants():
            room.acquire()
        wanter = threading.Thread(target=attempt, args=(wants,), name="wanter")
        one = go("joiner", joiner)
        waiting(wanter, "Semaphore")
        time.sleep(0.1)
        room.release()
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["joiner: went on", "outside: went on", "wanter: went on"]


def test_permits_are_not_kept(watched: Watched) -> None:
    """A thread that gave its permits back is no holder, nor kept alive; failures inside ``with`` give them back as well."""
    outcome = watched(
        """
        from scene import *
        import gc, weakref
        room = threading.Semaphore(2)
        def body():
            with room, room:
                raise KeyError("x")
        thread = go("one", body)
        thread.join()
        assert not room._lockwatch_permits, room._lockwatch_permits
        gone = weakref.ref(thread)
        del thread
        gc.collect()
        assert gone() is None
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["one: KeyError: 'x'"]
