"""Random programs under ``install()``: those that end are never reported, those that hang always are.

The long run is ``python tests/fuzz/run.py --programs 10000``; docs/conformance.md says how the last ones went.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import RunPython

RUN = Path(__file__).with_name("run.py")


def fuzz(run_python: RunPython, *arguments: str) -> str:
    """Runs the script and returns its summary; fails with that and the children's stderr."""
    done = run_python(RUN, "--verbose", *arguments, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-6000:]}"
    return done.stdout


def test_programs_that_end_are_never_reported(run_python: RunPython) -> None:
    """No finding, no error and no hang in programs that end by themselves, whatever they wait for."""
    assert ": 300 programs ended" in fuzz(run_python, "--programs", "300", "--seed", "111")


def test_programs_that_hang_are_all_reported(run_python: RunPython) -> None:
    """Every deadlock is found within 3 s, its parties get away from it, and nobody else is the victim."""
    assert ": 200 programs ended" in fuzz(run_python, "--programs", "200", "--seed", "111", "--mutated")


def test_orders_that_can_deadlock_are_all_reported(run_python: RunPython) -> None:
    """A planted ring of locks is found, though nothing hangs; one that something tames is not reported."""
    assert ": 400 programs ended" in fuzz(run_python, "--programs", "400", "--seed", "111", "--inversions")


@pytest.mark.parametrize("kind", ["good", "mutated"])
def test_the_programs_are_what_they_claim_to_be(run_python: RunPython, kind: str) -> None:
    """Without lockwatch the good programs end, and the mutated ones hang."""
    flags = ("--mutated", "--programs", "40") if kind == "mutated" else ("--programs", "100")
    fuzz(run_python, "--plain", "--seed", "111", *flags)
