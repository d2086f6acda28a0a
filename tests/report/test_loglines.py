"""Lines of the log: handlers run beside the program, and their locks never become a deadlock of ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunPython

INVERSION = r"""
import logging, sys, threading

app_lock = threading.Lock()


class Handler(logging.Handler):
    def emit(self, record):
        with app_lock:
            sys.stdout.write(f"{record.name} {record.threadName}\n")


logging.getLogger().addHandler(Handler())
turn = threading.Event()


def one():
    logging.warning("first the handler's lock, then the application's")
    turn.set()


def two():
    turn.wait()
    with app_lock:
        with logging.getLogger().handlers[0].lock:
            pass


threads = [threading.Thread(target=one, name="one"), threading.Thread(target=two, name="two")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.stdout.write(f"{[thread.name for thread in threading.enumerate()]}\n")
"""


def found(folder: Path) -> list[dict[str, Any]]:
    """The findings in the report."""
    findings: list[dict[str, Any]] = json.loads((folder / "report.json").read_text())["findings"]
    return findings


def watched(run_python: RunPython, folder: Path, program: str, *options: str) -> tuple[list[str], list[str]]:
    """Run it; returns its output by lines, and the kinds of its findings."""
    (folder / "watched.py").write_text(program)
    run = run_python(
        None, "-m", "lockwatch", "run", "--report", "report.json", *options, "watched.py", cwd=folder
    )
    return run.stdout.splitlines(), [finding["kind"] for finding in found(folder)]


def test_a_handler_wants_what_the_finder_holds(run_python: RunPython, tmp_path: Path) -> None:
    """An order of locks is found by who holds them: the handler gets them when they are free, and nothing else is found."""
    lines, kinds = watched(run_python, tmp_path, INVERSION)
    assert kinds == ["lock-order"]
    assert sorted(lines) == ["['MainThread']", "lockwatch.lock-order two", "root one"]


def test_a_handler_wants_it_in_observe_mode(run_python: RunPython, tmp_path: Path) -> None:
    """Where nothing is ever raised, a handler on top of the lock that it wants would hang the program."""
    lines, kinds = watched(run_python, tmp_path, INVERSION, "--mode", "observe")
    assert kinds == ["lock-order"]
    assert sorted(lines) == ["['MainThread']", "lockwatch.lock-order two", "root one"]


def test_a_handler_wants_what_the_victim_holds(run_python: RunPython, tmp_path: Path) -> None:
    """The victim of a deadlock holds the lock that the handler wants: one deadlock is found, and its line is written."""
    program = (
        INVERSION.partition("def one")[0]
        + """
from lockwatch import DeadlockError

other = threading.RLock()
both = threading.Barrier(2)


def nest(outer, inner):
    with outer:
        both.wait()
        try:
            with inner:
                pass
        except DeadlockError:
            pass


threads = [threading.Thread(target=nest, args=pair) for pair in ((app_lock, other), (other, app_lock))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
    )
    lines, kinds = watched(run_python, tmp_path, program)
    assert kinds == ["deadlock"]
    assert len(lines) == 1
    assert lines[0].startswith("lockwatch.deadlock Thread-")


def test_a_handler_that_deadlocks_with_the_finder(run_python: RunPython, tmp_path: Path) -> None:
    """A writer that is part of a circle gives its line up; the program's own thread is not the victim of it."""
    program = """
import logging, threading, time

app_lock, a, b = threading.Lock(), threading.Lock(), threading.Lock()
in_handler = threading.Event()


class Handler(logging.Handler):
    def emit(self, record):
        if record.name == "lockwatch.lock-order":
            in_handler.set()
            with app_lock:
                print("line")


logging.getLogger().addHandler(Handler())
turn = threading.Event()


def one():
    with a, b:
        pass
    turn.set()


def two():
    turn.wait()
    with app_lock:
        with b, a:
            pass
        in_handler.wait()
        logging.warning("wants the lock of the handler, which the writer has")
        print("went on")


threads = [threading.Thread(target=one), threading.Thread(target=two)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
    lines, kinds = watched(run_python, tmp_path, program)
    assert kinds == ["lock-order"]
    assert lines == ["went on"]


def test_everybody_sleeps_behind_a_line(run_python: RunPython, tmp_path: Path) -> None:
    """A line keeps the handler from the program's own records: it is the line that is given up, not a wait of the program."""
    program = """
import logging, threading

app_lock, a, b = threading.Lock(), threading.Lock(), threading.Lock()


class Handler(logging.Handler):
    def emit(self, record):
        if record.name.startswith("lockwatch"):
            with app_lock:
                print("line")


logging.getLogger().addHandler(Handler())
turn, done = threading.Event(), threading.Event()


def one():
    with a, b:
        pass
    turn.set()


def two():
    turn.wait()
    with b, a:
        pass
    logging.warning("needs nothing but the handler")
    done.set()


threads = [threading.Thread(target=one), threading.Thread(target=two)]
with app_lock:
    for thread in threads:
        thread.start()
    done.wait()
print("went on")
"""
    lines, kinds = watched(run_python, tmp_path, program)
    assert kinds == ["lock-order"]
    assert lines == ["went on"]


def test_a_deadlock_of_the_program_in_its_own_logging(run_python: RunPython, tmp_path: Path) -> None:
    """The twin: what the program logs itself is its own business, and found."""
    program = (
        INVERSION.partition("turn =")[0]
        + """
with app_lock:
    logging.warning("x")
"""
    )
    lines, kinds = watched(run_python, tmp_path, program)
    assert kinds == ["deadlock"]
    assert lines == ["lockwatch.deadlock MainThread"]
