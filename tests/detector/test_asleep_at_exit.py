"""Asleep at interpreter exit: main has nothing left to do but to wait for threads, and these never end."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunPython

Json = dict[str, Any]

EXIT = """
import sys, threading, time
import lockwatch
lockwatch.install(cpu=False, report=sys.argv[1])

def new_signal():
    lock = threading.Lock()
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    lock.acquire()
    return lock
"""


def at_exit(run_python: RunPython, tmp_path: Path, body: str) -> list[Json]:
    """Runs a program with ``install()`` that falls off its end, and returns its findings."""
    report = tmp_path / "report.json"
    done = run_python(EXIT + dedent(body), str(report))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "last line\n"
    findings: list[Json] = json.loads(report.read_text())["findings"] if report.exists() else []
    return findings


THREADS_FIRST = """
    locks = [new_signal() for _ in range(2)]
    threads = [threading.Thread(target=lock.acquire, name=f"t{n}") for n, lock in enumerate(locks)]
    for thread, lock in zip(threads, locks):
        thread.start()
        while not lock._queue:
            time.sleep(0.001)
    print("last line")
    """
THREADS_LATER = """
    def body(lock):
        while threading.main_thread().is_alive() and not waiting():
            time.sleep(0.001)
        lock.acquire()

    def waiting():
        import lockwatch._core.agents as agents
        return any(agent.main and agent.waits for agent in agents.living())

    for n in range(2):
        threading.Thread(target=body, args=(new_signal(),), name=f"t{n}").start()
    print("last line")
    """


@pytest.mark.parametrize("body", [THREADS_FIRST, THREADS_LATER], ids=["threads first", "main first"])
def test_main_waits_for_threads_that_never_end(body: str, run_python: RunPython, tmp_path: Path) -> None:
    """A program whose main thread is done, and whose other threads all sleep, ends with a finding instead of hanging.

    Main is a party but not the victim; each of the threads is told, one after the other.
    """
    found = at_exit(run_python, tmp_path, body)
    assert [one["cause"] for one in found] == ["asleep", "asleep"]
    first = found[0]["parties"]
    assert {party["name"] for party in first} == {"MainThread", "t0", "t1"}
    victims = [party["name"] for one in found for party in one["parties"] if party["victim"]]
    assert sorted(victims) == ["t0", "t1"]


def test_at_exit_somebody_may_still_do_it(run_python: RunPython, tmp_path: Path) -> None:
    """Twin: threads that come to their end while main waits for them, helped by one that sleeps, are left in peace."""
    found = at_exit(
        run_python,
        tmp_path,
        """
    locks = [new_signal() for _ in range(3)]

    def body(number):
        locks[number].acquire()
        if number:
            locks[number - 1].release()

    def helper():
        time.sleep(0.2)
        locks[2].release()

    for number in range(3):
        threading.Thread(target=body, args=(number,)).start()
    threading.Thread(target=helper).start()
    print("last line")
    """,
    )
    assert found == []


def test_at_exit_a_daemon_that_sleeps_may_do_it(run_python: RunPython, tmp_path: Path) -> None:
    """Twin: main does not wait for a daemon, but the daemon may give the signal while main waits for the others."""
    found = at_exit(
        run_python,
        tmp_path,
        """
    lock = new_signal()

    def daemon():
        time.sleep(0.2)
        lock.release()

    threading.Thread(target=daemon, daemon=True).start()
    threading.Thread(target=lock.acquire).start()
    print("last line")
    """,
    )
    assert found == []


def test_at_exit_a_cycle_is_a_cycle(run_python: RunPython, tmp_path: Path) -> None:
    """Threads in a closed ring at the end of the program are that, and main, which waits for them, is no party."""
    found = at_exit(
        run_python,
        tmp_path,
        """
    a, b = threading.Lock(), threading.Lock()
    gate = threading.Barrier(2)

    def body(one, two):
        with one:
            gate.wait()
            time.sleep(0.05)
            try:
                with two:
                    pass
            except lockwatch.DeadlockError:
                pass

    threading.Thread(target=body, args=(a, b), name="ab").start()
    threading.Thread(target=body, args=(b, a), name="ba").start()
    print("last line")
    """,
    )
    assert [one["cause"] for one in found] == ["cycle"]
    assert {party["name"] for party in found[0]["parties"]} == {"ab", "ba"}
