"""Twins of what is left alone for a while: when the while is over, the deadlock is found.

The cases in which nothing may be found stand in ``tests/fuzz/test_false_alarms.py``.
"""

from __future__ import annotations

import sys
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import RunPython

BEGIN = """
import contextlib, os, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
import lockwatch
from lockwatch import config
lockwatch.install(cpu=False)
config.configure(reacquire_grace=0.05)
def attempt(function):
    try:
        function()
        os.write(1, b"went on\\n")
    except lockwatch.DeadlockError as error:
        os.write(1, error.finding.cause.encode() + b"\\n")
def start(*bodies):
    threads = [threading.Thread(target=attempt, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    return threads
def watch(threads):  # awake, and without anything in sight that the others want
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.01)
"""

CASES: dict[str, tuple[str, list[str]]] = {
    "a circle of locks that context managers hold": (
        """
        def scene():
            one, other, meeting = threading.Lock(), threading.Lock(), threading.Barrier(2)
            @contextlib.contextmanager
            def both(first, second):
                with first:
                    meeting.wait()
                    with second:
                        yield
            @contextlib.contextmanager
            def keeping(lock):
                with lock:
                    yield
            def party(first, second):
                with keeping(first):
                    meeting.wait()
                    with second:
                        pass
            return start(lambda: party(one, other), lambda: party(other, one))
        watch(scene())
        """,
        ["cycle", "went on"],
    ),
    "a starved pool, and somebody awake who has it, and never cancels": (
        """
        pool, meeting = ThreadPoolExecutor(2), threading.Barrier(2)
        def outer():
            meeting.wait()
            pool.submit(int).result()
        futures = [pool.submit(attempt, outer) for _ in range(2)]
        while not all(future.done() for future in futures):
            time.sleep(0.01)
        """,
        ["starved", "went on"],
    ),
    "two holders of a semaphore's permits want one more": (
        """
        def scene():
            semaphore, meeting = threading.Semaphore(2), threading.Barrier(2)
            def party():
                with semaphore:
                    meeting.wait()
                    with semaphore:
                        pass
            return start(party, party)
        watch(scene())
        """,
        ["starved", "went on"],
    ),
    "the one holder of a semaphore wants it again": (
        """
        def scene():
            semaphore = threading.Semaphore(1)
            def party():
                with semaphore, semaphore:
                    pass
            return start(party)
        watch(scene())
        """,
        ["self"],
    ),
    "a lock that a thread leaves behind while its destructors run": (
        """
        def scene():
            lock, dying, local = threading.Lock(), threading.Event(), threading.local()
            class Last:
                def __del__(self):
                    dying.set()
                    time.sleep(0.2)
            def owner():
                local.last = Last()
                lock.acquire()
                if dying.is_set():
                    lock.release()
            threading.Thread(target=owner).start()
            dying.wait()
            def late():
                with lock:
                    pass
            return start(late)
        watch(scene())
        """,
        ["orphan"],
    ),
}
ON_TOP = """
    one, other, meeting, inside = threading.Lock(), threading.Lock(), threading.Barrier(2), threading.Event()
    def handler(*_):
        inside.set()
        time.sleep(0.3)
    signal.signal(signal.SIGALRM, handler)
    def party():
        with other:
            meeting.wait()
            inside.wait()
            with one:
                pass
    threads = start(party)
    def main():
        with one:
            meeting.wait()
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with other:
                pass
    attempt(main)
    threads[0].join()
    """


@pytest.mark.parametrize("case", [pytest.param(case, id=case) for case in CASES])
def test_found_late(run_python: RunPython, case: str) -> None:
    """The deadlock is found with other threads awake, and its victim alone gets the error."""
    program, expected = CASES[case]
    done = run_python(BEGIN + dedent(program), timeout=10)
    assert (done.returncode, sorted(done.stdout.split("\n"))) == (0, sorted(["", *expected])), done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs setitimer")
def test_found_when_the_handler_is_done(run_python: RunPython) -> None:
    """A circle that closes while a signal handler runs on top of one of its waits is found when that has returned."""
    done = run_python(BEGIN + dedent(ON_TOP), timeout=10)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["cycle", "on", "went"], done.stderr


def test_short_waits_are_not_published(run_python: RunPython) -> None:
    """What ends within the nap is never in the graph; what lasts longer is, with the time at which it began."""
    done = run_python(
        """
        import threading
        import lockwatch
        from lockwatch._core import blocking
        lockwatch.install(cpu=False)
        published = []
        publish = blocking.publish
        def recording(wait):
            published.append(wait)
            publish(wait)
        blocking.publish = recording
        def once(nap_ns, ready):
            blocking.NAP_NS = nap_ns
            event = threading.Event()
            thread = threading.Thread(target=event.wait)
            thread.start()
            while not ready(event):
                pass
            published_then = len(published)
            event.set()
            thread.join()
            return published_then
        print(once(3600 * 10**9, lambda event: event._cond._waiters), len(published))
        print(once(10**6, lambda event: published) >= 1, all(wait.since_ns for wait in published))
        """
    )
    assert done.stdout.split() == ["0", "0", "True", "True"], done.stderr
