"""Children by fork: what they inherit, and forks at awkward moments; what they can never get is in test_orphans."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.waits.conftest import Watched

FORK = """
def in_child(body, *args):
    child = os.fork()
    if not child:
        threading.current_thread().name = "child"
        attempt(body, *args)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_waits_are_forgotten(watched: Watched) -> None:
    """A child knows one thread: waits of the others are gone from its tables, and don't count as asleep with it."""
    outcome = watched(
        f"""
        from scene import *
        {FORK.replace(chr(10), chr(10) + "        ")}
        lock, ready, jobs, simple = threading.Lock(), threading.Event(), queue.Queue(), queue.SimpleQueue()
        changed = threading.Condition()
        def on_condition():
            with changed:
                changed.wait()
        lock.acquire()
        sleeper_thread = threading.Thread(target=ready.wait)
        sleeper_thread.start()
        crew = [
            (go("lock", lock.acquire), "Lock"), (go("event", ready.wait), "Event"), (go("get", jobs.get), "Queue"),
            (go("simple", simple.get), "SimpleQueue"), (go("condition", on_condition), "Condition"),
            (go("join", sleeper_thread.join), "end of thread"),
        ]
        for thread, kind in crew:
            waiting(thread, kind)
        def look():
            assert not lockwatch.waits(), lockwatch.waits()
            assert len(agents.living()) == 1
            lock.release()
            assert lock.acquire(timeout=5)
            jobs.put(1)
            assert jobs.get() == 1
            simple.put(2)
            assert simple.get() == 2
            threading.Thread(target=ready.set).start()
            assert ready.wait()
            sleeper_thread.join()
        in_child(look)
        assert len(lockwatch.waits()) == 7, lockwatch.waits()
        lock.release(), ready.set(), jobs.put(1), simple.put(1)
        with changed:
            changed.notify()
        """
    )
    assert outcome.findings == []
    assert outcome.said == sorted(
        [
            "child: went on",
            *(f"{n}: went on" for n in ("lock", "event", "get", "simple", "condition", "join")),
        ]
    )


def test_asleep_in_a_child(watched: Watched) -> None:
    """A child waits for an event that a thread of its parent would set: nobody is left there who could."""
    outcome = watched(
        f"""
        from scene import *
        {FORK.replace(chr(10), chr(10) + "        ")}
        ready = threading.Event()
        thread = threading.Timer(1.0, ready.set)
        thread.start()
        def wants():
            ready.wait()  # waits
        in_child(wants)
        attempt(wants)
        """
    )
    (found,) = outcome.deadlocks
    assert found == ("asleep", "child", {"child": ("Event 'ready'", "waits")})
    assert outcome.said == ["MainThread: went on", "child: DeadlockError at waits"]


def test_threads_of_a_child(watched: Watched) -> None:
    """A child's own threads are watched like any: cycles are found there, by the child's process."""
    outcome = watched(
        f"""
        from scene import *
        {FORK.replace(chr(10), chr(10) + "        ")}
        other = threading.Thread(target=time.sleep, args=(0.5,))
        other.start()
        lock = threading.Lock()
        def body():
            with lock:
                thread = go("worker", wants)
                waiting(thread, "Lock")
                thread.join()  # joins
        def wants():
            with lock:  # wants
                pass
        in_child(body)
        say(len(lockwatch.recorded_findings()))
        """
    )
    (found,) = outcome.deadlocks
    assert found[:2] == ("cycle", "child")
    assert outcome.said[:2] == ["0", "child: DeadlockError at joins"]  # os._exit does not wait for the worker


@pytest.mark.parametrize("fork", ["os.fork()", "os.forkpty()[0]"])
def test_no_warning_about_our_own_thread(watched: Watched, fork: str) -> None:
    """A program of one thread that forks while the watchdog runs is not warned of threads that it does not have."""
    if "pty" in fork:
        try:
            for descriptor in os.openpty():
                os.close(descriptor)
        except OSError as error:
            pytest.skip(f"no pseudo-terminals here: {error}")
    outcome = watched(
        f"""
        from scene import *
        from lockwatch._core import parking, watchdog
        parking.LONG_NS = 5_000_000
        for _ in range(30):
            assert not threading.Event().wait(0.05)
            until(watchdog.running)
            child = {fork}
            if not child:
                os._exit(0 if not watchdog.running() and threading.active_count() == 1 else 1)
            assert os.waitpid(child, 0)[1] == 0
        say("done")
        """,
        interpreter_args=("-W", "error"),
    )
    assert outcome.findings == []
    assert outcome.said == ["done"]


