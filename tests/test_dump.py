"""The dump signal: who holds what, who waits for what and where each thread stands, while the main thread is blocked."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from lockwatch import config
from lockwatch.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunPython

BLOCKED = {
    "lock": (
        "thing = threading.Lock(); thing.acquire()",
        "thing.acquire()",
        "thing.release()",
        "Lock 'thing'",
    ),
    "condition": (
        "thing = threading.Condition(); thing.acquire()",
        "thing.wait()",
        "thing.acquire(); thing.notify(); thing.release()",
        "Condition 'thing'",
    ),
    "event": ("thing = threading.Event()", "thing.wait()", "thing.set()", "Event 'thing'"),
    "queue": ("thing = queue.Queue()", "thing.get()", "thing.put(1)", "Queue 'thing'"),
    "simple queue": ("thing = queue.SimpleQueue()", "thing.get()", "thing.put(1)", "SimpleQueue"),
    "join": (
        "go_on = threading.Event(); thing = threading.Thread(target=go_on.wait, name='joined'); thing.start()",
        "thing.join()",
        "go_on.set()",
        "end of thread 'joined'",
    ),
    "semaphore": (
        "thing = threading.Semaphore(0)",
        "thing.acquire()",
        "thing.release()",
        "Semaphore 'thing'",
    ),
    "future": (
        "from concurrent.futures import Future; thing = Future()",
        "thing.result()",
        "thing.set_result(1)",
        "Future 'thing'",
    ),
}

PROGRAM = """
import os, queue, signal, sys, threading, time
import lockwatch
{install}
from lockwatch._core import agents

errors = os.open("errors", os.O_CREAT | os.O_RDWR)
os.dup2(errors, 2)
mine = threading.Lock()
ready = []

def blocked():
    agent = agents.by_ident.get(threading.main_thread().ident)
    return ready and agent is not None and agent.waits  # it also waits for a thread that it starts

def written():
    return os.pread(errors, 1_000_000, 0).decode()

def sender():
    with mine:
        deadline = time.monotonic() + 15
        while not blocked() and time.monotonic() < deadline:
            time.sleep(0.005)
        for number in (1, 2):
            os.kill(os.getpid(), {signal})
            while written().count("in sender") < number and time.monotonic() < deadline:
                time.sleep(0.005)  # sending
        {end}

{make}
thread = threading.Thread(target=sender, name="sender")
thread.start()
ready.append(1)
{wait}  # the wait
thread.join()
assert not lockwatch.recorded_findings()
os.write(1, b"went on")
"""


@pytest.mark.parametrize("kind", list(BLOCKED))
def test_while_main_is_blocked(run_python: RunPython, tmp_path: Path, kind: str) -> None:
    """The signal prints holders, waits and stacks, twice if it comes twice, and the wait goes on until it is ended."""
    make, wait, end, resource = BLOCKED[kind]
    text = PROGRAM.format(
        install="lockwatch.install(cpu=False, dump_signal=signal.SIGUSR1)",
        signal="signal.SIGUSR1",
        make=make,
        wait=wait,
        end=end,
    )
    done = run_python(text)
    assert (done.returncode, done.stdout) == (0, "went on"), (tmp_path / "errors").read_text()
    dump = (tmp_path / "errors").read_text()
    assert dump.count("DUMP of process") == 2
    assert "Thread 'MainThread'" in dump
    assert "Thread 'sender'" in dump
    assert f"waits for {resource}" in dump
    assert "Lock 'mine'" in dump
    line = next(
        number for number, line in enumerate(text.lstrip("\n").splitlines(), 1) if "# the wait" in line
    )
    assert f"program.py:{line} in <module>" in dump or f'program.py", line {line}, in <module>' in dump
    assert "in sender" in dump


@pytest.mark.parametrize(
    "way", ["environment", "number in the environment", "configure", "name", "pyproject"]
)
def test_ways_to_ask_for_it(run_python: RunPython, tmp_path: Path, way: str) -> None:
    """By a variable, by ``install(dump_signal=)`` with a name or number, by a file, by what was configured before."""
    install, env = "lockwatch.install(cpu=False)", {}
    if way == "environment":
        env = {"LOCKWATCH_DUMP_SIGNAL": "sigusr2"}
    elif way == "number in the environment":
        env = {"LOCKWATCH_DUMP_SIGNAL": "12"}
    elif way == "configure":
        install = "lockwatch.configure(dump_signal='SIGUSR2'); lockwatch.install(cpu=False)"
    elif way == "name":
        install = "lockwatch.install(cpu=False, dump_signal='SIGUSR2')"
    else:
        (tmp_path / "pyproject.toml").write_text("[tool.lockwatch]\ndump_signal = 'SIGUSR2'\n")
    text = PROGRAM.format(
        install=install,
        signal="signal.SIGUSR2",
        make="thing = threading.Event()",
        wait="thing.wait()",
        end="thing.set()",
    )
    done = run_python(text, env=env)
    assert (done.returncode, done.stdout) == (0, "went on")
    assert (tmp_path / "errors").read_text().count("DUMP of process") == 2


def test_it_is_no_handler_of_the_program(run_python: RunPython) -> None:
    """With our handler alone, a main thread that waits alone is asleep; with one of the program's it is not."""
    done = run_python(
        """
        import signal, threading, time
        import lockwatch
        lockwatch.install(cpu=False, dump_signal="SIGUSR1")
        for _ in range(2):
            try:
                threading.Event().wait()
            except lockwatch.DeadlockError:
                print("found")
        ready = threading.Event()
        signal.signal(signal.SIGALRM, lambda *_: ready.set())
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        ready.wait()
        print("went on")
        """
    )
    assert (done.returncode, done.stdout) == (0, "found\nfound\nwent on\n"), done.stderr


