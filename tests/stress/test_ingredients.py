"""Each thing that may come between two instructions of a lock by itself, and all together; see ingredients.py."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import RunPython

PROGRAM = Path(__file__).with_name("ingredients.py")
EVERYTHING = ("async", "interrupt", "alarm", "garbage", "fork")


def hammer(run_python: RunPython, seconds: float, seed: int, *ingredients: str) -> dict[str, int]:
    """Runs the program and returns its counts; a program that fails or hangs shows all stacks."""
    if "fork" in ingredients and not hasattr(os, "fork"):
        pytest.skip("needs fork")
    done = run_python(
        PROGRAM,
        str(seconds),
        str(seed),
        *ingredients,
        timeout=seconds + 60,
        interpreter_args=("-W", "ignore"),
    )
    assert done.returncode == 0, done.stderr
    counts: dict[str, int] = json.loads(done.stdout)
    for name in ("rounds", "timeouts", "refused", *ingredients):
        assert counts[name] > 0, f"nothing came of {name!r}: {counts}"
    return counts


@pytest.mark.stress
def test_locks_alone(run_python: RunPython) -> None:
    """Eight threads, two kinds of lock, waits, time-outs and tries: all adds up, and nothing is left behind."""
    counts = hammer(run_python, 2.5, 1)
    assert counts["leftovers"] == 0


@pytest.mark.stress
@pytest.mark.parametrize("ingredient", EVERYTHING)
def test_locks_and(ingredient: str, run_python: RunPython) -> None:
    """The same with one thing that comes in between: the locks stay whole."""
    hammer(run_python, 2.5, 2, ingredient)


@pytest.mark.stress
def test_locks_and_everything(run_python: RunPython) -> None:
    """The same with all of it at once."""
    hammer(run_python, 8, 3, *EVERYTHING)
