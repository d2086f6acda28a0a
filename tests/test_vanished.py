"""Threads that are gone without a word: their end is seen from outside, and that of none that is there."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import RunPython

PRELUDE = """
import threading, time
import lockwatch
from lockwatch._core import agents, parking

lockwatch.install(cpu=False, reacquire_grace=0.05)
parking.LONG_NS = 30_000_000
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()  # somebody is awake


def until(condition):
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.002)


def kinds():
    return sorted(f"{found.kind} {found.cause}" for found in lockwatch.recorded_findings())
"""


def run(run_python: RunPython, program: str) -> str:
    """Runs a program after the prelude and returns what it prints."""
    done = run_python(PRELUDE + dedent(program), timeout=30)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_a_thread_that_is_gone_without_a_word(run_python: RunPython) -> None:
    """A thread's end is seen though somebody keeps its storage, which should say so: its joiner goes on, a lock is lost.

    Without a GIL a finalizer can be late for that reason, or never come.
    """
    program = """
        lock, kept = threading.Lock(), []
        def owner():
            kept.append(agents._local.__dict__["sentinel"])
            lock.acquire()
            main = agents.by_ident[threading.main_thread().ident]
            until(lambda: main.waits and main.waits[-1].resource.kind == "end of thread")
        thread = threading.Thread(target=owner)
        thread.start()
        thread.join()
        agent = kept[0].agent
        assert agent.ended
        try:
            lock.acquire()
        except lockwatch.DeadlockError as error:
            print(error.finding.cause)
        before = kinds()
        kept.clear()  # now it says so: nothing happens twice
        assert agent.serial not in agents.dying
        assert kinds() == before
        """
    assert run(run_python, program) == "orphan\n"


def test_a_thread_that_is_there_is_not_taken_for_gone(run_python: RunPython) -> None:
    """A thread that does something else for long, outside of Python, is not ended by the watchdog's looks."""
    program = """
        looks, end_the_vanished = [], agents.end_the_vanished
        def counted():
            end_the_vanished()
            looks.append(1)
        agents.end_the_vanished = counted
        event, ready = threading.Event(), threading.Event()
        def busy():
            agent = agents.current()
            ready.set()
            time.sleep(1)
            until(lambda: len(looks) >= 3)
            print("ended" if agent.ended else "there")
            event.set()
        thread = threading.Thread(target=busy)
        thread.start()
        ready.wait()
        event.wait()
        thread.join()
        print(kinds())
        """
    assert run(run_python, program) == "there\n[]\n"
