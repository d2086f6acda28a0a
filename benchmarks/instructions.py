"""Instructions per operation, counted by callgrind: a figure that a noisy machine does not change.

    python -m benchmarks.instructions [--json FILE] [--against FILE] [--times N]

Runs each operation N times in a fresh interpreter under ``valgrind --tool=callgrind``, takes off what an interpreter
takes that runs none, and divides by N; the loop is in it. With ``--against`` an operation that takes more than 3% more
instructions than in that file is named, and the status is 1. Two minutes; valgrind has to be there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from benchmarks import machine

OPERATIONS = {
    "lock_with": ("Lock", "with one: pass"),
    "lock_acquire_release": ("Lock", "one.acquire(); one.release()"),
    "lock_nested": ("Lock", "with one, two: pass"),
    "lock_create": ("Lock", "make()"),
    "rlock_with": ("RLock", "with one: pass"),
    "rlock_acquire_release": ("RLock", "one.acquire(); one.release()"),
    "rlock_reentry": ("RLock", "with two: pass"),
}
"""By name: the class, and what is done with its instances; two is held before for a re-entry."""

TOLERANCE = 1.03


PROGRAM = """
import sys
from itertools import repeat
from {module} import Lock, RLock
operations = {{}}
{functions}
run = operations[sys.argv[1]]
run(50)
run(int(sys.argv[2]))
"""
FUNCTION = """
def run(times, make={kind}):
    one, two = make(), make()
    {held}
    for _ in repeat(None, times):
        {operation}
operations[{name!r}] = run
"""


def program(side: str) -> str:
    """Return a program whose arguments are the name of an operation, and how often to do it."""
    functions = [
        FUNCTION.format(
            name=name,
            kind=kind,
            operation=operation,
            held="two.acquire()" if name == "rlock_reentry" else "pass",
        )
        for name, (kind, operation) in OPERATIONS.items()
    ]
    return PROGRAM.format(module="threading" if side == "raw" else "lockwatch", functions="".join(functions))


def count(side: str, name: str, times: int) -> int:
    """Return how many instructions a process takes that does an operation ``times`` times."""
    done = subprocess.run(
        [
            "valgrind",
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            sys.executable,
            "-S",
            "-c",
            program(side),
            name,
            str(times),
        ],
        check=True,
        cwd=machine.ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=600,
    )
    found = re.search(r"Collected\s*:\s*(\d+)", done.stderr)
    assert found, done.stderr
    return int(found[1])


def measure(times: int) -> dict[str, dict[str, float]]:
    """Return the instructions per operation, by operation and side."""
    nothing = {side: count(side, "lock_with", 0) for side in ("raw", "lockwatch")}
    result: dict[str, dict[str, float]] = {}
    for name in OPERATIONS:
        result[name] = {
            side: round((count(side, name, times) - before) / times, 1) for side, before in nothing.items()
        }
        print(f"{name:24}{result[name]['raw']:10.1f}{result[name]['lockwatch']:10.1f}", flush=True)
    return result


def main() -> int:
    """Count, write, compare; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument("--against", type=Path, metavar="FILE", help="compare with an earlier result")
    parser.add_argument("--times", type=int, default=100_000, metavar="N")
    options = parser.parse_args()
    result = measure(options.times)
    if options.json:
        head = {
            "date": machine.now(),
            "python": platform.python_version(),
            "compiler": platform.python_compiler(),
            "implementation": machine.implementation(),
        }
        options.json.write_text(
            json.dumps({**head, "instructions": result}, indent=1) + "\n", encoding="utf-8"
        )
    worse = []
    if options.against:
        before = json.loads(options.against.read_text(encoding="utf-8"))["instructions"]
        for name, sides in result.items():
            then = before.get(name, sides)["lockwatch"]
            if sides["lockwatch"] > then * TOLERANCE:
                worse.append(f"{name}: {then} before, {sides['lockwatch']} now")
    print("\n".join(worse))
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
