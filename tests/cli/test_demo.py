"""``lockwatch demo``: a real deadlock, its report, and philosophers who go on eating."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lockwatch.cli

if TYPE_CHECKING:
    from tests.conftest import RunPython

PHILOSOPHERS = Path(lockwatch.cli.__file__).with_name("philosophers.py")
NAMES = ["Hypatia", "Socrates", "Confucius", "Avicenna", "Spinoza"]


def test_demo_works_as_told(run_python: RunPython) -> None:
    """The demo shows the report of a deadlock of five and everybody's meals, and says so with status 0."""
    done = run_python(None, "-m", "lockwatch", "demo", timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "DEADLOCK (cycle of 5)" in done.stdout
    for name in NAMES:
        assert f"{name} eats (meal 2 of 2)" in done.stdout
    assert done.stdout.count("puts the fork down and thinks") >= 1
    assert "All 5 philosophers have had their 2 meals." in done.stdout
    assert "raised DeadlockError in one of them" in done.stdout
    wide = [line for line in done.stdout.splitlines() if len(line) > 100 and " File " not in line]
    assert not wide


def test_demo_does_not_depend_on_settings(run_python: RunPython) -> None:
    """Settings in the environment and in a pyproject.toml at hand do not change the demo."""
    env = {"LOCKWATCH": "off", "LOCKWATCH_EXIT_STATUS": "3"}
    assert run_python(None, "-m", "lockwatch", "demo", env=env, timeout=60).returncode == 0


def test_philosophers_hang_without_lockwatch() -> None:
    """The demo's program is a real deadlock: plain Python never gets beyond the first forks."""
    child = subprocess.Popen(
        [sys.executable, str(PHILOSOPHERS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(PHILOSOPHERS.parents[2])},
    )
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(2)
    finally:
        child.kill()
        output, _ = child.communicate()
    assert output == b""


def test_philosophers_as_a_script(run_python: RunPython) -> None:
    """Run by hand under watch they finish, one DeadlockError at a time, and the status tells of it."""
    done = run_python(None, "-m", "lockwatch", "run", str(PHILOSOPHERS))
    assert done.returncode == 66, done.stderr
    assert "DEADLOCK (cycle of 5)" in done.stderr
    assert done.stdout.endswith("All 5 philosophers have had their 2 meals.\n")
