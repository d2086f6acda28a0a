"""The command line: ``lockwatch VERB [options]``, also as ``python -m lockwatch VERB [options]``.

One module per verb. Each has ``configure(parser)``, which adds its options to an argparse parser, and
``execute(options)``, which does the work and returns the exit status; to add a verb, write such a module and name it
in ``VERBS``. Usage errors end with status 2, as argparse and Python itself have it.

Assumption: ``main`` is the last thing that its process does. ``lockwatch run`` gives the process (``sys.argv``,
``sys.path``, ``__main__``, the exit) to the program it runs.

Cost: importing this package loads argparse and the verbs, none of which loads more before it is executed.
"""

import argparse
import sys
from collections.abc import Sequence

from lockwatch import __version__
from lockwatch.cli import demo, doctor, run

VERBS = {"run": run, "demo": demo, "doctor": doctor}
"""Name of the verb -> its module, in the order of the help text."""

_EXAMPLES = """\
examples:
  lockwatch demo                                   see a real deadlock found, explained and broken
  lockwatch run program.py --its-own-options       run a script
  lockwatch run --report locks.json -m pytest -q   run a module, keep what was found as JSON
  lockwatch doctor                                 does the C fast path run, and what is patched
  lockwatch run -h                                 all options of a verb
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        argv: the words after the command's name; ``sys.argv[1:]`` by default.

    Returns:
        The exit status: 2 for a wrong command line, else what the verb says.

    Raises:
        SystemExit: argparse has printed help, the version or a usage error; or the program that ``run`` ran ended so.
        BaseException: whatever the program that ``run`` ran left uncaught, for the interpreter to end with.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    program: list[str] = []
    if words[:1] == ["run"]:  # what belongs to the program never meets argparse
        own, program = run.split(words[1:])
        words = ["run", *own]
    parser, verbs = _parsers()
    options, unknown = parser.parse_known_args(words)
    if unknown:
        verbs.get(options.verb, parser).error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.verb is None:
        parser.print_help(sys.stderr)
        return 2
    options.program = program
    status: int = VERBS[options.verb].execute(options)
    return status


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Makes the command's parser, and those of the verbs by name."""
    parser = argparse.ArgumentParser(
        prog="lockwatch",
        description="The lock sanitizer for Python: a deadlock raises an error that explains it, instead of hanging.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"lockwatch {__version__}")
    adder = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    verbs = {}
    for name, module in VERBS.items():
        summary = (module.__doc__ or "").partition("\n")[0].partition(": ")[2].rstrip(".")
        verbs[name] = adder.add_parser(
            name,
            help=summary,
            description=f"{summary[:1].upper()}{summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.configure(verbs[name])
    return parser, verbs