def test_in_the_middle_of_a_detection(watched: Watched) -> None:
    """A fork while another thread writes its finding: the child finds its own deadlocks, the parent's goes on."""
    outcome = watched(
        f"""
        from scene import *
        import _thread
        from lockwatch._core import detector, hooks
        {FORK.replace(chr(10), chr(10) + "        ")}
        inside, go_on = [], _thread.allocate_lock()
        go_on.acquire()
        report = hooks.report
        def slowly(knot):
            inside.append(1)
            go_on.acquire()
            return report(knot)
        hooks.report = slowly
        lock = threading.Lock()
        def itself():
            with lock:
                with lock:  # itself
                    pass
        thread = go("one", itself)
        until(lambda: inside)
        hooks.report = report
        own = threading.Lock()
        def child():
            with own:
                with own:  # in the child
                    pass
        in_child(child)
        go_on.release()
        thread.join()
        detector._forget_claims()
        assert not detector._claims
        """
    )
    assert [(found.cause, found.victim) for found in outcome.deadlocks] == [
        ("self", "child"),
        ("self", "one"),
    ]
    assert outcome.said == ["child: DeadlockError at in the child", "one: DeadlockError at itself"]


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)() and sys.version_info < (3, 14),
    reason="3.13 without a GIL: what object another thread has locked at a fork stays locked in the child",
)
@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="CPython: a child inherits the locks inside dictionaries that other threads were in, and hangs on them",
)
def test_many_forks_under_load(watched: Watched) -> None:
    """Forks while other threads wait and wake all the time: every child can use what it makes, and nothing is found."""
    outcome = watched(
        f"""
        from scene import *
        {FORK.replace(chr(10), chr(10) + "        ")}
        stop, jobs, simple, lock = [], queue.Queue(2), queue.SimpleQueue(), threading.Lock()
        def produce():
            while not stop:
                jobs.put(1), simple.put(1)
            jobs.put(None), simple.put(None)
        def consume(source):
            while source.get() is not None:
                with lock:
                    pass
        crew = [go("p", produce), go("c", consume, jobs), go("s", consume, simple)]
        def child():
            mine, changed = queue.Queue(1), threading.Condition()
            threading.Thread(target=mine.put, args=(1,)).start()
            mine.get()
            with changed:
                changed.wait(0.001)
        for _ in range(20):
            in_child(child)
        stop.append(1)
        for thread in crew:
            thread.join()
        """
    )
    assert outcome.findings == []
    assert outcome.said == sorted(["c: went on", "p: went on", "s: went on"] + ["child: went on"] * 20)


def test_in_a_signal_handler_that_interrupts_a_get(watched: Watched) -> None:
    """A child made by a signal handler inside a wait still stands in that wait, and is woken in it."""
    outcome = watched(
        """
        from scene import *
        simple, kids = queue.SimpleQueue(), []
        def fork(*_):
            child = os.fork()
            if child:
                kids.append(child)
            else:
                threading.Timer(0.05, simple.put, [2]).start()
        other = go("other", simple.get, daemon=True)
        waiting(other, "SimpleQueue")
        simple.put(0)
        other.join()
        other = go("other", simple.get, daemon=True)
        signal.signal(signal.SIGALRM, fork)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        waiting(other, "SimpleQueue")
        threading.Timer(1.0, lambda: (simple.put(1), simple.put(1))).start()
        say("got", simple.get())
        if not kids:
            os._exit(0)
        assert os.waitpid(kids[0], 0)[1] == 0
        """
    )
    assert outcome.findings == []
    assert [line for line in outcome.said if line.startswith("got")] == ["got 1", "got 2"]
