"""``lockwatch demo``: see a real deadlock found, explained and broken.

Runs ``philosophers.py`` in a child process under ``lockwatch run`` and shows all that it prints, with a few words
before and after. The status is 0 only if everything went as told: one deadlock of five found, its victim named,
everybody's meals eaten, the child's status 66. Settings from the environment are kept out of the child.

Cost: about a second; a hang ends after ``TIME_LIMIT``.
"""

import argparse
import os
import sys

TIME_LIMIT = 30.0
"""Seconds that the child may take."""

STATUS = 66
"""Exit status of a child that ended well although an error was found."""

_BEFORE = """\
Five philosophers sit at a round table, with one fork between each two. To eat, each takes the left
fork, then the right one. When all five have taken their left fork, nobody can ever eat: a deadlock.
Under plain Python this program hangs for ever. Here it runs under lockwatch:

  $ lockwatch run {script}
"""

_AFTER = """\
What happened: the thread that was about to close the circle looked first. lockwatch proved that
none of the five could ever move again, printed the report, and raised DeadlockError in one of them:
{victim} put the fork down, and all five finished their meals. The program would have ended with
status 0; it ended with {status}, so that a test run or a CI job notices.

Next: lockwatch run your_program.py       (lockwatch run -h shows all options)
"""

_FAILED = """\
The demo did not go as it should: {problem}.
Please report this, with the output above and the output of: python -VV
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the demo has no options."""
    parser.epilog = "exit status: 0 if everything went as told, else 1"


def execute(options: argparse.Namespace) -> int:  # noqa: ARG001 - the interface of a verb
    """Runs the demo.

    Args:
        options: not used.

    Returns:
        0 if the deadlock was found, explained and broken, else 1.
    """
    import tempfile

    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "philosophers.py")
    print(_BEFORE.format(script=os.path.basename(script)), flush=True)
    with tempfile.TemporaryDirectory(prefix="lockwatch-demo-") as folder:
        report = os.path.join(folder, "report.json")
        status, output = _run(script, report)
        print(_fitted(output))
        victim, problem = _check(status, output, report)
    if problem:
        print(_FAILED.format(problem=problem))
        return 1
    print(_AFTER.format(victim=victim, status=status), end="")
    return 0


def _run(script: str, report: str) -> tuple[int | None, str]:
    """Runs the philosophers under watch; the status is None if they had to be killed."""
    import subprocess

    command = [sys.executable, "-m", "lockwatch", "run", "--report", report]
    command += ["--mode", "raise", "--exit-status", str(STATUS), script]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOCKWATCH")}
    try:
        done = subprocess.run(
            command,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # one pipe for both: what was printed first is shown first
            timeout=TIME_LIMIT,
        )
    except subprocess.TimeoutExpired as late:
        return None, _text(late.stdout)
    return done.returncode, _text(done.stdout)


def _text(output: bytes | None) -> str:
    return (output or b"").decode(errors="replace").replace(os.linesep, "\n")


def _fitted(output: str) -> str:
    """``output`` with long lines of the report folded, so that its columns stay readable in a narrow terminal."""
    import re
    import shutil
    import textwrap

    width = min(110, max(80, shutil.get_terminal_size((100, 24)).columns))
    lines: list[str] = []
    for line in output.splitlines():
        indent = len(line) - len(line.lstrip())
        text = line.lstrip()
        if "  " in text:  # columns: fold between them only
            text = re.sub(r"(?<=\S) (?=\S)", "\0", text)
        fold = textwrap.wrap(
            text,
            width,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + 4),
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += [part.replace("\0", " ") for part in fold] or [""]
    return "\n".join(lines) + "\n"


def _check(status: int | None, output: str, report: str) -> tuple[str, str | None]:
    """Returns the victim's name, and what went wrong, if anything."""
    import json

    if status is None:
        return "", f"the philosophers still hung after {TIME_LIMIT:.0f} seconds"
    try:
        with open(report, encoding="utf-8") as file:
            findings = json.load(file)["findings"]
    except (OSError, ValueError, KeyError) as error:
        return "", f"there is no readable report ({error})"
    deadlocks = [one for one in findings if one["kind"] == "deadlock" and len(one["parties"]) == 5]
    if not deadlocks:
        return "", "no deadlock of five was reported"
    victims = [party["name"] for party in deadlocks[0]["parties"] if party["victim"]]
    if len(victims) != 1:
        return "", f"the deadlock has {len(victims)} victims instead of one"
    if "All 5 philosophers have had their" not in output:
        return "", "not all philosophers had their meals"
    if status != STATUS:
        return "", f"the exit status was {status} instead of {STATUS}"
    return victims[0], None
