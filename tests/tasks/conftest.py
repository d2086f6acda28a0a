"""Programs with event loops, in a fresh interpreter under ``install()``, and what was found in them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from textwrap import dedent
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunPython

BEGIN = '''
import asyncio, functools, os, queue, signal, socket, sys, threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import lockwatch

lockwatch.install(cpu=False, report="report.json", **eval(os.environ.get("SETTINGS", "{}")))


def noise():
    """A thread that is always awake, knows nothing and ends no wait: with it only what is certain can be found."""
    names = {"time": time}
    exec("def body():\\n while True: time.sleep(0.02)", names)
    threading.Thread(target=names["body"], daemon=True, name="noise").start()


async def attempt(body):
    """Await, and say how it ended."""
    name = asyncio.current_task().get_name()
    try:
        await body
    except lockwatch.DeadlockError:
        print(f"{name}: DeadlockError", flush=True)
    except BaseExceptionGroup as group:
        assert group.subgroup(lockwatch.DeadlockError), group
        print(f"{name}: DeadlockError", flush=True)
    except asyncio.CancelledError:
        print(f"{name}: cancelled", flush=True)
        raise
    else:
        print(f"{name}: went on", flush=True)


def go(name, body):
    """Start a task that does so."""
    return asyncio.create_task(attempt(body), name=name)


async def moment():
    """Let all others run until they wait."""
    for _ in range(10):
        await asyncio.sleep(0)


def side_loop(name="side"):
    """Start a thread that runs an event loop."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name=name, daemon=True).start()
    return loop
'''


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a program: what it said, sorted; its findings; and its standard error."""

    said: list[str]
    findings: list[dict[str, Any]]
    stderr: str

    def deadlocks(self) -> list[tuple[str, dict[str, str]]]:
        """Return for each deadlock its cause and what each party waits for, by the party's name."""
        return [
            (
                one["cause"],
                {party["name"]: party["waits_for"]["kind"] for party in one["parties"] if party["waits_for"]},
            )
            for one in self.findings
            if one["kind"] == "deadlock"
        ]


class Loops(Protocol):
    """The type of the ``loops`` fixture; see there."""

    def __call__(
        self, program: str, *, settings: dict[str, object] | None = None, status: int = 0, timeout: float = 20
    ) -> Outcome: ...


@pytest.fixture
def loops(run_python: RunPython, tmp_path: Path) -> Loops:
    """Runs a program after `BEGIN`; fails if its exit status is not ``status``, or if it hangs."""

    def run(
        program: str, *, settings: dict[str, object] | None = None, status: int = 0, timeout: float = 20
    ) -> Outcome:
        done = run_python(BEGIN + dedent(program), timeout=timeout, env={"SETTINGS": repr(settings or {})})
        assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
        report = tmp_path / "report.json"
        found: list[dict[str, Any]] = json.loads(report.read_text())["findings"] if report.exists() else []
        assert all(one["kind"] != "internal" for one in found), found
        return Outcome(sorted(done.stdout.splitlines()), found, done.stderr)

    return run
