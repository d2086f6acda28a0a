"""``lockwatch run``: run a program under watch; a deadlock raises an error instead of hanging.

The order of events, on which the guarantees rest:

1. The command line, the program's file and the configuration are read; whatever is wrong with them ends here with one
   line on stderr and status 2. Little is imported so far, so that hardly a lock exists that was made unwatched.
2. The report file is written, without findings yet: an unwritable path is known before the program starts. Each finding
   is added as it is made (``delivery.report_to``), so the file is complete whatever way the process ends.
3. The process is given to the program (``program.Program.enter``) and lockwatch is installed, before any of the
   program's modules is imported.
4. The program runs as ``__main__``. Findings go to stderr as they occur, unless ``--quiet``.
5. The process ends as it would under plain ``python`` (see ``ending``). Only if the program's own status is 0 and
   an error-level finding was made, by this process or by a child that writes to the same report, it is 66
   (``exit_status``) instead.

Children made by fork and ``multiprocessing`` inherit the report file through ``Config.report``. Without ``--report``
that is a temporary file, which comes into being with the first finding and is deleted at exit by the process that
named it (a process killed after a finding leaves it behind).
"""

import argparse
import atexit
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lockwatch.cli import ending
from lockwatch.cli.program import StartError, load

if TYPE_CHECKING:
    from lockwatch.findings import Finding

_USAGE = "lockwatch run [options] (SCRIPT | -m MODULE | -c CODE) [ARGS...]"

_EPILOG = """\
Everything after SCRIPT, -m MODULE or -c CODE goes to the program untouched. SCRIPT may be a folder or zip file with a
__main__.py, or - for standard input. Options not given here are taken from the LOCKWATCH_* environment variables and
[tool.lockwatch] in pyproject.toml; LOCKWATCH=off runs the program unwatched.

exit status: the program's own; 66 if that is 0 but an error was found; 2 if the program could not be started.

examples:
  lockwatch run server.py --port 8080
  lockwatch run --report locks.json -m pytest -q tests
  lockwatch run --mode observe -c 'import app; app.main()'
"""

# fmt: off
OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--report", {"metavar": "FILE", "help": "write all findings to FILE as JSON, children's too"}),
    ("--mode", {"choices": ("raise", "observe"), "help": "raise DeadlockError in one party, or only report"}),
    ("--exit-status", {"metavar": "N", "type": int, "help": "instead of 66, for: ended well, but an error was found"}),
    ("--quiet", {"action": "store_true", "help": "do not print findings to stderr"}),
    ("--starvation-threshold", {"metavar": "S", "type": float, "help": "seconds of waiting that make a lock fair"}),
    ("--reacquire-grace", {"metavar": "S", "type": float, "help": "seconds until a lock taken twice is an error"}),
    ("--foreign-threads", {"choices": ("respect", "ignore"), "help": "could threads unknown to Python act?"}),
    ("--stack-depth", {"metavar": "N", "type": int, "help": "frames shown of each stack"}),
    ("--no-sweep", {"action": "store_false", "dest": "sweep", "help": "leave names alone that were imported early"}),
    ("--no-adopt", {"action": "store_false", "dest": "adopt", "help": "leave locks alone that exist already"}),
    ("--stall", {"metavar": "SECONDS", "type": float, "help": "report a lock waited for so long; 0: never (10)"}),
    ("--stall-exit", {"metavar": "SECONDS", "type": float, "help": "end the program, with a report of all threads, "
        "when a lock is waited for so long (never)"}),
    ("--dump-signal", {"metavar": "SIGNAL", "help": "print all threads, waits and holders at this signal"}),
    ("--order", {"choices": ("off", "warn", "raise"), "help": "locks taken in conflicting orders: report, or raise"}),
    ("--order-file", {"metavar": "FILE", "help": "keep the order of locks in FILE and check the next run against it"}),
    ("--no-cpu", {"action": "store_false", "dest": "cpu", "help": "do not ask the system for CPU times"}),
)
# fmt: on
"""Every option with its argparse keywords; all but ``--quiet`` are fields of ``Config``."""

_STALL = 10.0
"""Seconds of waiting for a lock that are worth a word, unless the configuration says otherwise."""

