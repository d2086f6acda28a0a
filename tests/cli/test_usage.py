"""The command line itself: help, version, and one clear line for each mistake."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import RunWatched, Write
    from tests.conftest import RunPython


def test_version(run_python: RunPython) -> None:
    """``lockwatch --version`` names program and version."""
    done = run_python(None, "-m", "lockwatch", "--version")
    assert done.returncode == 0
    assert done.stdout.startswith("lockwatch 0.")


def test_no_verb_prints_help(run_python: RunPython) -> None:
    """``lockwatch`` alone is a usage error that explains the usage."""
    done = run_python(None, "-m", "lockwatch")
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: lockwatch" in done.stderr
    assert "lockwatch demo" in done.stderr


@pytest.mark.parametrize("verb", [[], ["run"], ["demo"]])
def test_help(verb: list[str], run_python: RunPython) -> None:
    """Help goes to stdout, with status 0, and names what the verb takes."""
    done = run_python(None, "-m", "lockwatch", *verb, "--help", env={"COLUMNS": "100"})
    assert (done.returncode, done.stderr) == (0, "")
    assert all(len(line) <= 118 for line in done.stdout.splitlines())
    if verb == ["run"]:
        assert "(SCRIPT | -m MODULE | -c CODE) [ARGS...]" in done.stdout
        assert "--report FILE" in done.stdout
        assert "examples:" in done.stdout


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The single line that a refused command has printed."""
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_missing_script(run_watched: RunWatched, tmp_path: Path) -> None:
    """A script that is not there: Python's words, under our name."""
    path = os.path.join(os.path.realpath(tmp_path), "nope.py")
    line = one_line(run_watched("--report", "report.json", "nope.py"))
    assert line == f"lockwatch run: can't open file {path!r}: [Errno 2] No such file or directory"
    assert not (tmp_path / "report.json").exists()


@pytest.mark.parametrize("words", [[], ["--quiet"], ["--report", "report.json"], ["--"]])
def test_no_program(words: list[str], run_watched: RunWatched, tmp_path: Path) -> None:
    """Without a program there is nothing to run, and no report of it."""
    assert "no program given" in one_line(run_watched(*words))
    assert not (tmp_path / "report.json").exists()


@pytest.mark.parametrize("flag", ["-m", "-c"])
def test_nothing_after_the_flag(flag: str, run_watched: RunWatched) -> None:
    """``-m`` and ``-c`` need a word."""
    assert one_line(run_watched(flag)) == f"lockwatch run: argument expected for the {flag} option"


@pytest.mark.parametrize("report", ["no/such/folder/report.json", ".", "script.py/report.json"])
def test_unwritable_report(report: str, run_watched: RunWatched, write: Write, tmp_path: Path) -> None:
    """A report that cannot be written stops the program before it starts."""
    write("script.py", "print('started')")
    line = one_line(run_watched("--report", report, "script.py"))
    assert line.startswith("lockwatch run: cannot write the report: ")
    assert line.endswith(repr(os.path.abspath(tmp_path / report)))


@pytest.mark.parametrize(
    ("words", "env", "part"),
    [
        (["--exit-status", "256"], {}, "exit_status"),
        (["--starvation-threshold", "-1"], {}, "starvation_threshold"),
        ([], {"LOCKWATCH": "sometimes"}, "sometimes"),
        ([], {"LOCKWATCH_STACK_DEPHT": "3"}, "LOCKWATCH_STACK_DEPTH"),
    ],
)
def test_bad_settings(words: list[str], env: dict[str, str], part: str, run_watched: RunWatched) -> None:
    """A bad setting is refused in one line that names it, from the command line or the environment."""
    assert part in one_line(run_watched(*words, "-c", "print('started')", env=env))


@pytest.mark.parametrize(
    "words", [["--reprot", "x"], ["--rep", "x"], ["--mode", "nonsense"], ["--exit-status", "x"]]
)
def test_wrong_options(words: list[str], run_watched: RunWatched) -> None:
    """Unknown, shortened and malformed options are argparse's business: usage, the error, status 2."""
    done = run_watched(*words, "-c", "print('started')")
    assert (done.returncode, done.stdout) == (2, "")
    assert "lockwatch run: error:" in done.stderr


def test_console_script(write: Write, tmp_path: Path) -> None:
    """The installed command does what ``python -m lockwatch`` does, and leaves its own folder out of sys.path."""
    command = Path(sysconfig.get_path("scripts"), "lockwatch")
    if not command.exists():
        pytest.skip("lockwatch is not installed here")
    write("show.py", "import sys; print(sys.argv, sys.path[0]); print(*sys.path, sep='\\n')")
    done = subprocess.run(
        [command, "run", "show.py", "-x"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"['show.py', '-x'] {os.path.realpath(tmp_path)}\n")
    assert str(command.parent) not in done.stdout.splitlines()