def test_signals_are_given_back(run_python: RunPython) -> None:
    """Uninstall puts back what was there before: a function, SIG_DFL or SIG_IGN; not if somebody else took it since."""
    done = run_python(
        """
        import signal, threading
        import lockwatch
        def handler(*_): pass
        for before in (handler, signal.SIG_IGN, signal.SIG_DFL):
            signal.signal(signal.SIGUSR1, before)
            for _ in range(2):
                lockwatch.install(cpu=False, dump_signal="SIGUSR1")
                lockwatch.install(dump_signal="SIGUSR1")
                assert signal.getsignal(signal.SIGUSR1) not in (before, None)
                lockwatch.uninstall()
                assert signal.getsignal(signal.SIGUSR1) == before
        lockwatch.install(dump_signal="SIGUSR1")
        signal.signal(signal.SIGUSR1, handler)
        lockwatch.uninstall()
        assert signal.getsignal(signal.SIGUSR1) is handler
        with lockwatch.installed(dump_signal="SIGUSR2"):
            assert signal.getsignal(signal.SIGUSR2) != signal.SIG_DFL
        assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
        """
    )
    assert done.returncode == 0, done.stderr


def test_without_one(run_python: RunPython) -> None:
    """Nobody asked for it: no signal is touched."""
    done = run_python(
        """
        import signal
        before = [signal.getsignal(number) for number in signal.valid_signals()]
        import lockwatch
        lockwatch.install(cpu=False)
        assert [signal.getsignal(number) for number in signal.valid_signals()] == before
        """
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "bad",
    [
        *("SIGFOO", "", "usr1", 0, -1, 12345, "12345", []),
        3.5,
        True,
    ],
    ids=repr,
)
def test_bad_names(bad: object) -> None:
    """What is no signal is refused by a ConfigError that names the setting and the value."""
    with pytest.raises(ConfigError, match="dump_signal cannot be"):
        config.Config.load(dump_signal=bad)


def test_bad_names_in_the_environment(run_python: RunPython) -> None:
    """The same for the variable, which is named."""
    done = run_python("import lockwatch\nlockwatch.install()\n", env={"LOCKWATCH_DUMP_SIGNAL": "SIGNONE"})
    assert done.returncode == 1
    assert "LOCKWATCH_DUMP_SIGNAL cannot be 'SIGNONE'" in done.stderr


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
def test_signals_that_cannot_be_caught(run_python: RunPython, name: str) -> None:
    """A signal that no handler can be set for is refused like any bad name, and nothing is installed."""
    check_refused(run_python, f"lockwatch.install(dump_signal={name!r})", "lockwatch.ConfigError")


def test_in_another_thread(run_python: RunPython) -> None:
    """Only the main thread can set handlers: an install elsewhere says so, and nothing is installed."""
    check_refused(
        run_python,
        """
        import threading
        caught = []
        def body():
            try:
                lockwatch.install(dump_signal="SIGUSR1")
            except BaseException as error:
                caught.append(error)
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        raise caught[0]
        """,
        "(lockwatch.InstallError, lockwatch.ConfigError)",
    )


def check_refused(run_python: RunPython, install: str, errors: str) -> None:
    """Run an install that must fail with one of the errors and change nothing."""
    body = "\n".join(f"    {line}" for line in dedent(install).strip().splitlines())
    done = run_python(
        f"""import threading
import lockwatch
before = threading.Lock, threading.Condition.wait
try:
{body}
except {errors}:
    pass
else:
    raise SystemExit("not refused")
assert not lockwatch.is_installed()
assert (threading.Lock, threading.Condition.wait) == before
"""
    )
    assert done.returncode == 0, done.stderr
