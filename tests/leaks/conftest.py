"""Programs that leave locks behind or misuse them, in a fresh interpreter, and what was found by its end."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunPython

Json = dict[str, Any]

BEGIN = """
import asyncio, gc, os, queue, signal, sys, threading, time

import lockwatch
from lockwatch._core import leftovers, watchdog

lockwatch.install(cpu=False, report="report.json", **eval(os.environ.get("SETTINGS", "{}")))


def fail(*_):
    raise LookupError("not for the report")


def run(body, *args, name=None):
    thread = threading.Thread(target=body, args=args, name=name or getattr(body, "__name__", None))
    thread.start()
    thread.join()


def until(condition):
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.001)


def found(kind):
    return [one for one in lockwatch.recorded_findings() if one.kind == kind]


threading.excepthook = lambda args: None
"""


class Findings(Protocol):
    """The type of the ``findings`` fixture; see there."""

    def __call__(
        self, program: str, *, settings: dict[str, object] | None = None, timeout: float = 30
    ) -> list[Json]: ...


@pytest.fixture
def findings(run_python: RunPython, tmp_path: Path) -> Findings:
    """Runs a program, which begins with `BEGIN`, and returns its findings; fails if it hangs or ends with an error."""

    def run(program: str, *, settings: dict[str, object] | None = None, timeout: float = 30) -> list[Json]:
        done = run_python(
            BEGIN + dedent(program),
            timeout=timeout,
            env={"SETTINGS": repr(settings or {})},
            interpreter_args=["-W", "ignore::DeprecationWarning"],  # fork beside threads, from 3.12 on
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert not done.stderr, done.stderr
        report = tmp_path / "report.json"
        found: list[Json] = json.loads(report.read_text())["findings"] if report.exists() else []
        assert all(one["kind"] != "internal" for one in found), found
        return found

    return run
