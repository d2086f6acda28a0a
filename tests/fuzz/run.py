"""Run many random programs under lockwatch: good ones, none of which may be reported, or ones that hang for certain.

    python tests/fuzz/run.py --programs 10000 --seed 1             no finding, no error, and all end
    python tests/fuzz/run.py --programs 2000 --seed 1 --mutated    every one is reported, and ends
    python tests/fuzz/run.py --programs 2000 --seed 1 --inversions lock orders that can deadlock, and such that cannot
    ... --plain                                                    the same programs without lockwatch

A program is made from the seed and its number alone; ``--first N --programs 1`` runs one of them again. Programs are
run by the hundred in one process, and processes in parallel. Exit status 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
BATCH = 250
PATIENCE = 30.0
"""Seconds without a word after which a program counts as hanging."""
MOST = 100
"""Troubles after which no further programs are begun."""
LIMIT = 3.0
"""Seconds within which a deadlock is to be found."""


class Job:
    """A child process that runs a batch."""

    def __init__(self, options: argparse.Namespace, first: int, count: int) -> None:
        self.first = first
        self.end = first + count
        self.number = first
        self.heard = time.monotonic()
        self.rest = b""
        self.finished = False
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by put_down
        command = [sys.executable, "-X", "faulthandler", __file__, "--child", "--seed", options.seed]
        command += ["--first", str(first), "--programs", str(count)]
        command += [flag for flag in ("--mutated", "--plain", "--inversions") if getattr(options, flag[2:])]
        roots = [str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, roots))}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors, env=environment)
        assert self.process.stdout is not None
        self.output = self.process.stdout
        os.set_blocking(self.output.fileno(), False)

    def lines(self) -> list[str]:
        """Return what it has said since, in whole lines."""
        data = self.output.read()
        if not data:
            return []
        self.heard = time.monotonic()
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [line.decode() for line in lines]

    def put_down(self) -> str:
        """End it, if it has not, and return what it wrote to stderr."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGABRT)  # faulthandler writes the stacks
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.output.close()
        with self.errors:
            self.errors.seek(0)
            return self.errors.read().decode(errors="replace")


class Run:
    """All batches, some at a time."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.waiting = [
            (first, min(BATCH, options.first + options.programs - first))
            for first in range(options.first, options.first + options.programs, BATCH)
        ]
        self.troubles: list[dict[str, Any]] = []
        self.seconds: list[float] = []
        self.latencies: list[float] = []
        self.findings = 0

    def all(self) -> None:
        """Run them all."""
        with selectors.DefaultSelector() as selector:
            jobs: list[Job] = []
            while jobs or (self.waiting and len(self.troubles) < MOST):
                while self.waiting and len(self.troubles) < MOST and len(jobs) < self.options.jobs:
                    job = Job(self.options, *self.waiting.pop(0))
                    selector.register(job.output, selectors.EVENT_READ)
                    jobs.append(job)
                selector.select(1.0)
                for job in jobs.copy():
                    over = job.process.poll() is not None
                    for line in job.lines():
                        self._read(job, line)
                    if over or time.monotonic() - job.heard > PATIENCE:
                        selector.unregister(job.output)
                        jobs.remove(job)
                        self._over(job, hung=not over)

    def _read(self, job: Job, line: str) -> None:
        kind, number, *rest = line.split(" ", 2)
        job.number = int(number)
        if kind == "T":
            self.troubles.append({"program": int(number), **json.loads(rest[0])})
        elif kind == "E":
            seconds, latency, findings = rest[0].split()
            self.seconds.append(float(seconds))
            self.findings += int(findings)
            if int(findings) > 0:
                self.latencies.append(float(latency))
        elif kind == "Q":
            job.finished = True

    def _over(self, job: Job, *, hung: bool) -> None:
        if hung and job.finished:
            self.troubles.append({"program": job.end - 1, "trouble": "the process does not end"})
        elif not job.finished:
            trouble = "hangs" if hung else f"the process died with status {job.process.poll()}"
            self.troubles.append({"program": job.number, "trouble": trouble})
            if job.number + 1 < job.end:
                self.waiting.insert(0, (job.number + 1, job.end - job.number - 1))
        errors = job.put_down()
        if errors.strip() and self.options.verbose:
            print(f"--- stderr of programs {job.first} to {job.end - 1}\n{errors[-6000:]}", file=sys.stderr)

    def report(self, took: float) -> str:
        """Summarise in a few lines."""
        slow = [latency for latency in self.latencies if latency > LIMIT]
        lines = [
            (
                f"CPython {platform.python_version()}{'' if _has_gil() else ' free-threaded'}, seed {self.options.seed}, "
                f"{self.kind()}{', without lockwatch' if self.options.plain else ''}: "
                f"{len(self.seconds)} programs ended in {took:.0f} s, {len(self.troubles)} troubles, "
                f"{self.findings} deadlocks; slowest {max(self.seconds, default=0):.2f} s"
            )
        ]
        if self.latencies:
            ordered = sorted(self.latencies)
            lines.append(
                f"  from start to finding: median {ordered[len(ordered) // 2]:.3f} s, 99 % "
                f"{ordered[int(len(ordered) * 0.99)]:.2f} s, longest {ordered[-1]:.2f} s; {len(slow)} over {LIMIT} s"
            )
        lines += [f"  {json.dumps(trouble)}" for trouble in self.troubles[:50]]
        return "\n".join(lines)

    def kind(self) -> str:
        """Name the kind of programs."""
        return "inversions" if self.options.inversions else "mutated" if self.options.mutated else "good"

    def failed(self) -> bool:
        """Whether anything was wrong."""
        late = any(latency > LIMIT for latency in self.latencies)
        return bool(self.troubles) or late or len(self.seconds) != self.options.programs


def _has_gil() -> bool:
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--programs", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--seed", default="1", help="what they are made from (default 1)")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--mutated", action="store_true", help="programs that hang")
    parser.add_argument(
        "--inversions", action="store_true", help="programs with orders that can deadlock, or not"
    )
    parser.add_argument(
        "--plain", action="store_true", help="without lockwatch, to check the programs themselves"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--verbose", action="store_true", help="print what the processes write to stderr")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Run what the command line asks for; returns the exit status."""
    options = parse()
    if options.child:
        from tests.fuzz import child

        child.main(
            options.seed,
            options.first,
            options.programs,
            mutated=options.mutated,
            plain=options.plain,
            inversions=options.inversions,
        )
        return 0
    began = time.monotonic()
    run = Run(options)
    run.all()
    print(run.report(time.monotonic() - began))
    return int(run.failed())


if __name__ == "__main__":
    sys.exit(main())
