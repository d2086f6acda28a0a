"""Programs that wait, in a fresh interpreter under ``install()``, and what was found in them.

A program begins with ``from scene import *`` (`SCENE`), which installs lockwatch; what it does before that line
exists before ``install()``. A comment at the end of a line gives the line a name: findings and tracebacks are
compared by these names, so a place inside ``threading`` or ``queue`` never passes for the user's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.conftest import RunPython

Json = dict[str, Any]

SCENE = '''
"""What the programs share: threads whose end is told, waiting until one waits, and ways to be awake."""

import _thread, linecache, os, queue, signal, socket, subprocess, sys, threading, time, traceback

import lockwatch
from lockwatch._core import agents

lockwatch.install(cpu=False, report="report.json", **eval(os.environ.get("SETTINGS", "{}")))
DELAY = 0.06


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())


def place(error):
    """The comment of the innermost line of the program that an error went through."""
    here = os.path.dirname(__file__)
    lines = [
        line for line in traceback.extract_tb(error.__traceback__)
        if os.path.dirname(line.filename) == here and line.filename != __file__
    ]
    return (lines[-1].line or "").rpartition("# ")[2] if lines else "nowhere"


def attempt(body, *args):
    """Call, and say how it ended: the victim's name and place, or that it went on."""
    name = threading.current_thread().name
    try:
        body(*args)
    except lockwatch.DeadlockError as error:
        say(f"{name}: DeadlockError at {place(error)}")
    except BaseException as error:
        say(f"{name}: {type(error).__name__}: {error}")
    else:
        say(f"{name}: went on")


def go(name, body, *args, daemon=False):
    """Start a thread that does so."""
    thread = threading.Thread(target=attempt, args=(body, *args), name=name, daemon=daemon)
    thread.start()
    return thread


def until(condition):
    """Sleep until ``condition()`` holds. (Sleeping is being awake.)"""
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.001)


def waits_for(thread, kind):
    agent = agents.by_ident.get(thread.ident)
    return agent is not None and bool(agent.waits) and agent.waits[-1].resource.kind == kind


def waiting(thread, kind):
    """Sleep until the thread waits for a thing of that kind."""
    until(lambda: waits_for(thread, kind))


# Ways to be awake, though perhaps not to run: each calls ``end`` a little later.


def sleeper(end):
    thread = threading.Thread(target=lambda: (time.sleep(DELAY), end()))
    thread.start()
    return thread.join


def timer(end):
    thread = threading.Timer(DELAY, end)
    thread.start()
    return thread.join


def in_a_socket(end):
    here, there = socket.socketpair()
    thread = threading.Thread(target=lambda: (here.recv(1), end()))
    thread.start()
    child = subprocess.Popen(["sh", "-c", f"sleep {DELAY}; echo"], stdout=there)

    def finish():
        thread.join()
        child.wait()
        here.close()
        there.close()

    return finish


def with_a_timeout(end):
    never = threading.Event()
    thread = threading.Thread(target=lambda: (never.wait(DELAY), end()))
    thread.start()
    return thread.join


def in_a_signal_handler(end):
    before = signal.signal(signal.SIGALRM, lambda *_: end())
    signal.setitimer(signal.ITIMER_REAL, DELAY)
    return lambda: signal.signal(signal.SIGALRM, before)


def only_slow(end):
    def work():
        stop = time.monotonic() + DELAY
        while time.monotonic() < stop:
            sum(range(1000))
        end()

    thread = threading.Thread(target=work)
    thread.start()
    return thread.join


def unknown_to_threading(end):
    done = _thread.allocate_lock()
    done.acquire()
    _thread.start_new_thread(lambda: (time.sleep(DELAY), end(), done.release()), ())
    return lambda: until(lambda: not done.locked())


RESCUERS = [sleeper, timer, in_a_socket, with_a_timeout, in_a_signal_handler, only_slow, unknown_to_threading]


def rescues(make, *but):
    """Wait, in the main thread, for what each of the seven ends: ``make()`` returns the wait and what ends it."""
    for rescuer in RESCUERS:
        if rescuer not in but:
            wait, end = make()
            finish = rescuer(end)
            wait()
            finish()
            assert not lockwatch.recorded_findings(), (rescuer, lockwatch.recorded_findings())
    say("rescued")
'''


class Deadlock(NamedTuple):
    """A finding as the tests compare it.

    Attributes:
        cause: "cycle", "asleep", ...
        victim: The name of the thread that gets the error, or None.
        waits: By the name of each party that waits: for what, and the comment of the line.
    """

    cause: str
    victim: str | None
    waits: dict[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a program.

    Attributes:
        said: What it printed, line by line, sorted: threads print in any order.
        deadlocks: The findings of kind "deadlock", oldest first.
        stalls: The messages of the findings of kind "stall".
        findings: All findings, as they are in the report file.
        stderr: What it wrote there.
    """

    said: list[str]
    deadlocks: list[Deadlock]
    stalls: list[str]
    findings: list[Json]
    stderr: str


class Watched(Protocol):
    """The type of the ``watched`` fixture; see there."""

    def __call__(
        self,
        program: str,
        *,
        modules: Mapping[str, str] | None = None,
        settings: Mapping[str, object] | None = None,
        status: int = 0,
        timeout: float = 30,
        interpreter_args: Sequence[str] = (),
    ) -> Outcome: ...


@pytest.fixture
def watched(run_python: RunPython, tmp_path: Path) -> Watched:
    """Runs a program and returns its `Outcome`; fails if its exit status is not ``status``, or if it hangs.

    ``modules`` are written beside it, by name; ``settings`` are those of ``install()``.
    """
    (tmp_path / "scene.py").write_text(SCENE)

    def run(
        program: str,
        *,
        modules: Mapping[str, str] | None = None,
        settings: Mapping[str, object] | None = None,
        status: int = 0,
        timeout: float = 30,
        interpreter_args: Sequence[str] = (),
    ) -> Outcome:
        for name, text in (modules or {}).items():
            (tmp_path / f"{name}.py").write_text(dedent(text).lstrip())
        done = run_python(
            program,
            timeout=timeout,
            env={"SETTINGS": repr(settings or {})},
            interpreter_args=interpreter_args,
        )
        assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
        report = tmp_path / "report.json"
        found: list[Json] = json.loads(report.read_text())["findings"] if report.exists() else []
        assert all(one["kind"] != "internal" for one in found), found
        return Outcome(
            said=sorted(done.stdout.splitlines()),
            deadlocks=[_deadlock(one, tmp_path) for one in found if one["kind"] == "deadlock"],
            stalls=[one["message"] for one in found if one["kind"] == "stall"],
            findings=found,
            stderr=done.stderr,
        )

    return run


def _deadlock(finding: Json, folder: Path) -> Deadlock:
    victims = [party["name"] for party in finding["parties"] if party["victim"]]
    assert len(victims) <= 1, finding
    return Deadlock(
        finding["cause"],
        victims[0] if victims else None,
        {
            party["name"]: (party["waits_for"]["resource"], _comment(party["waits_for"]["where"], folder))
            for party in finding["parties"]
            if party["waits_for"]
        },
    )


def _comment(where: Json | None, folder: Path) -> str:
    """The comment at the end of a line of the program or its modules; of others their place."""
    if where is None:
        return "nowhere"
    file = Path(where["file"])
    if file.parent != folder:
        return f"{file}:{where['line']}"
    line = file.read_text().splitlines()[int(where["line"]) - 1]
    return line.rpartition("# ")[2]
