"""The report file of ``lockwatch run``: there from the start, complete whatever the end, shared by children."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import RunWatched, Write
    from tests.conftest import RunPython


def findings(folder: Path) -> list[dict[str, Any]]:
    """The findings in the test's report file."""
    document = json.loads((folder / "report.json").read_text())
    assert document["schema"] == 1
    found: list[dict[str, Any]] = document["findings"]
    return found


def test_written_before_the_program_starts(run_watched: RunWatched, tmp_path: Path) -> None:
    """The program already finds the report, valid and empty, with its own command line in it."""
    code = "import json; print(json.load(open('report.json')))"
    done = run_watched("--report", "report.json", "-c", code, "argument")
    assert done.returncode == 0, done.stderr
    document = eval(done.stdout)
    assert (document["schema"], document["findings"]) == (1, [])
    assert document["argv"] == ["-c", "argument"]
    assert findings(tmp_path) == []


def test_an_older_report_is_replaced(run_watched: RunWatched, write: Write, tmp_path: Path) -> None:
    """Findings of an earlier run do not count for this one."""
    write(
        "report.json", '{"schema": 1, "findings": [{"kind": "deadlock", "level": "error", "message": "old"}]}'
    )
    assert run_watched("--report", "report.json", "-c", "pass").returncode == 0
    assert findings(tmp_path) == []


@pytest.mark.parametrize(
    "end",
    [
        "",
        "raise ValueError",
        "raise KeyboardInterrupt",
        "os._exit(0)",
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)",
        "os.kill(os.getpid(), signal.SIGKILL); time.sleep(9)",
        "os.execv(sys.executable, [sys.executable, '-c', ''])",
        "os.chdir('/')",
        "deadlocks.deadlock()",
    ],
)
def test_complete_whatever_the_end(
    end: str, run_watched: RunWatched, write: Write, deadlock_module: Path, tmp_path: Path
) -> None:
    """A finding is in the file as soon as it was made."""
    write("end.py", f"import deadlocks, os, signal, sys, time\ndeadlocks.deadlock()\n{end}\n")
    run_watched("--report", "report.json", "end.py")
    found = findings(tmp_path)
    assert [(one["kind"], one["level"]) for one in found] == [("deadlock", "error")] * (
        2 if "deadlock" in end else 1
    )


def test_an_uncaught_deadlock(run_watched: RunWatched, write: Write, tmp_path: Path) -> None:
    """A program that dies of its DeadlockError: status 1, the report in the file and with the traceback."""
    write("end.py", "import threading\nlock = threading.Lock()\nwith lock:\n    with lock:\n        pass\n")
    done = run_watched("--report", "report.json", "end.py")
    assert done.returncode == 1
    assert "DeadlockError" in done.stderr
    assert "cli/run.py" not in done.stderr.replace("\\", "/")
    assert len(findings(tmp_path)) == 1


CHILDREN = {
    "fork, caught": """
        child = os.fork()
        if not child:
            deadlocks.deadlock()
            os._exit(0)
        os.waitpid(child, 0)
        """,
    "fork of a fork": """
        child = os.fork()
        if not child:
            grandchild = os.fork()
            if not grandchild:
                deadlocks.deadlock()
                os._exit(0)
            os.waitpid(grandchild, 0)
            os._exit(0)
        os.waitpid(child, 0)
        """,
    "multiprocessing fork": "wait_for('fork')",
    "multiprocessing spawn": "wait_for('spawn')",
    "multiprocessing forkserver": "wait_for('forkserver')",
}


@pytest.mark.parametrize("report", [True, False], ids=["report", "no report"])
@pytest.mark.parametrize("case", CHILDREN)
def test_children_report_too(
    case: str, report: bool, run_watched: RunWatched, write: Write, deadlock_module: Path, tmp_path: Path
) -> None:
    """What a child finds is in the parent's file under the child's pid, and makes the parent's status 66."""
    write(
        "tools.py",
        """
        import multiprocessing
        from deadlocks import deadlock

        def wait_for(method):
            process = multiprocessing.get_context(method).Process(target=deadlock)
            process.start()
            process.join()
            assert process.exitcode == 0, process.exitcode
        """,
    )
    start = "import deadlocks, os\nfrom tools import wait_for\nif __name__ == '__main__':\n"
    start += "    print(os.getpid(), flush=True)\n"
    body = textwrap.indent(textwrap.dedent(CHILDREN[case]), "    ")
    write("parent.py", start + body)
    done = run_watched(*(["--report", "report.json"] if report else []), "parent.py", timeout=60)
    assert done.returncode == 66, done.stderr
    if report:
        (found,) = findings(tmp_path)
        assert found["kind"] == "deadlock"
        assert found["pid"] != int(done.stdout)


def test_many_processes_at_once(
    run_watched: RunWatched, write: Write, deadlock_module: Path, tmp_path: Path
) -> None:
    """Eight children and their parent that report at the same time lose nothing."""
    write(
        "parent.py",
        """
        import deadlocks, os
        children = []
        for _ in range(8):
            child = os.fork()
            if not child:
                for _ in range(3):
                    deadlocks.deadlock()
                os._exit(0)
            children.append(child)
        deadlocks.deadlock()
        for child in children:
            os.waitpid(child, 0)
        """,
    )
    done = run_watched("--report", "report.json", "--quiet", "parent.py", timeout=60)
    assert done.returncode == 66, done.stderr
    found = findings(tmp_path)
    assert len({one["pid"] for one in found}) == 9
    assert len(found) == 25


def test_observe_does_not_raise(run_watched: RunWatched, write: Write, tmp_path: Path) -> None:
    """``--mode observe`` reports what it found and leaves the program alone, which then hangs or ends by itself."""
    write(
        "observed.py",
        """
        import os, threading, time
        first, second = threading.Lock(), threading.Lock()
        both = threading.Barrier(2)
        def work(mine, other):
            with mine:
                both.wait()
                with other:
                    pass
        for pair in ((first, second), (second, first)):
            threading.Thread(target=work, args=pair, daemon=True).start()
        time.sleep(1)
        """,
    )
    done = run_watched("--report", "report.json", "--mode", "observe", "observed.py")
    assert done.returncode == 66, done.stderr
    (found,) = findings(tmp_path)
    assert (found["kind"], found["cause"], len(found["parties"])) == ("deadlock", "cycle", 2)
    assert "Traceback" not in done.stderr


def test_closed_stderr_is_left_alone(
    run_python: RunPython, write: Write, deadlock_module: Path, tmp_path: Path
) -> None:
    """A program started without stderr may get fd 2 for a file of its own: no finding is written there."""
    write(
        "inner.py",
        """
        import deadlocks, os
        file = os.open("own.txt", os.O_CREAT | os.O_WRONLY)
        assert file == 2
        deadlocks.deadlock()
        os.write(file, b"own")
        """,
    )
    done = run_python("""
        import os, sys
        os.close(2)
        os.execv(sys.executable, [sys.executable, "-m", "lockwatch", "run", "--report", "report.json", "inner.py"])
        """)
    assert done.returncode == 66
    assert (tmp_path / "own.txt").read_text() == "own"
    assert len(findings(tmp_path)) == 1
