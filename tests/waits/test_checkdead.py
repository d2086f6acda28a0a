"""Go's ``checkdead``: it is also looked for when the last runnable thread *ends*, and at interpreter exit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.waits.conftest import Watched

LAST = {
    "returns": "time.sleep(0.1)",
    "fails": "time.sleep(0.1); raise KeyError('x')",
    "exits": "time.sleep(0.1); sys.exit()",
    "after a timed wait": "threading.Event().wait(0.1)",
    "after a join": "(t := threading.Thread(target=time.sleep, args=(0.1,))).start(); t.join()",
    "after a lock": "(l := threading.Lock()).acquire(); l.acquire(timeout=0.1)",
}
WAITS = {
    "Event": ("thing = threading.Event()", "thing.wait()"),
    "Condition": ("thing = threading.Condition(); thing.acquire()", "thing.wait()"),
    "Queue": ("thing = queue.Queue()", "thing.get()"),
    "SimpleQueue": ("thing = queue.SimpleQueue()", "thing.get()"),
    "Semaphore": ("thing = threading.Semaphore(0)", "thing.acquire()"),
    "Barrier": ("thing = threading.Barrier(2)", "thing.wait()"),
    "Future": ("from concurrent.futures import Future; thing = Future()", "thing.result()"),
}


@pytest.mark.parametrize("daemon", [False, True], ids=["", "daemon"])
@pytest.mark.parametrize("last", list(LAST))
def test_the_last_one_ends(watched: Watched, last: str, daemon: bool) -> None:
    """While the last other thread runs there is hope; it ends, in whatever way, and then there is none."""
    outcome = watched(
        f"""
        from scene import *
        ready = threading.Event()
        def body():
            {LAST[last]}
        threading.excepthook = lambda arguments: None
        thread = threading.Thread(target=body, daemon={daemon})
        thread.start()
        def main():
            ready.wait()  # waits
        attempt(main)
        assert not thread.is_alive()
        """
    )
    assert outcome.deadlocks == [("asleep", "MainThread", {"MainThread": ("Event 'ready'", "waits")})]
    assert outcome.said == ["MainThread: DeadlockError at waits"]


@pytest.mark.parametrize("kind", list(WAITS))
def test_every_kind_of_wait(watched: Watched, kind: str) -> None:
    """The same for each kind of wait, with two threads that wait for it and one that is last."""
    make, wait = WAITS[kind]
    outcome = watched(
        f"""
        from scene import *
        threading.Thread(target=time.sleep, args=(0.15,)).start()
        def one():
            {make}
            {wait}  # waits
        threads = [go("one", one), go("two", one)]
        for thread in threads:
            thread.join()
        """
    )
    assert {found.victim for found in outcome.deadlocks} == {"one", "two"}
    for found in outcome.deadlocks:
        assert found.cause == "asleep"
        assert found.waits[str(found.victim)][1] == "waits"
    assert outcome.said == ["one: DeadlockError at waits", "two: DeadlockError at waits"]


def test_a_timer_was_the_last(watched: Watched) -> None:
    """A timer that fires without setting the event leaves nobody; one that is cancelled does, too."""
    outcome = watched(
        """
        from scene import *
        def main():
            threading.Event().wait()  # waits
        threading.Timer(0.1, int).start()
        attempt(main)
        timer = threading.Timer(60, int)
        timer.start()
        threading.Timer(0.1, timer.cancel).start()
        attempt(main)
        """
    )
    assert [found.cause for found in outcome.deadlocks] == ["asleep", "asleep"]
    assert outcome.said == ["MainThread: DeadlockError at waits"] * 2


def test_a_thread_unknown_to_threading_was_the_last(watched: Watched) -> None:
    """A thread made by ``_thread`` that used a watched lock is an agent, and its end is seen."""
    outcome = watched(
        """
        import _thread
        from scene import *
        lock = threading.Lock()
        def body():
            with lock:
                time.sleep(0.1)
        _thread.start_new_thread(body, ())
        until(lock.locked)
        def main():
            threading.Event().wait()  # waits
        attempt(main)
        """
    )
    assert [found[:2] for found in outcome.deadlocks] == [("asleep", "MainThread")]
    assert outcome.said == ["MainThread: DeadlockError at waits"]


def test_the_end_releases_something(watched: Watched) -> None:
    """What a thread's local storage or its frames let go of when it ends may end a wait: it is looked at after that."""
    outcome = watched(
        """
        from scene import *
        ready, jobs = threading.Event(), queue.SimpleQueue()
        class Last:
            def __init__(self, call):
                self.call = call
            def __del__(self):
                time.sleep(0.05)
                self.call()
        local = threading.local()
        def body():
            local.last = Last(ready.set)
            kept = Last(lambda: jobs.put(1))
            time.sleep(0.05)
        for wait in (ready.wait, jobs.get):
            threading.Thread(target=body).start()
            attempt(wait)
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["MainThread: went on"] * 2


AT_EXIT = {
    "event": ("", "threading.Event().wait()"),
    "queue": ("", "queue.Queue().get()"),
    "simple queue": ("", "queue.SimpleQueue().get()"),
    "condition": ("changed = threading.Condition(); changed.acquire()", "changed.wait()"),
    "future": ("from concurrent.futures import Future", "Future().result()"),
}


@pytest.mark.parametrize("kind", list(AT_EXIT))
def test_at_exit(watched: Watched, kind: str) -> None:
    """Main is done, and its threads wait for what nobody can do any more: each gets the error, and the program ends."""
    make, wait = AT_EXIT[kind]
    outcome = watched(
        f"""
        from scene import *
        def body():
            {make}
            {wait}  # waits
        threads = [go(f"t{{n}}", body) for n in range(3)]
        say("last line")
        """
    )
    assert {found.victim for found in outcome.deadlocks} == {"t0", "t1", "t2"}
    assert [found.cause for found in outcome.deadlocks] == ["asleep"] * 3
    assert outcome.said == ["last line", *(f"t{n}: DeadlockError at waits" for n in range(3))]


def test_at_exit_of_a_pool(watched: Watched) -> None:
    """A task of a pool that waits for an event at exit: it is the victim, and the pool's end is waited for as ever."""
    outcome = watched(
        """
        from scene import *
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(2, thread_name_prefix="pool")
        def task():
            threading.Event().wait()  # waits
        pool.submit(attempt, task)
        pool.submit(int).result()
        say("last line")
        """
    )
    (found,) = outcome.deadlocks
    assert found.cause == "asleep"
    assert str(found.victim).startswith("pool_")
    assert found.waits[str(found.victim)][1] == "waits"
    assert outcome.said == ["last line", f"{found.victim}: DeadlockError at waits"]


def test_at_exit_with_somebody_awake(watched: Watched) -> None:
    """At exit a thread that sleeps may still end the others' waits; so may a daemon thread, while there is one."""
    outcome = watched(
        """
        from scene import *
        ready, other = threading.Event(), threading.Event()
        go("waits", ready.wait)
        go("waits too", other.wait)
        threading.Timer(0.1, ready.set).start()
        def late():
            time.sleep(0.2)
            other.set()
        go("late", late, daemon=True)
        say("last line")
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["last line", "late: went on", "waits too: went on", "waits: went on"] or (
        "late: went on" not in outcome.said and len(outcome.said) == 3
    )


def test_daemons_at_exit(watched: Watched) -> None:
    """Daemon threads that wait for ever are no reason not to end, and no finding."""
    outcome = watched(
        """
        from scene import *
        for n in range(3):
            waiting(go(f"d{n}", threading.Event().wait, daemon=True), "Event")
        say("last line")
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["last line"]


def test_observed_only(watched: Watched) -> None:
    """In mode ``observe`` the finding is made once and nobody gets an error; a late rescue is still possible."""
    outcome = watched(
        """
        from scene import *
        ready = threading.Event()
        signal.signal(signal.SIGALRM, lambda *_: ready.set())
        from lockwatch._core import signals
        signals.harmless(signal.getsignal(signal.SIGALRM))
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        threading.Thread(target=time.sleep, args=(0.1,)).start()
        def main():
            ready.wait()  # waits
        attempt(main)
        """,
        settings={"mode": "observe"},
    )
    assert outcome.deadlocks == [("asleep", None, {"MainThread": ("Event 'ready'", "waits")})]
    assert outcome.said == ["MainThread: went on"]
