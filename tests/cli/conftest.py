"""Fixtures for the command line: a program run plainly and under ``lockwatch run``, and programs that deadlock."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pytest

if TYPE_CHECKING:
    from tests.conftest import RunPython


class Pair(NamedTuple):
    """The same program's ends, under plain Python and under lockwatch."""

    plain: subprocess.CompletedProcess[str]
    watched: subprocess.CompletedProcess[str]


class RunBoth(Protocol):
    """The type of the ``run_both`` fixture; see there."""

    def __call__(
        self,
        *words: str,
        flags: Sequence[str] = (),
        options: Sequence[str] = (),
        env: Mapping[str, str | None] | None = None,
        stdin: str | None = None,
    ) -> Pair: ...


class RunWatched(Protocol):
    """The type of the ``run_watched`` fixture; see there."""

    def __call__(
        self,
        *words: str,
        flags: Sequence[str] = (),
        env: Mapping[str, str | None] | None = None,
        stdin: str | None = None,
        timeout: float = 20,
    ) -> subprocess.CompletedProcess[str]: ...


class Write(Protocol):
    """The type of the ``write`` fixture; see there."""

    def __call__(self, name: str, text: str | bytes) -> Path: ...


DEADLOCK = """
import threading

_lock = threading.Lock()

def deadlock():
    '''A certain deadlock, found at once; caught, so that the program can go on.'''
    try:
        with _lock:
            with _lock:
                pass
    except RuntimeError as error:
        assert type(error).__name__ == 'DeadlockError', error
    else:
        raise AssertionError('the lock was taken twice')
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write(name, text)`` writes a file into the test's folder, dedented if it is text, and returns its path."""

    def make(name: str, text: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, str):
            text = textwrap.dedent(text).lstrip("\n").encode()
        path.write_bytes(text)
        return path

    return make


@pytest.fixture
def run_watched(run_python: RunPython) -> RunWatched:
    """``run_watched(*words)`` runs ``python -m lockwatch run *words`` in the test's folder."""

    def run(
        *words: str,
        flags: Sequence[str] = (),
        env: Mapping[str, str | None] | None = None,
        stdin: str | None = None,
        timeout: float = 20,
    ) -> subprocess.CompletedProcess[str]:
        command = ["-m", "lockwatch", "run", *words]
        return run_python(None, *command, interpreter_args=flags, env=env, stdin=stdin, timeout=timeout)

    return run


@pytest.fixture
def run_both(run_python: RunPython, run_watched: RunWatched) -> RunBoth:
    """``run_both(*words)`` runs ``python *words`` and ``python -m lockwatch run *words`` in the test's folder."""

    def run(
        *words: str,
        flags: Sequence[str] = (),
        options: Sequence[str] = (),
        env: Mapping[str, str | None] | None = None,
        stdin: str | None = None,
    ) -> Pair:
        return Pair(
            run_python(None, *words, interpreter_args=flags, env=env, stdin=stdin),
            run_watched(*options, *words, flags=flags, env=env, stdin=stdin),
        )

    return run


@pytest.fixture
def deadlock_module(write: Write) -> Path:
    """A module ``deadlocks`` in the test's folder, whose ``deadlock()`` makes one error-level finding."""
    return write("deadlocks.py", DEADLOCK)


@pytest.fixture(scope="session")
def isolated_works() -> bool:
    """Whether ``python -I`` finds lockwatch: only if it is installed."""
    done = subprocess.run([sys.executable, "-I", "-c", "import lockwatch"], capture_output=True, check=False)
    return done.returncode == 0
