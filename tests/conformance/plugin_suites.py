"""A project's own test suite without and with ``--lockwatch``, in turns: results, findings, time.

Not a test: it takes minutes and needs the project's source distribution and what its suite needs.

    pip download --no-deps --no-binary :all: cachetools && tar xf cachetools-*.tar.gz
    python tests/conformance/plugin_suites.py cachetools-*/ [--turns 3] [-- PYTEST-ARGUMENTS]

Prints each run, the sections that lockwatch wrote, the tests that failed in only one of the two, and the quotients of the
shortest times: of the clock, and of the CPU that pytest and its children used.

Exit status: 0 if the same tests failed at least once on both sides and nothing was found, else 1.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

OPTIONS = ("-q", "-rfE", "-p", "no:cacheprovider", "-p", "no:randomly")


class Run(NamedTuple):
    """One run: seconds of the clock and of CPU, pytest's last line, the tests that failed, lockwatch's section."""

    wall: float
    cpu: float
    counts: str
    failed: frozenset[str]
    section: str


def run(folder: Path, arguments: list[str], *, watched: bool, limit: float) -> Run:
    """Run the suite once."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", *OPTIONS, *(["--lockwatch"] if watched else []), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=limit, check=False)
    wall = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    last = (done.stdout.strip().splitlines() or ["nothing"])[-1]
    failed = re.findall(r"^(?:FAILED|ERROR|LOCKS) (\S+)", done.stdout, re.MULTILINE)
    section = done.stdout.partition("= lockwatch =")[2].partition("short test summary")[0]
    return Run(wall, cpu, re.sub(r" in [\d.]+s.*", "", last).strip("= "), frozenset(failed), section)


def main() -> int:
    """Compare, and say what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=900)
    parser.add_argument("arguments", nargs="*", help="for pytest, after --")
    options = parser.parse_intermixed_args()
    runs: dict[bool, list[Run]] = {False: [], True: []}
    for _ in range(options.turns):
        for watched in (False, True):
            one = run(options.folder, options.arguments, watched=watched, limit=options.timeout)
            runs[watched].append(one)
            side = "watched" if watched else "plain"
            print(f"{side:8} {one.wall:7.1f} s  {one.cpu:7.1f} s CPU  {one.counts}", flush=True)
            if one.section:
                print(one.section)
    for name in ("wall", "cpu"):
        plain, watched_time = (min(getattr(one, name) for one in runs[side]) for side in (False, True))
        print(f"{name}: {plain:.1f} s, watched {watched_time:.1f} s: {watched_time / plain:.2f}")
    plain_failed, watched_failed = (
        frozenset().union(*(one.failed for one in runs[side])) for side in (False, True)
    )
    print("failed only without:", *sorted(plain_failed - watched_failed))
    print("failed only with:", *sorted(watched_failed - plain_failed))
    return int(plain_failed != watched_failed or any(one.section for one in runs[True]))


if __name__ == "__main__":
    sys.exit(main())
