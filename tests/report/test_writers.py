"""Many writers of one report file: threads, processes, forks and handlers in the middle of a write."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lockwatch.findings import Finding
from lockwatch.report import jsonfile
from lockwatch.report.jsonfile import ReportFile, parse

if TYPE_CHECKING:
    from tests.conftest import RunPython


def finding(number: int, size: int = 0) -> Finding:
    """A finding that can be told apart."""
    return Finding(kind="leak", message=f"{number}", pid=number, advice="x" * size)


def pids(report: ReportFile) -> list[int]:
    """Which findings are in the file; it is valid JSON as it stands."""
    return [found.pid for found in parse(json.loads(Path(report.path).read_text(encoding="utf-8")))]


def test_threads(report: ReportFile) -> None:
    """Findings of many threads are all there, each thread's in order."""

    def work(number: int) -> None:
        for step in range(20):
            report.add(finding(number * 100 + step, 3000))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = pids(report)
    assert sorted(found) == [number * 100 + step for number in range(4) for step in range(20)]
    for number in range(4):
        mine = [pid for pid in found if pid // 100 == number]
        assert mine == sorted(mine)


def test_processes_of_all_kinds(report: ReportFile, run_python: RunPython) -> None:
    """Forked and spawned processes add to one file, and a reader in between always sees whole findings."""
    program = """
        import os, subprocess, sys
        from lockwatch.findings import Finding
        from lockwatch.report.jsonfile import ReportFile, parse

        path, depth = sys.argv[1], int(sys.argv[2])
        report = ReportFile(path)
        others = [] if depth == 0 else [
            subprocess.Popen([sys.executable, __file__, path, str(depth - 1)]) for _ in range(2)
        ]
        if hasattr(os, "fork") and os.fork() == 0:
            for step in range(15):
                report.add(Finding(kind="leak", message="child", advice="x" * 5000))
            os._exit(0)
        for step in range(15):
            report.add(Finding(kind="leak", message="parent", advice="x" * 5000))
            parse(report.read())
        for other in others:
            assert other.wait() == 0
        if hasattr(os, "fork"):
            assert os.wait()[1] == 0
    """
    done = run_python(program, report.path, "1", timeout=60)
    assert done.returncode == 0, done.stderr
    processes = 6 if hasattr(os, "fork") else 3
    doc = json.loads(Path(report.path).read_text(encoding="utf-8"))
    assert len(doc["findings"]) == processes * 15
    assert "damaged" not in doc
    assert doc["argv"] == ["app.py", "--fast"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_in_the_middle_of_a_write(run_python: RunPython, tmp_path: Path) -> None:
    """A child forked while another thread writes can write, although it has inherited the open, locked file."""
    program = """
        import os, sys, threading, time
        from lockwatch.findings import Finding
        from lockwatch.report import jsonfile

        report = jsonfile.ReportFile(sys.argv[1], [])
        report.create()
        inside, forked = threading.Event(), threading.Event()
        real = jsonfile._write_at

        def slow(fd, position, data):
            if threading.current_thread() is writer:
                inside.set()
                forked.wait()
            real(fd, position, data)

        jsonfile._write_at = slow
        writer = threading.Thread(target=report.add, args=(Finding(kind="leak", message="parent"),))
        writer.start()
        inside.wait()
        child = os.fork()
        if child == 0:
            report.add(Finding(kind="leak", message="child"))
            os._exit(0)
        forked.set()
        assert os.waitpid(child, 0)[1] == 0
        writer.join()
        print(sorted(found.message for found in jsonfile.parse(report.read())))
    """
    done = run_python(program, str(tmp_path / "r.json"))
    assert done.stdout == "['child', 'parent']\n", done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="flock")
def test_lock_that_is_never_let_go(report: ReportFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer does not wait for ever for somebody who holds the file."""
    import fcntl

    monkeypatch.setattr(jsonfile, "LOCK_TIMEOUT", 0.05)
    fd = os.open(report.path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match="still locked by another process"):
            report.add(finding(1))
        with pytest.raises(TimeoutError, match="cannot write the report: still locked"):
            report.create()
    finally:
        os.close(fd)
    report.add(finding(2))
    assert pids(report) == [2]


@pytest.mark.skipif(sys.platform == "win32", reason="flock")
def test_file_system_without_locks(report: ReportFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where locks cannot be had, findings are written all the same."""
    import fcntl

    def unsupported(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    report.add(finding(1))
    assert pids(report) == [1]


def test_add_that_interrupts_itself(report: ReportFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finding made by a signal handler or finalizer in the middle of add() does not wait for that add()."""
    real = jsonfile._write_at
    inside: list[int] = []

    def interrupted(fd: int, position: int, data: bytes) -> None:
        if not inside:
            inside.append(1)
            report.add(finding(2))
        real(fd, position, data)

    monkeypatch.setattr(jsonfile, "_write_at", interrupted)
    start = time.monotonic()
    report.add(finding(1))
    assert time.monotonic() - start < jsonfile.LOCK_TIMEOUT / 2
    assert pids(report) == [1, 2]
    assert report._writing == {}


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_signal_handlers_that_add(run_python: RunPython, tmp_path: Path) -> None:
    """Handlers that add findings at any line of add() lose none and never stall."""
    program = """
        import signal, sys, time
        from lockwatch.findings import Finding
        from lockwatch.report import jsonfile

        report = jsonfile.ReportFile(sys.argv[1], [])
        report.create()
        added = 0

        def handler(number, frame):
            global added
            added += 1
            report.add(Finding(kind="leak", message="handler"))

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
        end, start = time.monotonic() + 1, time.monotonic()
        own = 0
        while time.monotonic() < end:
            own += 1
            report.add(Finding(kind="leak", message="own"))
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert time.monotonic() - start < 5
        found = [finding.message for finding in jsonfile.parse(report.read())]
        assert found.count("own") == own, (found.count("own"), own)
        assert found.count("handler") == added, (found.count("handler"), added)
        assert added > 10
    """
    done = run_python(program, str(tmp_path / "r.json"), timeout=40)
    assert done.returncode == 0, done.stderr
