"""What other threads run: what is read of it, and that reading it harms nobody while they run."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import pytest

from lockwatch._core import frames

if TYPE_CHECKING:
    from tests.conftest import RunPython
    from tests.detector.conftest import Crew

has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()

COME_AND_GO = """
    import sys, threading, time
    from lockwatch._core import fastpath, frames

    def deep(depth):
        return deep(depth - 1) if depth else 1

    def numbers():
        for _ in range(20):
            yield deep(60)

    def start():
        while reading:
            threads = [threading.Thread(target=list, args=(numbers(),)) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    reading = [True]
    starters = [threading.Thread(target=start) for _ in range(2)]
    for thread in starters:
        thread.start()
    end = time.monotonic() + 3
    levels = 0
    while time.monotonic() < end:
        with frames.standing_still():
            for stack in frames.stacks().values():
                for level in stack:
                    levels += isinstance(level.f_code.co_name, str) and level.f_globals is globals()
    reading.clear()
    for thread in starters:
        thread.join()
    print("read" if levels else "never")
    """


def test_what_a_thread_runs(crew: Crew) -> None:
    """All levels of all threads, innermost first, each with its code and its module's variables."""
    there, leave = threading.Event(), threading.Event()

    def outer() -> None:
        inner()

    def inner() -> None:
        there.set()
        leave.wait(10)

    job = crew.start(outer)
    assert there.wait(10)
    with frames.standing_still():
        found = {
            ident: [(level.f_code, level.f_globals) for level in stack]
            for ident, stack in frames.stacks().items()
        }
    leave.set()
    crew.join()
    codes = [code for code, _ in found[job.thread.ident or 0]]
    assert codes.index(inner.__code__) + 1 == codes.index(outer.__code__)
    assert dict(found[job.thread.ident or 0])[inner.__code__] is globals()
    mine = [code for code, _ in found[threading.get_ident()]]
    assert test_what_a_thread_runs.__code__ in mine


@pytest.mark.skipif(not has_gil and frames.read_stacks is None, reason="needs the C twin, without a GIL")
def test_threads_come_and_go_meanwhile(run_python: RunPython) -> None:
    """Stacks can be read while threads run, begin and end: without a GIL, following their frames crashes in seconds."""
    done = run_python(COME_AND_GO, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "read\n"