_WITH_VALUE = frozenset(flag for flag, keywords in OPTIONS if "action" not in keywords)


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``lockwatch run``; the program's own words are split off before (``split``)."""
    parser.usage = _USAGE
    parser.epilog = _EPILOG
    for flag, keywords in OPTIONS:
        parser.add_argument(flag, **{"default": None, **keywords})


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tells our words from the program's.

    Args:
        words: what follows ``lockwatch run``.

    Returns:
        Our options, and the program as ``program.load`` takes it (empty if there is none).
    """
    index = 0
    while index < len(words):
        word = words[index]
        if word == "--":
            return list(words[:index]), list(words[index + 1 :])
        if not word.startswith("-") or word in {"-", "-m", "-c"}:
            return list(words[:index]), list(words[index:])
        if word[:2] in {"-m", "-c"}:
            return list(words[:index]), [word[:2], word[2:], *words[index + 1 :]]
        index += 2 if word in _WITH_VALUE else 1
    return list(words), []


def execute(options: argparse.Namespace) -> int:
    """Runs the program that the command line names; see the module's text.

    Args:
        options: the parsed options, with the program's words as ``options.program``.

    Returns:
        The exit status, if the program ended well or could not be started.

    Raises:
        BaseException: what the program raised and did not catch, for the interpreter to end with.
    """
    settings = {
        name: value
        for name, value in vars(options).items()
        if value is not None and name not in {"verb", "program", "quiet"}
    }
    try:
        program = load(options.program)
        watch = _prepare(settings, program.argv)
        program.enter()
        if watch is not None:
            watch.begin(settings, None if options.quiet else sys.stderr)
    except StartError as error:
        print(f"lockwatch run: {error}", file=sys.stderr)
        return 2
    return ending.conduct(program.start, None if watch is None else watch.status)


def _prepare(settings: dict[str, Any], argv: list[str]) -> "_Watch | None":
    """Reads the configuration, writes the report file, and loads what is needed while ``sys.path`` is still our own.

    Returns:
        What is to be begun once the process is the program's; None if lockwatch is off.

    Raises:
        StartError: a setting is wrong, or the report file cannot be written.
    """
    from lockwatch import config
    from lockwatch.errors import LockwatchError

    try:
        chosen = config.configure(**settings)
    except LockwatchError as error:
        raise StartError(str(error)) from error
    if chosen.stall is None:
        chosen = config.configure(stall=_STALL)
    if chosen.report is not None:
        from lockwatch.report.jsonfile import ReportFile

        try:
            ReportFile(chosen.report, argv).create()
        except OSError as error:
            raise StartError(f"{error.strerror}: {chosen.report!r}") from error
    return None if chosen.mode == "off" else _Watch(chosen.report, chosen.exit_status)


class _Watch:
    """Watches the program, and knows at its end whether there was an error and which file must go."""

    def __init__(self, report: str | None, exit_status: int) -> None:
        self._home = os.getpid()
        self._temporary = report is None
        self._exit_status = exit_status
        self._failed = False
        self._closed = False
        self.path = _scratch_path() if report is None else os.path.abspath(report)
        atexit.register(self.close)  # the first to be registered, so the last to run
        from lockwatch import delivery, patch

        self._delivery, self._install = delivery, patch.install

    def begin(self, settings: dict[str, Any], stderr: object | None) -> None:
        """Installs lockwatch in this process.

        Args:
            settings: explicit settings, as for ``lockwatch.install``.
            stderr: None if findings are not to be printed. (A program started with fd 2 closed has no
                ``sys.stderr``, and may get that number for a file of its own.)

        Raises:
            StartError: it cannot be installed here.
        """
        from lockwatch.errors import LockwatchError

        try:
            self._install(**{**settings, "report": self.path})
        except LockwatchError as error:
            raise StartError(str(error)) from error
        self._delivery.add_sink(self.note)
        self._delivery.report_to(self.path)
        self._delivery.print_to(None if stderr is None else 2)

    def note(self, finding: "Finding") -> None:
        """A sink: remembers whether this process has made an error-level finding."""
        if finding.level == "error":
            self._failed = True
        if (
            self._temporary
        ):  # stacks quote source code: a file in a public folder is for its owner's eyes only
            try:
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except OSError:
                pass  # it is there already; or it cannot be, which its writer will tell

    def close(self) -> None:
        """Learns what the children have reported; deletes the file if it was temporary. Idempotent."""
        if self._closed or os.getpid() != self._home:
            return
        self._closed = True
        self._failed = self._failed or _has_error(self.path)
        if self._temporary:
            self._delivery.report_to(None)
            try:
                os.unlink(self.path)
            except OSError:
                pass  # nothing was found

    def status(self) -> int:
        """Returns the exit status of a program that has ended well."""
        self.close()
        return self._exit_status if self._failed else 0


def _has_error(path: str) -> bool:
    """Whether the report file holds an error-level finding; a file that is gone or is not one holds none."""
    if not os.path.isfile(path):
        return False
    from lockwatch.report.jsonfile import ReportFile, parse

    try:
        return any(finding.level == "error" for finding in parse(ReportFile(path).read()))
    except (OSError, ValueError):
        return False


def _scratch_path() -> str:
    """Names a file that does not exist yet (``tempfile`` would load a lot before the program does)."""
    folders = [os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")]
    folders.append("/tmp")  # noqa: S108 - the name is random, the file private
    folder = next((folder for folder in folders if folder and os.path.isdir(folder)), os.curdir)
    return os.path.join(os.path.abspath(folder), f"lockwatch-{os.getpid()}-{os.urandom(8).hex()}.json")
