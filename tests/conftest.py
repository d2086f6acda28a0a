"""Fixtures for every test: a child interpreter with a time limit, and a guard against threads left blocked.

Whatever patches ``threading`` or may hang belongs in a child (``run_python``): there a hang costs its time
limit, and its test fails with every thread's stack instead of stopping the suite.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import textwrap
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

REPOSITORY = Path(__file__).resolve().parent.parent


def bring_c_twin() -> None:
    """Puts the compiled fast path of the installed package beside its source: `python -m pytest` tests the source tree."""
    name = f"lockwatch/_core/_fastpath{sysconfig.get_config_var('EXT_SUFFIX')}"
    ours = REPOSITORY / name
    for distribution in importlib.metadata.distributions(name="lockwatch"):
        built = Path(str(distribution.locate_file(name)))
        if built == ours or not built.exists():
            continue  # what an installation has left in the source tree, for example
        if not ours.exists() or ours.stat().st_mtime < built.stat().st_mtime:
            fresh = ours.with_suffix(f".{os.getpid()}")
            shutil.copy2(built, fresh)
            fresh.replace(ours)  # in one step, for workers that start side by side


bring_c_twin()

JOIN_LIMIT = 5.0
"""Seconds that a test's threads get to end once the test is over."""


@pytest.fixture(autouse=True)
def no_lock_order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of deadlocks take locks in conflicting orders on purpose: only tests/order learns from it here."""
    if "order" not in request.path.parts[:-1] and "lockwatch._core.lockorder" in sys.modules:
        monkeypatch.setattr("lockwatch._core.lockorder.look", lambda *_: None)


class RunPython(Protocol):
    """The type of the ``run_python`` fixture; see there."""

    def __call__(
        self,
        code_or_path: str | Path | None,
        *args: str,
        timeout: float = 20,
        env: Mapping[str, str | None] | None = None,
        interpreter_args: Sequence[str] = (),
        cwd: str | Path | None = None,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]: ...


def child_environment(changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """A child interpreter's environment: ours, of lockwatch's settings only the twin, the package under test on its path.

    Args:
        changes: variables to set; None as a value removes one.

    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LOCKWATCH") or name == "LOCKWATCH_PURE"  # the twin under test
    }
    found = importlib.util.find_spec("lockwatch")
    if found is not None and found.origin is not None and Path(found.origin).is_relative_to(REPOSITORY):
        # The suite runs on the source tree: so must its children, wherever their sys.path[0] points.
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(REPOSITORY), *filter(None, [environment.get("PYTHONPATH")])]
        )
    environment["PYTHONFAULTHANDLER"] = "1"
    for name, value in (changes or {}).items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    return environment


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    """Runs code in a fresh interpreter, as ``run_python(code_or_path, *args, ...)``.

    ``code_or_path`` is a program's text (dedented, written to ``program.py`` in the test's folder and run from
    there, so that reports can quote its lines), a Path (or a one-line string that ends in ``.py``) of a script, or
    None, ``"-m"`` or ``"-c"``: then ``args`` go to the interpreter as they are, as in
    ``run_python("-m", "lockwatch", "run", "x.py")``.

    The child gets no LOCKWATCH settings from outside, runs in the test's own folder and in a process group of its
    own, and its output is captured as text. After ``timeout`` seconds every process of the group dumps its stacks
    (faulthandler) and is killed, and the test fails with the output so far.
    """

    def run(
        code_or_path: str | Path | None,
        *args: str,
        timeout: float = 20,
        env: Mapping[str, str | None] | None = None,
        interpreter_args: Sequence[str] = (),
        cwd: str | Path | None = None,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-X", "faulthandler", *interpreter_args]
        if code_or_path is None:
            pass
        elif isinstance(code_or_path, Path) or code_or_path in {"-m", "-c"}:
            command.append(str(code_or_path))
        elif "\n" not in code_or_path and code_or_path.endswith(".py"):
            command.append(code_or_path)
        else:
            program = tmp_path / "program.py"
            program.write_text(textwrap.dedent(code_or_path).lstrip("\n"), encoding="utf-8")
            command.append(str(program))

        return _run(
            [*command, *args],
            timeout=timeout,
            environment=child_environment(env),
            cwd=str(cwd or tmp_path),
            stdin=stdin,
        )

    return run


def _run(
    command: list[str], *, timeout: float, environment: dict[str, str], cwd: str, stdin: str | None
) -> subprocess.CompletedProcess[str]:
    child = subprocess.Popen(
        command,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        stdout, stderr = child.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        stdout, stderr = _put_down(child)
        pytest.fail(
            f"still running after {timeout} s: {' '.join(command)}\n--- stdout\n{stdout}\n--- stderr\n{stderr}",
            pytrace=False,
        )
    except BaseException:
        _put_down(child)
        raise
    return subprocess.CompletedProcess(command, child.returncode, stdout, stderr)


def _put_down(child: subprocess.Popen[str]) -> tuple[str, str]:
    """Ends a child and its whole group, the stacks of all their threads first; returns the output so far."""
    for number in (signal.SIGABRT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(2)
    # A grandchild that left the group may hold the pipes open: read what there is, and no longer.
    try:
        return child.communicate(timeout=2)
    except subprocess.TimeoutExpired as late:
        return as_text(late.stdout), as_text(late.stderr)


def as_text(output: bytes | str | None) -> str:
    """What a child wrote before its time was up; subprocess keeps that as bytes even in text mode."""
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


@pytest.fixture(autouse=True)
def _no_thread_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test whose threads are still there some seconds after it, with their stacks."""
    before = set(threading.enumerate())
    yield
    if request.node.get_closest_marker("leaves_threads"):
        return
    deadline = time.monotonic() + JOIN_LIMIT
    left = [
        one for one in threading.enumerate() if one not in before and not one.name.startswith("lockwatch")
    ]
    for thread in left:
        if not isinstance(thread, threading._DummyThread):
            thread.join(max(0.0, deadline - time.monotonic()))
    if not left:
        return
    from lockwatch._core.frames import current_frames

    frames = current_frames()
    stuck = [
        f"{thread!r}\n{''.join(traceback.format_stack(frames[thread.ident]))}"
        for thread in left
        if thread.is_alive() and thread.ident in frames and not isinstance(thread, threading._DummyThread)
    ]
    if stuck:
        pytest.fail("threads left behind:\n" + "\n".join(stuck), pytrace=False)


@pytest.fixture(autouse=True)
def _no_lock_left_held() -> Iterator[None]:
    """Fails a test whose own thread holds a lock after it: later tests would run under that lock."""
    before = _held().keys()
    yield
    deadline = time.monotonic() + JOIN_LIMIT
    while (left := _held().keys() - before) and time.monotonic() < deadline:
        gc.collect()  # a lock that nobody can reach, but perhaps a thread that has not quite ended
        time.sleep(0.01)
    if left:
        pytest.fail(
            f"locks left held: {[hold for key, hold in _held().items() if key in left]}", pytrace=False
        )


def _held() -> dict[int, tuple[object, ...]]:
    agents = sys.modules.get("lockwatch._core.agents")
    return dict(agents.current().holds) if agents else {}
