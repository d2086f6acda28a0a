"""The documentation cannot rot: its programs run, its transcripts come out as shown, it names all there is.

Marks in the Markdown files, as comments in front of a code block:

``<!-- file: NAME -->``
    the block is the file NAME of the reader's folder. With ``from OTHER FUNCTION`` after the name, the file is OTHER
    with that function replaced by the block.
``<!-- run -->``
    the block is a transcript: its commands are run in that folder, and what they print is compared with what is shown.

All blocks of a page share one folder, in order. A line ``...`` in a transcript stands for any lines, ``^C`` is a press
of Ctrl-C after a while, ``$ echo $?`` shows the status of the command before. Compared is what is stable: numbers of
threads, times, folders and the interpreter's own line numbers are not. Which thread closes a deadlock is a race, so a
command has several tries.
"""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import lockwatch
from lockwatch import findings
from lockwatch.cli import VERBS, run
from lockwatch.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [
    REPOSITORY / "README.md",
    *(
        REPOSITORY / "docs" / f"{name}.md"
        for name in (
            "index",
            "tutorial",
            "tutorial-asyncio",
            "howto-run",
            "howto-lock-order",
            "howto-leaks",
            "howto-install",
            "howto-report",
            "howto-pytest",
            "reference",
            "explanation-mutex",
            "explanation-detector",
            "explanation-waits",
            "explanation-asyncio",
        )
    ),
]
TRIES = 5
TIME_LIMIT = 20.0
"""Seconds that one command of a transcript may take."""
READERS = {"PYTHONUNBUFFERED": "1", "PYTEST_ADDOPTS": "-p no:randomly"}
"""What is set for a command: a reader's tests run in the order in which they stand."""
UNTIL_CTRL_C = 2.0
"""Seconds that a program gets to hang before Ctrl-C is pressed."""

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>(?:file|run)\b.*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_NOT_STABLE = [
    (re.compile(r"\bident \d+, native id \d+"), "IDS"),
    (re.compile(r"; (working|asleep|blocked in a system call), [\d.]+ s CPU"), ""),
    (re.compile(r"\b(under 1 ms|\d+ ms|[\d.]+ s)\b"), "TIME"),
    (re.compile(r"\bprocess \d+"), "PROCESS"),
    (re.compile(r"\bfingerprint \w+"), "FINGERPRINT"),
    (re.compile(r'File "[^"]*?([^"/\\]+)"'), r'File "\1"'),
    (re.compile(r'(File "(?:threading|_base|thread)\.py", line) \d+'), r"\1 N"),
    (re.compile(r"\s+"), " "),
]


class Block(NamedTuple):
    """One fenced block: its mark ("" for none), its language, its text, and where it stands."""

    mark: str
    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    content = page.read_text(encoding="utf-8")
    return [
        Block(
            found["mark"] or "", found["language"], found["text"], content.count("\n", 0, found.start()) + 1
        )
        for found in _BLOCK.finditer(content)
    ]


def stable(text: str) -> list[str]:
    """Lines of output without what differs from run to run, and without the marks under a traceback's lines."""
    lines = []
    for line in text.splitlines():
        kept = line.strip()
        if not kept.strip(" ~^") and kept != "^C":
            continue
        for pattern, substitute in _NOT_STABLE:
            kept = pattern.sub(substitute, kept)
        lines.append(kept)
    return lines


def matches(shown: list[str], printed: list[str]) -> bool:
    """Whether the printed lines are those shown, where ``...`` stands for any number of lines."""
    if not shown:
        return not printed
    if shown[0] == "...":
        return any(matches(shown[1:], printed[start:]) for start in range(len(printed) + 1))
    return bool(printed) and shown[0] == printed[0] and matches(shown[1:], printed[1:])


