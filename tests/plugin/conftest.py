"""Helpers for tests of the pytest plugin: a suite is written and run in a pytest of its own, with a time limit."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT = 90.0
"""Seconds that a run may take; most take two."""

ALONE = ("-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:run-parallel")
"""Without plugins that change the order, the folder, or print warnings of their own."""


class Run:
    """What came of a run.

    Attributes:
        status: the exit status.
        out, err: what was printed.
    """

    def __init__(self, result: pytest.RunResult) -> None:
        self.status = int(result.ret)
        self.out = "\n".join(result.outlines)
        self.err = "\n".join(result.errlines)
        self._result = result

    def outcomes(self) -> dict[str, int]:
        """Return how many tests ended how, without warnings."""
        return {word: count for word, count in self._result.parseoutcomes().items() if word != "warnings"}

    def words(self) -> dict[str, list[str]]:
        """Return, for each test by its name, the words of its outcomes; needs ``-v``."""
        found: dict[str, list[str]] = {}
        for name, word in re.findall(r"^\S+?::(\S+) ([A-Z]+)\b", self.out, re.MULTILINE):
            found.setdefault(name, []).append(word)
        return found


class RunTests(Protocol):
    """The type of the ``run_tests`` fixture; see there."""

    def __call__(
        self,
        source: str,
        *args: str,
        ini: str = "",
        files: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        watched: bool = True,
        alone: bool = True,
        stdin: bytes | None = None,
        limit: float = LIMIT,
    ) -> Run: ...


@pytest.fixture
def run_tests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> RunTests:
    """Runs a suite in a pytest of its own: ``run_tests(source_of_test_it_py, *options)``.

    ``ini`` are lines for pytest.ini, ``files`` more files by name; ``watched`` adds ``--lockwatch``.
    """
    for name in [name for name in os.environ if name.startswith(("LOCKWATCH", "PYTEST_XDIST"))]:
        monkeypatch.delenv(name)
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(REPOSITORY), before])))

    def run(
        source: str,
        *args: str,
        ini: str = "",
        files: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        watched: bool = True,
        alone: bool = True,
        stdin: bytes | None = None,
        limit: float = LIMIT,
    ) -> Run:
        for name, value in (env or {}).items():
            monkeypatch.setenv(name, value)
        pytester.makeini("[pytest]\n" + ini)
        for name, text in (files or {}).items():
            path = pytester.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        pytester.makepyfile(test_it=source)
        options = [*(ALONE if alone else ()), *(["--lockwatch"] if watched else []), *args]
        command = [*pytester._getpytestargs(), *options]
        return Run(pytester.run(*command, timeout=limit, stdin=stdin if stdin is not None else b""))

    return run


SELF = """
import threading

def test_dead():
    lock = threading.Lock()
    with lock:
        with lock:
            pass

def test_next():
    lock = threading.Lock()
    with lock:
        pass
"""
"""A test that waits for itself for ever, and one that does not."""
