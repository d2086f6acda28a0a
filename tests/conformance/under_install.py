"""Compares CPython's own thread suites under ``lockwatch.install()`` with the same suites without it.

Usage, by path or as ``python -m tests.conformance.under_install`` from the source tree::

    under_install.py [--python PATH] [--jobs N] [--timeout SECONDS] [--again N] [--json FILE] [SUITE...]

A SUITE is a name in CPython's ``test`` package (``test_queue``, ``test_asyncio.test_locks``), a dotted name of one
class or test (``test.test_queue.CQueueTest.test_basic``), or ``real_queue``, which stands beside this file. Without
one the whole list in ``SUITES`` is run, which takes 5 to 10 minutes.
``--python`` runs everything with another interpreter, which needs lockwatch's dependencies, but not lockwatch.

Each suite is run in two interpreters, each in a folder of its own: as it is, and with lockwatch installed before its
first line. That is done by the ``site`` module of a virtual environment made for the purpose, so the interpreters that
a suite starts in turn (a good part of ``test_threading`` does) have lockwatch, too, also those started with ``-I``.

A difference is a test that is fine without lockwatch (passes, is skipped, or fails as its authors expect) and ends
otherwise with it; a test that vanishes; a test that never ends; and every finding but those of
``TRUE_OF_THEM``, since CPython's suites contain
no deadlock. What fails without lockwatch says nothing, and is counted only. These suites depend on timing; so what
differs is run again, alone, with and without: it *stands* if it shows once more, else it is called unsteady.
Differences that are known stand in ``EXPECTED`` and ``SOMETIMES``, with the reasons; one of the first that has gone is
reported. The exit status is 1 if a difference stands, 2 if there is nothing to run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HERE = Path(__file__).resolve().parent
SOURCE_TREE = HERE.parent.parent
FILE = "CONFORMANCE_OUTCOMES"

SUITES = (
    "test_thread",
    "test_threading",
    "test_threading_local",
    "test_threadedtempfile",
    "test_threadsignals",
    "test_queue",
    "real_queue",
    "test_sched",
    "test_context",
    "test_concurrent_futures",
    "test_logging",
    "test_socketserver",
    "test_fork1",
    "test_import",
    "test_importlib.test_locks",
    "test_importlib.test_threaded_import",
    "test_asyncio.test_locks",
    "test_asyncio.test_queues",
    "test_asyncio.test_tasks",
    "test_asyncio.test_taskgroups",
    "test_asyncio.test_timeouts",
    "test_asyncio.test_runners",
    "test_asyncio.test_waitfor",
    "test_multiprocessing_main_handling",
    "test_multiprocessing_fork.test_threads",
    "test_multiprocessing_spawn.test_threads",
)
"""Everything that lives on threads and ends by itself in minutes."""

EXPECTED: dict[str, str] = {
    f"test.{name}": "needs a new interpreter that has not imported threading yet"
    for name in (
        "test_threading.ThreadTests.test_import_from_another_thread",
        "test_import.SubinterpImportTests.test_isolated_config",
        "test_import.SubinterpImportTests.test_python_compat",
    )
}
"""Test id -> why it cannot end under install() as it does without."""
if sys.version_info < (3, 13):
    EXPECTED["test.test_threading.ThreadTests.test_disallow_instantiation"] = (
        "threading.Lock is a function there, and its result's type makes no locks; ours is a class, as in 3.13"
    )

SOMETIMES: dict[str, str] = {}
"""Test id -> why it ends otherwise under install() now and then."""
if not getattr(sys, "_is_gil_enabled", lambda: True)():
    SOMETIMES["test.test_threading.ThreadJoinOnShutdown.test_reinit_tls_after_fork"] = (
        "16 threads fork at a time; without a GIL a child inherits the lock of a dictionary that another thread was in (the "
        "table of threading.local, in which our finalizers run when a thread ends), and hangs on it"
    )

TRUE_OF_THEM = re.compile(
    "an event loop was closed with "
    "|Thread '[^']*' ended while it held RLock 'r?lock'$"  # test_different_thread, test_locked_with_2threads
    "|Thread '[^']*' releases RLock '[^']*', which Thread '[^']*' holds"  # test_different_thread, from 3.13 on
    "|Task '[^']*' waits for asyncio.Lock 'lock', which belongs to another event loop$"  # test_ambiguous_loops
)
"""How findings begin that are true of the suites: they leave locks and tasks behind, or use them wrongly, on purpose."""
FINE = frozenset({"ok", "skipped", "expected failure"})
SIDES = ("without", "with")


@dataclass
class Run:
    """What became of one run of a suite on one side."""

    outcomes: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    findings: dict[str, list[str]] = field(default_factory=dict)
    """By the test that ran; under "" those of the interpreters that a test started."""
    done: bool = False
    seconds: float = 0.0
    log: str = ""

    def read(self, lines: list[str]) -> None:
        """Takes in the lines that ``outcomes.py`` and ``everywhere.py`` wrote."""
        for line in lines:
            record = json.loads(line)
            if "start" in record:
                self.outcomes[record["start"]] = "never ended"
            elif "end" in record:
                self.outcomes[record["end"]] = record["outcome"]
                self.details[record["end"]] = record["detail"]
            elif "finding" in record and not TRUE_OF_THEM.match(record["finding"]):
                test = record["test"] or next(
                    (name for name, outcome in self.outcomes.items() if outcome == "never ended"), ""
                )
                self.findings.setdefault(test, []).append(f"{record['finding']}\n{record['advice'] or ''}")
            else:
                self.done = True

    def count(self) -> str:
        """The numbers of outcomes, in words."""
        values = list(self.outcomes.values())
        return ", ".join(f"{values.count(kind)} {kind}" for kind in sorted(set(values))) or "nothing"


@dataclass
class Result:
    """Both runs of one suite and what they differ in."""

    suite: str
    baseline: Run
    under: Run
    standing: dict[str, str] = field(default_factory=dict)
    """Test id -> the difference."""
    unsteady: dict[str, str] = field(default_factory=dict)
    expected: list[str] = field(default_factory=list)

    def row(self) -> dict[str, object]:
        """The result in numbers."""
        outcomes = list(self.baseline.outcomes.values())
        return {
            "suite": self.suite,
            "tests": len(outcomes),
            "skipped": outcomes.count("skipped"),
            "fail without": sum(outcome not in FINE for outcome in outcomes),
            "differ": len(self.standing),
            "unsteady": len(self.unsteady),
            "expected": len(self.expected),
            "s without": round(self.baseline.seconds, 1),
            "s with": round(self.under.seconds, 1),
        }

    def text(self) -> str:
        """The result in words, every difference in full."""
        lines = [f"{self.suite}: without lockwatch {self.baseline.count()}; with it {self.under.count()}"]
        for kind, found in (("", self.standing), ("(unsteady) ", self.unsteady)):
            lines += [f"    {kind}{name or 'the run'}: {how}" for name, how in found.items()]
        return "\n".join(lines)

    def json(self) -> dict[str, object]:
        """The result with every difference in full."""
        differences = {"standing": self.standing, "unsteady": self.unsteady, "as expected": self.expected}
        return self.row() | {"differences": differences}


def full_name(suite: str) -> str:
    """The dotted name for unittest; suites of our own stand beside this file."""
    return suite if suite.startswith("test.") or (HERE / f"{suite}.py").exists() else f"test.{suite}"


def missing(suites: Iterable[str]) -> list[str]:
    """Those of the suites that this interpreter does not ship."""

    def absent(name: str) -> bool:
        if (HERE / f"{name}.py").exists():
            return False
        module = ".".join(takewhile(lambda part: not part[0].isupper(), full_name(name).split(".")))
        try:
            return importlib.util.find_spec(module) is None
        except ModuleNotFoundError:
            return True

    return [name for name in suites if absent(name)]


class Interpreters:
    """A virtual environment for each side; in one of them every interpreter installs lockwatch when it starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = [str(SOURCE_TREE), str(HERE), sysconfig.get_path("purelib")]
        for side in SIDES:
            venv.EnvBuilder(symlinks=True, with_pip=False).create(folder / side)
            lines = [*self.paths, *(["import everywhere"] if side == "with" else [])]
            for packages in (folder / side / "lib").glob("python*/site-packages"):
                (packages / "conformance.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
                plain = packages.parent.with_name(packages.parent.name.rstrip("t"))
                if not plain.exists():  # Debian's site module looks there in a free-threaded environment
                    plain.symlink_to(packages.parent.name)

    def run(self, side: str, name: str, timeout: float) -> Run:
        """Runs a suite or test on one side; after ``timeout`` seconds all stacks are dumped and the run is stopped."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            place = Path(folder)  # suites write @test files into their working directory
            ours = ("LOCKWATCH", "PYTHON", "CONFORMANCE")
            environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
            environment |= {FILE: str(place / "outcomes"), "TMPDIR": folder}
            python = self.folder / side / "bin" / "python"
            with (place / "log").open("w", encoding="utf-8") as log:
                began = time.monotonic()
                child = subprocess.Popen(
                    [str(python), "-X", "faulthandler", str(HERE / "outcomes.py"), full_name(name)],
                    cwd=place,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                try:
                    child.wait(timeout)
                except BaseException as error:
                    put_down(child)
                    if not isinstance(error, subprocess.TimeoutExpired):
                        raise
            run = Run(seconds=time.monotonic() - began)
            run.log = (place / "log").read_text(encoding="utf-8", errors="replace")
            if (place / "outcomes").exists():
                run.read((place / "outcomes").read_text(encoding="utf-8").splitlines())
            return run


def put_down(child: subprocess.Popen[bytes]) -> None:
    """Ends a child and its whole group, the stacks of all their threads first."""
    for number in (signal.SIGABRT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(2)


def differences(baseline: Run, under: Run) -> dict[str, str]:
    """What is otherwise under ``install()``: test id -> how. Without an id what concerns the whole run."""
    found: dict[str, str] = {}
    for name, after in under.outcomes.items():
        before = baseline.outcomes.get(name, "not there")
        if after in FINE and (before in FINE or before == "not there"):
            if before == "ok" and after != "ok":
                found[name] = f"passes without lockwatch, {after} with it\n{under.details.get(name, '')}"
        elif after not in FINE and (before in FINE or before == "not there"):
            found[name] = f"{before} without lockwatch, {after} with it\n{under.details.get(name, '')}"
    for name in baseline.outcomes.keys() - under.outcomes.keys():
        if baseline.outcomes[name] in FINE and under.done:
            found[name] = "is not run with lockwatch"
    for name, messages in under.findings.items():
        found[name] = "\n".join([found.get(name, ""), *(f"finding: {message}" for message in messages)])
    for side, run in zip(SIDES, (baseline, under), strict=True):
        if not run.done:
            tail = "\n".join(run.log.splitlines()[-80:])
            last = next((name for name in found if run.outcomes.get(name) == "never ended"), "")
            found[last] = f"the run {side} lockwatch did not come to its end; its last lines:\n{tail}"
    return found


def compare(
    interpreters: Interpreters, suite: str, timeout: float, again: int, pool: ThreadPoolExecutor
) -> Result:
    """Runs a suite on both sides, and what differs again.

    Args:
        interpreters: The two sides.
        suite: Its name.
        timeout: Seconds after which a run is stopped.
        again: How often to run what differs again.
        pool: Runs both sides; its size says how much goes on at a time.

    Returns:
        The result. What is in ``EXPECTED`` or ``SOMETIMES`` is neither standing nor unsteady.

    """

    def both(name: str, timeout: float) -> tuple[Run, Run]:
        runs = [pool.submit(interpreters.run, side, name, timeout) for side in SIDES]
        return runs[0].result(), runs[1].result()

    result = Result(suite, *both(suite, timeout))
    for name, how in sorted(differences(result.baseline, result.under).items()):
        if name in EXPECTED or name in SOMETIMES:
            result.expected.append(name)
            continue
        alone = name if name and "(" not in name else suite  # "setUpClass (...)"
        shows = not again
        for _ in range(again):
            if shows := bool(differences(*both(alone, timeout if alone == suite else timeout / 2))):
                break
        (result.standing if shows else result.unsteady)[name] = how
    for name in EXPECTED.keys() & result.under.outcomes.keys() - set(result.expected):
        if result.baseline.outcomes.get(name) in FINE:
            result.standing[name] = "no difference any more; take it out of EXPECTED"
    return result


def compare_all(suites: list[str], timeout: float, again: int = 2, jobs: int = 2) -> Iterator[Result]:
    """Compares the suites, as many interpreters at a time as ``jobs`` says; yields the results in order."""
    with (
        tempfile.TemporaryDirectory(prefix="under_install-", ignore_cleanup_errors=True) as folder,
        ThreadPoolExecutor(jobs) as sides,
        ThreadPoolExecutor(jobs) as pool,
    ):
        interpreters = Interpreters(Path(folder))
        results = [pool.submit(compare, interpreters, suite, timeout, again, sides) for suite in suites]
        for one in results:
            yield one.result()


def table(rows: list[dict[str, object]]) -> str:
    """The rows as a Markdown table."""
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([str(row[head]) for head in heads] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="default: the list in SUITES")
    parser.add_argument("--python", help="the interpreter to test with (default: this one)")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for each run (default 600)")
    parser.add_argument("--again", type=int, default=2, help="how often to repeat what differs (default 2)")
    parser.add_argument("--jobs", type=int, default=2, help="how many interpreters at a time (default 2)")
    parser.add_argument("--json", type=Path, help="write the results there, with every difference in full")
    options = parser.parse_args()
    if options.python is not None:
        arguments = [word for word in sys.argv[1:] if word not in {"--python", options.python}]
        arguments = [word for word in arguments if not word.startswith("--python=")]
        os.execv(options.python, [options.python, str(Path(__file__)), *arguments])
    suites: list[str] = options.suites or list(SUITES)
    absent = missing(suites)
    print(sys.version, flush=True)
    if absent:
        print(f"this interpreter does not ship {', '.join(absent)}", flush=True)
    suites = [suite for suite in suites if suite not in absent]
    if not suites:
        return 2
    results = []
    for result in compare_all(suites, options.timeout, options.again, options.jobs):
        results.append(result)
        print(result.text(), flush=True)
    print(table([result.row() for result in results]))
    if options.json is not None:
        document = {"python": sys.version, "absent": absent, "suites": [result.json() for result in results]}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 1 if any(result.standing for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
