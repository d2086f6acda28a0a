"""The command line: ``python -m benchmarks [NAME ...] [--json FILE] [--quick] [--rounds N] ...``.

Exit status: 0; 1 if something could not be measured; 2 for wrong usage. A budget that is not kept is shown
and does not change the status: on a shared machine that would be noise.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from benchmarks import machine, tables
from benchmarks.figure import draw
from benchmarks.results import RESULTS, Result, load
from benchmarks.runner import Locks, Setup, TopicModule, run
from lockwatch._core import originals

if TYPE_CHECKING:
    from collections.abc import Sequence

SUBJECT = "lockwatch.locks"
TOPICS = (
    "uncontended",
    "contended",
    "fairness",
    "blockcheck",
    "waits",
    "order",
    "memory",
    "importtime",
    "aio",
    "programs",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmarks, or renders results of earlier runs.

    Args:
        arguments: The command line without the program's name; ``sys.argv`` if None.

    Returns:
        The exit status.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in TOPICS]
    if unknown:
        parser.error(f"no topic {', '.join(map(repr, unknown))}; there are {', '.join(TOPICS)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.list:
        for name in TOPICS:
            print(f"{name:12} {_module(name).TITLE}")
        return 0

    results: list[Result] = []
    failed = False
    renders_only = (options.figure or options.markdown is not None) and not options.names and not options.json
    if not renders_only:
        try:
            locks = subject(options.subject)
        except (ModuleNotFoundError, AttributeError) as error:
            if options.subject == SUBJECT:  # lockwatch itself is broken: the whole traceback is wanted
                raise
            parser.error(f"--subject {options.subject}: {error}")
        setup = Setup(options.quick, Locks(originals.Lock, originals.RLock), locks)
        result = measure(options.names or TOPICS, setup, subject=options.subject, rounds=options.rounds)
        if options.json:
            result.save(options.json)
        print(tables.text(result), flush=True)
        failed = any(row.failed for topic in result.topics for row in topic.rows)
        results.append(result)
    if options.figure or options.markdown is not None:
        try:
            results += load(options.markdown or options.source or sorted(RESULTS.glob("*.json")))
        except (OSError, ValueError) as error:
            parser.error(str(error))
        results = [result for result in results if options.quick or not result.quick]
    if options.markdown is not None:
        print(tables.markdown(results, TOPICS))
    if options.figure:
        try:
            options.figure.write_text(draw(results), encoding="utf-8")
        except ValueError as error:
            parser.error(str(error))
    return 1 if failed else 0


def subject(module: str) -> Locks:
    """The ``Lock`` and ``RLock`` of a module.

    Raises:
        ImportError: There is no such module.
        AttributeError: It has no such classes.
    """
    ours = importlib.import_module(module)
    return Locks(ours.Lock, ours.RLock)


def measure(names: Sequence[str], setup: Setup, *, subject: str, rounds: int | None) -> Result:
    """Measures topics.

    Args:
        names: Which, in this order.
        setup: What is measured.
        subject: The module that lockwatch's side came from.
        rounds: Counted rounds; each topic's own number if None.

    Returns:
        The whole result.
    """
    date, python, place = machine.now(), machine.python(), machine.machine()
    topics = tuple(run(name, _module(name), setup, rounds=rounds) for name in names)
    return Result(
        date=date,
        lockwatch=machine.lockwatch_version(),
        implementation=machine.implementation(),
        subject=subject,
        quick=setup.quick,
        python=python,
        machine=place,
        topics=topics,
    )


def _module(name: str) -> TopicModule:
    return cast("TopicModule", importlib.import_module(f"benchmarks.{name}"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures lockwatch against the interpreter's own locks, in interleaved rounds.",
        epilog="With --figure or --markdown alone nothing is measured: recorded results are rendered.",
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=f"topics to measure: {', '.join(TOPICS)} (default: all)")
    add("--json", type=Path, metavar="FILE", help="write the result there")
    add("--quick", action="store_true", help="a trial run: the least work through all the code, one round")
    add("--rounds", type=int, metavar="N", help="counted rounds (default: each topic's own number)")
    add("--list", action="store_true", help="list the topics")
    add("--subject", default=SUBJECT, metavar="MODULE", help="measure this module's Lock and RLock")
    add("--figure", type=Path, metavar="FILE", help="draw the fairness picture (SVG) from results")
    add("--markdown", nargs="*", type=Path, metavar="FILE", help="print tables from result files")
    add(
        "--from",
        dest="source",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="results for --figure (default: results/*.json)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
