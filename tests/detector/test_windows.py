"""Moments between two instructions in which something else happens: a fork, a collection, another claim."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from lockwatch._core import agents, detector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockwatch._core.waits import Wait
    from tests.conftest import RunPython
    from tests.detector.conftest import Stubs


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_while_a_waiter_becomes_the_owner(run_python: RunPython) -> None:
    """A waiter that has just got the lock, at the moment of a fork, is in no queue of the child: nobody would wake it up.

    (A lock that is freed in the child would wake that waiter, which is not there, and not the one behind it.)
    """
    done = run_python("""
        import os, sys, threading, time
        import lockwatch
        from lockwatch._core import mutex

        lock = lockwatch.Lock()
        between, go = threading.Event(), threading.Event()
        withdraw = mutex.withdraw

        def stop(wait):
            withdraw(wait)
            if threading.current_thread().name == "waiter" and lock._state.get(0) is wait.hold:
                between.set()
                go.wait()

        def wait():
            with lock:
                pass

        mutex.withdraw = stop
        lock.acquire()
        thread = threading.Thread(target=wait, name="waiter")
        thread.start()
        while not lock._queue:
            time.sleep(0.001)
        lock.release()
        between.wait()
        child = os.fork()
        if child == 0:
            os._exit(len(lock._queue))
        left = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        go.set()
        thread.join()
        print(left)
    """)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_collection_while_threads_are_listed(run_python: RunPython) -> None:
    """Listing the threads while a finalizer gives up the GIL and other threads start does not stop the interpreter.

    Before CPython 3.11.9 ``sys._current_frames()`` holds the lock that a starting thread wants, and may collect garbage.
    """
    done = run_python(
        """
        import gc, os, threading, time
        import lockwatch
        from lockwatch.locks import sight

        class Garbage:
            def __init__(self):
                self.me = self
            def __del__(self):
                time.sleep(0)

        def start_threads():
            while True:
                thread = threading.Thread(target=int)
                thread.start()
                thread.join()

        lock = lockwatch.Lock()
        threading.Thread(target=start_threads, daemon=True).start()
        end = time.monotonic() + 2
        turn = 0
        while time.monotonic() < end:
            turn += 1
            Garbage()
            gc.set_threshold(1 + turn % 30)  # somewhere in the following call
            sight.in_sight(lock, set())
        os._exit(0)
        """,
        timeout=8,
    )
    assert done.returncode == 0, done.stderr


def test_claim_that_is_made_while_others_are_forgotten(stubs: Stubs) -> None:
    """A claim made for a wait that was published after the waits were read stays: its deadlock would be said twice."""
    gone, claimed = stubs.agent(), stubs.agent()

    class Reading:
        """An agent that is read last, and meanwhile somebody else waits and claims."""

        @property
        def waits(self) -> Iterator[Wait]:
            detector._claims[stubs.wait(claimed, "all", gone).serial] = detector._Claim()
            return iter(())

    old = stubs.wait(gone, "all", claimed)
    gone.waits.clear()
    with mock.patch.object(agents, "living", lambda: [claimed, Reading()]):
        detector._claims[old.serial] = detector._Claim()
        detector._forget_claims()
    assert list(detector._claims) == [claimed.waits[0].serial]