def conversation(transcript: str) -> Iterator[tuple[str, str]]:
    """The commands of a transcript, each with the output that is shown for it."""
    for part in re.split(r"^\$ ", transcript, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def command_line(command: str) -> tuple[list[str], dict[str, str]]:
    """What to start for a command of a transcript, and the variables set in front of it."""
    words = shlex.split(command)
    variables: dict[str, str] = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    programs = {"python": [sys.executable], "lockwatch": [sys.executable, "-m", "lockwatch"]}
    return [*programs[words[0]], *words[1:]], variables


def execute(
    command: str, folder: Path, presses: int, environment: Callable[..., dict[str, str]]
) -> tuple[str, int]:
    """Runs one command; returns what it printed, with a line ``^C`` for each press of Ctrl-C, and its status."""
    words, variables = command_line(command)
    printed = ""
    child = subprocess.Popen(
        words,
        cwd=folder,
        env={**environment(variables), **READERS},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A test run in the background ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    try:
        for _ in range(presses):
            with pytest.raises(subprocess.TimeoutExpired):  # else it ended by itself: it does not hang
                child.communicate(timeout=UNTIL_CTRL_C)
            child.send_signal(signal.SIGINT)
        printed, _ = child.communicate(timeout=TIME_LIMIT)
    finally:
        child.kill()
        child.wait()
    return printed, child.returncode


def walk_through(page: Path, folder: Path, environment: Callable[..., dict[str, str]]) -> int:
    """Does what a page tells its reader to do; returns how many commands that were."""
    commands = 0
    for block in blocks(page):
        if block.mark.startswith("file: "):
            name, *source = block.mark.removeprefix("file: ").split()
            text = block.text
            if source:
                _, other, function = source
                text, count = re.subn(
                    rf"^def {function}\(.*?(?=^\S)",
                    text + "\n\n",
                    (folder / other).read_text(),
                    flags=re.MULTILINE | re.DOTALL,
                )
                assert count == 1, f"{other} has no function {function}"
            (folder / name).write_text(text, encoding="utf-8")
        elif block.mark == "run":
            status = 0
            for command, output in conversation(block.text):
                commands += 1
                where = f"{page.name}, block at line {block.line}: $ {command}"
                shown = stable(output)
                if command == "echo $?":
                    assert shown == [str(status)], where
                    continue
                presses = shown.count("^C")
                shown = [line for line in shown if line != "^C"]
                printed = ""
                for _ in range(TRIES):
                    printed, status = execute(command, folder, presses, environment)
                    if matches(shown, stable(printed)):
                        break
                else:
                    pytest.fail(f"{where}\n--- shown\n{output}\n--- printed\n{printed}", pytrace=False)
    return commands


@pytest.fixture
def environment() -> Callable[..., dict[str, str]]:
    """The environment of a child: the package under test, no settings of lockwatch from outside."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(
        "lockwatch_tests_conftest", REPOSITORY / "tests" / "conftest.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Callable[..., dict[str, str]] = module.child_environment
    return made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_does_what_it_shows(
    page: Path, tmp_path: Path, environment: Callable[..., dict[str, str]]
) -> None:
    """Every marked program runs, and every marked transcript comes out as shown."""
    marks = sum(block.mark == "run" for block in blocks(page))
    commands = walk_through(page, tmp_path, environment)
    assert commands >= marks
    assert marks or page.stem not in {"README", "tutorial"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_blocks_are_code(page: Path) -> None:
    """Python blocks compile and TOML blocks parse, also those that are not run."""
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, f"{page.name}:{block.line}", "exec")
        elif block.language == "toml":
            tomllib.loads(block.text)


def anchors(page: Path) -> set[str]:
    """The anchors that a Markdown renderer gives to a page's headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    """Links between pages name a file that is there, and a heading that it has."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if target.suffix == ".svg":  # drawn by the benchmarks
            continue
        assert target.is_file(), f"{link} in {page.name}"
        assert not anchor or anchor in anchors(target), f"{link} in {page.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_machine_paths(page: Path) -> None:
    """Pasted output shows no path of the machine that it was made on."""
    assert not re.findall(
        r"/(?:tmp|root|work|home/(?!me/))\S*|site-packages|pyenv", page.read_text(encoding="utf-8")
    )


def test_readme_opens_with_two_commands() -> None:
    """The first two transcripts of the README are the two commands, with extras that exist."""
    page = REPOSITORY / "README.md"
    first, second = [block.text for block in blocks(page) if block.language == "console"][:2]
    assert first == "$ python -m pip install . && lockwatch demo\n"
    assert second == '$ python -m pip install ".[test]" && python -m pytest\n'
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "test" in project["optional-dependencies"]


# --- the reference is complete ---------------------------------------------------------------------------

REFERENCE = (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8")
"""The text of the reference page."""


@pytest.mark.parametrize("name", lockwatch.__all__)
def test_reference_has_every_public_name(name: str) -> None:
    """Each name that the package exports is in the reference, as code."""
    assert re.search(rf"`(?:lockwatch\.)?{re.escape(name)}\b", REFERENCE)


@pytest.mark.parametrize("field", fields(Config), ids=lambda field: field.name)
def test_reference_has_every_setting(field: object) -> None:
    """Each setting has a row with its variable and its default as it is."""
    name, default = field.name, field.default  # type: ignore[attr-defined]
    variable = "LOCKWATCH_" + name.upper()
    shown = str(default).lower() if default is None or isinstance(default, bool) else str(default)
    rows = [line for line in REFERENCE.splitlines() if line.startswith(f"| `{name}` | `{variable}`")]
    assert len(rows) == 1
    assert f"| `{shown}` |" in rows[0] or (default is None and "| none |" in rows[0])


def test_reference_has_every_option() -> None:
    """Each verb and each option of ``lockwatch run`` is in the reference, and none that does not exist."""
    documented = set(re.findall(r"^\| `(--[a-z-]+)", REFERENCE, flags=re.MULTILINE))
    assert documented == {flag for flag, _ in run.OPTIONS}
    for verb in VERBS:
        assert f"### `lockwatch {verb}`" in REFERENCE


def test_reference_has_the_vocabularies() -> None:
    """Every kind, cause and level of findings, and every key of their JSON form, is in the reference."""
    values = [
        findings.Finding,
        findings.Party,
        findings.Hold,
        findings.WaitsFor,
        findings.Site,
        findings.Frame,
        findings.Cpu,
    ]
    keys = [field.name for value in values for field in fields(value)]
    for word in (*findings.KINDS, *findings.CAUSES, *findings.LEVELS, *findings.CPU_STATES, *keys):
        assert f"`{word}`" in REFERENCE, word
