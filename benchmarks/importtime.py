"""What importing and installing lockwatch adds to the start of a program, in fresh processes.

A sample is the wall time of a whole process, from its start to its end, in ms; the bare interpreter of the
same round is the baseline.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from benchmarks.machine import ROOT
from benchmarks.results import Budget
from benchmarks.runner import Case, Measure, Setup, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

TITLE = "Import: what lockwatch adds to the start of a program"
NOTES = (
    (
        "Milliseconds of wall time of a whole fresh process (`python -c CODE`); raw is `python -c pass`, taken right "
        "before in the same round. The median difference is the number to read. Compiled files are there already: "
        "the warm-up round writes them to a folder of their own."
    ),
    (
        "`import lockwatch` is lazy; the row after it is what a program pays that uses a lock. `import threading` "
        "stands beside them because lockwatch cannot do without it, and a program that has locks has paid for it."
    ),
)
ROUNDS = 20

STATEMENTS = {
    "threading": "import threading",
    "package": "import lockwatch",
    "lock": "from lockwatch import Lock",
    "install": "import lockwatch; lockwatch.install()",
}


def cases(_setup: Setup) -> Sequence[Case]:
    """One case per statement."""
    cache = tempfile.mkdtemp(prefix="lockwatch-benchmarks-")
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    return [
        Case(
            name=name,
            title=f"`{statement}`",
            unit="ms",
            raw=_process("pass", cache),
            lockwatch=_process(statement, cache),
            compare="difference",
            budget=Budget("difference", 5.0) if name == "package" else None,
        )
        for name, statement in STATEMENTS.items()
    ]


def _process(code: str, cache: str) -> Measure:
    """A measure of a whole process that runs ``code``; compiled files go to the folder ``cache``."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = cache

    def measure() -> float:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code],
            check=False,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        elapsed = time.perf_counter() - start
        if done.returncode:
            raise UnavailableError(
                (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            )
        return elapsed * 1e3

    return measure
