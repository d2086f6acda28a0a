"""Waits under waits: a signal handler that waits for a lock while its thread already does. In interpreters of their own."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import RunPython

PRELUDE = """
import signal, sys, threading, time
import lockwatch
from lockwatch import config
config.configure(cpu=False)

def say(*words):
    "Print one line in one call, so that the lines of two threads do not mix."
    sys.stdout.write(" ".join(map(str, words)) + "\\n")

def until(condition):
    while not condition():
        time.sleep(0.001)

def start(body, *args, name=None):
    thread = threading.Thread(target=body, args=args, name=name, daemon=True)
    thread.start()
    return thread

def holder(lock, end):
    with lock:
        end.wait()

def interrupt(handler):
    "Have main's wait for lock a, once it sleeps in it, interrupted by a handler."
    def send():
        until(lambda: a._queue and sys._current_frames()[main].f_code.co_name == "park")
        signal.pthread_kill(main, signal.SIGUSR1)
    main = threading.get_ident()
    signal.signal(signal.SIGUSR1, handler)
    start(send)

a, b, c = (lockwatch.Lock(name=name) for name in "abc")
end = threading.Event()
"""


def printed(run_python: RunPython, body: str) -> list[str]:
    """Runs a program after the prelude and returns the lines that it prints."""
    done = run_python(PRELUDE + dedent(body), timeout=10)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_handler_waits_and_the_wait_goes_on(run_python: RunPython) -> None:
    """Twin: a handler that waits for another lock delays the wait that it interrupted, and nothing else."""
    lines = printed(
        run_python,
        """
        ends = threading.Event(), threading.Event()
        start(holder, a, ends[0])
        start(holder, c, ends[1])
        until(lambda: a.locked() and c.locked())

        def handler(*args):
            start(lambda: (until(lambda: c._queue), ends[1].set()))
            with c:
                say("handler", [row.rule for row in lockwatch.waits()])
            ends[0].set()

        interrupt(handler)
        with a:
            say("main")
        assert lockwatch.recorded_findings() == ()
        """,
    )
    assert lines == ["handler ['all']", "main"]


def test_handler_holds_what_others_want(run_python: RunPython) -> None:
    """Twin: a handler that took a lock on top of a wait is awake, and will release it: whoever wants it is not stuck.

    The lock was taken after the wait began, so the wait is not what its owner does now.
    """
    lines = printed(
        run_python,
        """
        def other():
            with a:
                until(b.locked)
                with b:
                    say("other went on")

        thread = start(other, name="other")
        until(a.locked)

        def handler(*args):
            with b:
                until(lambda: b._queue and sys._current_frames()[thread.ident].f_code.co_name == "park"
                      or not thread.is_alive())

        interrupt(handler)
        with a:
            say("main")
        thread.join()
        assert lockwatch.recorded_findings() == (), lockwatch.last_deadlock().message
        """,
    )
    assert lines == ["other went on", "main"]


def test_handler_wants_what_its_own_thread_holds(run_python: RunPython) -> None:
    """A handler that takes a Lock of the code it interrupted is a deadlock of that thread with itself."""
    lines = printed(
        run_python,
        """
        start(holder, a, end)
        until(a.locked)

        def handler(*args):
            with b:
                say("got it")

        interrupt(handler)
        try:
            with b, a:
                say("got it")
        except lockwatch.DeadlockError as error:
            say(error.finding.cause, error.finding.cycle[1])
        assert not b.locked() and a.statistics().waiters == 0
        """,
    )
    assert lines == ["self Lock 'b'"]


def test_handler_closes_a_cycle(run_python: RunPython) -> None:
    """A handler's wait can close a ring with what its thread holds: the error comes out of the handler."""
    lines = printed(
        run_python,
        """
        def other():
            with c:
                until(b.locked)
                with b:
                    say("other went on")

        thread = start(other, name="other")
        start(holder, a, end)
        until(lambda: a.locked() and c.locked())

        def handler(*args):
            until(lambda: b._queue)
            with c:
                say("got it")

        interrupt(handler)
        try:
            with b, a:
                say("got it")
        except lockwatch.DeadlockError as error:
            say(error.finding.cause, sorted(party.name for party in error.finding.parties))
        thread.join()
        """,
    )
    assert sorted(lines) == ["cycle ['MainThread', 'other']", "other went on"]


def test_cycle_that_closes_under_a_handler(run_python: RunPython) -> None:
    """A ring that closed while a handler waited on top of one of its waits is found when the handler returns.

    When the other thread looked, main was in the handler's wait, which could end; main must look again afterwards.
    """
    lines = printed(
        run_python,
        """
        end_of_c = threading.Event()

        def other():
            with a:
                until(lambda: [row for row in lockwatch.waits() if row.waits_for.name == "c"])
                with b:
                    say("other went on")

        def helper():
            until(lambda: b._queue)
            time.sleep(0.05)
            end_of_c.set()

        start(holder, c, end_of_c)
        thread = start(other, name="other")
        start(helper)
        until(lambda: a.locked() and c.locked())

        def handler(*args):
            with c:
                pass

        interrupt(handler)
        try:
            with b, a:
                say("got it")
        except lockwatch.DeadlockError as error:
            say(error.finding.cause, sorted(party.name for party in error.finding.parties))
        thread.join()
        """,
    )
    assert sorted(lines) == ["cycle ['MainThread', 'other']", "other went on"]
