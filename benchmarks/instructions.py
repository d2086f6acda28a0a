"""Instructions per operation, counted by callgrind: a figure that a noisy machine does not change.

    python -m benchmarks.instructions [--json FILE] [--against FILE] [--times N]

Runs each operation N and 2 N times in fresh interpreters under ``valgrind --tool=callgrind`` and divides the
difference by N; the loop is in it. With ``--against`` an operation that takes more than 3% more instructions than in
that file is named, and the status is 1. A few minutes; valgrind has to be there.
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


def count(side: str, kind: str, operation: str, held: str, times: int) -> int:
    """Returns how many instructions a process takes that does an operation ``times`` times."""
    module = "threading" if side == "raw" else "lockwatch"
    program = (
        f"from itertools import repeat\nfrom {module} import {kind} as make\n"
        f"def run(times):\n  one, two = make(), make()\n  {held}\n  for _ in repeat(None, times):\n    {operation}\n"
        f"run(50)\nrun({times})\n"
    )
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-c", program],
        check=True,
        cwd=machine.ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    found = re.search(r"Collected\s*:\s*(\d+)", done.stderr)
    assert found, done.stderr
    return int(found[1])


def measure(times: int) -> dict[str, dict[str, float]]:
    """Returns the instructions per operation, by operation and side."""
    result: dict[str, dict[str, float]] = {}
    for name, (kind, operation) in OPERATIONS.items():
        held = "two.acquire()" if name == "rlock_reentry" else "pass"
        result[name] = {
            side: round(
                (count(side, kind, operation, held, 2 * times) - count(side, kind, operation, held, times))
                / times,
                1,
            )
            for side in ("raw", "lockwatch")
        }
        print(f"{name:24}{result[name]['raw']:10.1f}{result[name]['lockwatch']:10.1f}", flush=True)
    return result


def main() -> int:
    """Count, write, compare; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument("--against", type=Path, metavar="FILE", help="compare with an earlier result")
    parser.add_argument("--times", type=int, default=20_000, metavar="N")
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
