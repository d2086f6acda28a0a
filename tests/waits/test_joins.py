"""``Thread.join``: that thread could end the wait, and nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.waits.conftest import Watched

DAEMON = "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"


def test_each_other(watched: Watched) -> None:
    """Threads that join each other are a cycle, though another one is awake; all but the victim end in order."""
    outcome = watched(
        f"""
        from scene import *
        {DAEMON}
        threads = {{}}
        def body(mine, other):
            until(lambda: other in threads)
            if mine == "two":
                waiting(threads["one"], "end of thread")
            threads[other].join()  # joins
        for mine, other in (("one", "two"), ("two", "one")):
            threads[mine] = go(mine, body, mine, other)
        for thread in list(threads.values()):
            thread.join()
        """
    )
    waits = {
        "one": ("end of thread 'two'", "joins"),
        "two": ("end of thread 'one'", "joins"),
    }
    assert outcome.deadlocks == [("cycle", "two", waits)]
    assert outcome.said == ["one: went on", "two: DeadlockError at joins"]


def test_who_waits_for_the_joiner(watched: Watched) -> None:
    """Joining a thread that waits for an event which only the joiner could set: the waiter for the event is the root."""
    outcome = watched(
        """
        from scene import *
        stop = threading.Event()
        def worker():
            stop.wait()  # waits
        def main():
            go("worker", worker).join()  # joins
            stop.set()
        attempt(main)
        """
    )
    (found,) = outcome.deadlocks
    assert found[:2] == ("asleep", "worker")
    assert found.waits["MainThread"] == ("end of thread 'worker'", "joins")
    assert found.waits["worker"] == ("Event 'stop'", "waits")
    assert outcome.said == ["MainThread: went on", "worker: DeadlockError at waits"]


def test_not_while_the_thread_is_awake(watched: Watched) -> None:
    """Whatever a thread does that is no wait of ours: its join just lasts as long; a timed join is never told."""
    outcome = watched(
        """
        from scene import *
        for rescuer in RESCUERS:
            if rescuer is in_a_signal_handler or rescuer is unknown_to_threading:
                continue
            ended = []
            finish = rescuer(lambda: ended.append(1))
            finish()
            assert ended
        thread = go("slow", time.sleep, 0.2)
        thread.join(0.01)
        assert thread.is_alive()
        thread.join()
        assert not thread.is_alive()
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["slow: went on"]


def test_cycles_with_a_timed_join(watched: Watched) -> None:
    """A join with a time-out ends by itself, so there is no cycle with it."""
    outcome = watched(
        """
        from scene import *
        lock = threading.Lock()
        def worker():
            with lock:
                pass
        with lock:
            thread = go("worker", worker)
            waiting(thread, "Lock")
            thread.join(0.05)
            assert thread.is_alive()
        thread.join()
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["worker: went on"]


def test_contract(watched: Watched) -> None:
    """Joins of threads not started, oneself, ended ones, with odd time-outs: as without lockwatch; Ctrl-C gets out."""
    outcome = watched(
        """
        from scene import *
        thread = threading.Thread(target=int)
        for victim in (thread, threading.current_thread()):
            try:
                victim.join()
            except RuntimeError as error:
                say(error)
        thread.start()
        thread.join(), thread.join(), thread.join(0), thread.join(timeout=None), thread.join(-1)
        def interrupt(*_):
            raise KeyError("signal")
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        slow = threading.Thread(target=time.sleep, args=(0.3,))
        slow.start()
        try:
            slow.join()
        except KeyError:
            say("interrupted", slow.is_alive())
        slow.join()
        assert not slow.is_alive()
        """
    )
    assert outcome.findings == []
    assert outcome.said == [
        "cannot join current thread",
        "cannot join thread before it is started",
        "interrupted True",
    ]


def test_many_joiners(watched: Watched) -> None:
    """All who join one thread are woken by its end; hundreds of short threads are joined without a word."""
    outcome = watched(
        """
        from scene import *
        go_on = threading.Event()
        thread = go("one", go_on.wait)
        joiners = [go(f"j{n}", thread.join) for n in range(10)]
        for joiner in joiners:
            waiting(joiner, "end of thread")
        go_on.set()
        for joiner in joiners:
            joiner.join()
        for n in range(300):
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()
            assert not thread.is_alive()
        """
    )
    assert outcome.findings == []
    assert outcome.said == sorted([f"j{n}: went on" for n in range(10)] + ["one: went on"])


def test_threads_started_before_install(watched: Watched) -> None:
    """A thread from before install is known once it waits for something watched; until then its join is left alone."""
    outcome = watched(
        """
        import threading, time
        lock = threading.RLock()
        begin = []
        def worker():
            while not begin:
                time.sleep(0.01)
            attempt(wait)
        def wait():
            stop.wait()  # waits
        thread = threading.Thread(target=worker, name="worker")
        thread.start()
        from scene import *
        stop = threading.Event()
        begin.append(1)
        waiting(thread, "Event")
        def main():
            thread.join()  # joins
        attempt(main)
        """
    )
    (found,) = outcome.deadlocks
    assert found[:2] == ("asleep", "worker")
    assert found.waits == {
        "MainThread": ("end of thread 'worker'", "joins"),
        "worker": ("Event 'stop'", "waits"),
    }
    assert outcome.said == ["MainThread: went on", "worker: DeadlockError at waits"]


def test_joining_the_main_thread(watched: Watched) -> None:
    """A thread may wait for the main thread to be done: at exit that is over, and nothing is found."""
    outcome = watched(
        """
        from scene import *
        go("follower", threading.main_thread().join)
        time.sleep(0.1)
        say("last line")
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["follower: went on", "last line"]


def test_the_main_thread_joins_its_joiner(watched: Watched) -> None:
    """The main thread joins a thread that joins the main thread: a cycle, whoever begins."""
    outcome = watched(
        f"""
        from scene import *
        {DAEMON}
        def follow():
            waiting(threading.main_thread(), "end of thread")
            threading.main_thread().join()  # joins main
        def main():
            go("follower", follow).join()  # joins the follower
        attempt(main)
        def follow_first():
            threading.main_thread().join()  # joins main
        def main_last():
            thread = go("follower", follow_first)
            waiting(thread, "end of thread")
            thread.join()  # joins the follower
        attempt(main_last)
        """,
        timeout=8,
    )
    assert [found[:2] for found in outcome.deadlocks] == [("cycle", "follower"), ("cycle", "MainThread")]
    assert outcome.said == [
        "MainThread: DeadlockError at joins the follower",
        "MainThread: went on",
        "follower: DeadlockError at joins main",
        "follower: went on",
    ]
