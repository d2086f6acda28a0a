"""How a process ends under ``lockwatch run``: the program's own way, or with 66 when an error was found."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import RunBoth, RunWatched, Write

ENDINGS = {
    "falls off the end": "",
    "exit": "import sys; sys.exit()",
    "exit 0": "import sys; sys.exit(0)",
    "exit 3": "import sys; sys.exit(3)",
    "exit True": "import sys; sys.exit(True)",
    "exit False": "import sys; sys.exit(False)",
    "exit 256": "import sys; sys.exit(256)",
    "exit -1": "import sys; sys.exit(-1)",
    "exit with words": "import sys; sys.exit('these words')",
    "exit with an object": "import sys; sys.exit([1, 2])",
    "exit in a thread": "import sys, threading; threading.Thread(target=sys.exit, args=(5,)).start()",
    "_exit": "import os; os._exit(9)",
    "_exit 0": "import os; os._exit(0)",
    "abort": """
        import faulthandler, os, resource
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.abort()
        """,
    "SIGTERM": "import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)",
    "SIGKILL": "import os, signal, time; os.kill(os.getpid(), signal.SIGKILL); time.sleep(9)",
    "SIGINT": "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "exec": "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'import sys; sys.exit(4)'])",
    "generator exit": "raise GeneratorExit",
    "order of the end": """
        import atexit, threading, sys, time, weakref
        class Last:
            def __del__(self):
                print("finalized")
        last = Last()
        class Thing: pass
        thing = Thing()
        weakref.finalize(thing, print, "weakref.finalize")
        atexit.register(print, "registered first")
        atexit.register(lambda: 1 / 0)
        atexit.register(lambda: print("main is over:", not threading.main_thread().is_alive()))
        def work():
            threading.main_thread().join()
            print("thread goes on")
        threading.Thread(target=work).start()
        threading._register_atexit(print, "threading's own")
        print("end of main")
        """,
    "exit in atexit": "import atexit, sys; atexit.register(lambda: sys.exit(5))",
    "atexit in atexit": "import atexit; atexit.register(lambda: atexit.register(print, 'late'))",
    "unflushed file": "file = open('kept.txt', 'w'); file.write('all of it')",
    "executor": """
        import concurrent.futures, time
        pool = concurrent.futures.ThreadPoolExecutor(2)
        pool.submit(lambda: (time.sleep(0.1), print("done")))
        """,
    "daemon": "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    "closed stdout": "import os; print('x' * 10); os.close(1)",
    "interrupted while threads end": """
        import atexit, os, signal, threading, time
        atexit.register(print, "atexit")
        threading.Thread(target=time.sleep, args=(0.6,)).start()
        def interrupt():
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt, daemon=True).start()
        """,
    "forked child goes on": """
        import atexit, os, sys
        atexit.register(lambda: print("atexit of the", who, flush=True))
        child = os.fork()
        who = "parent" if child else "child"
        if child:
            _, status = os.waitpid(child, 0)
            print("child ended with", os.waitstatus_to_exitcode(status), flush=True)
        else:
            sys.exit(12)
        """,
    "forked child falls off the end": """
        import os
        child = os.fork()
        if child:
            print("child ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        """,
}


@pytest.mark.parametrize("case", ENDINGS)
def test_same_ending(case: str, run_both: RunBoth, write: Write, tmp_path: Path) -> None:
    """A program in which nothing is found ends as under plain Python: status, signal, output, order of callbacks."""
    write("ending.py", ENDINGS[case])
    plain, watched = run_both("ending.py")
    assert re.sub("0x[0-9a-f]+", "0x", watched.stderr) == re.sub("0x[0-9a-f]+", "0x", plain.stderr)
    assert (watched.stdout, watched.returncode) == (plain.stdout, plain.returncode)
    if case == "unflushed file":
        assert (tmp_path / "kept.txt").read_text() == "all of it"


def test_status_too_large_for_c(run_both: RunBoth) -> None:
    """A status that does not fit is 255, also if its last byte is 0; what 3.13 complains about then is its own bug."""
    plain, watched = run_both("-c", "import sys; sys.exit(2**70)")
    assert watched.returncode == plain.returncode == 255


FOUND = {
    "in main": ("deadlock()", 66),
    "then exit 0": ("deadlock(); sys.exit(0)", 66),
    "in a thread": ("thread = threading.Thread(target=deadlock); thread.start(); thread.join()", 66),
    "after main returned": ("threading.Thread(target=late).start()", 66),
    "after sys.exit()": ("threading.Thread(target=late).start(); sys.exit()", 66),
    "in atexit": ("atexit.register(deadlock)", 66),
    "in the first atexit callback": ("atexit.register(deadlock); atexit.register(print)", 66),
    "in a forked child": (
        "child = os.fork()\nif not child: deadlock(); os._exit(0)\nos.waitpid(child, 0)",
        66,
    ),
    "in a child that ends by itself": (
        "child = os.fork()\nif child: os.waitpid(child, 0)\nelse: deadlock()",
        66,
    ),
    "in a child that atexit waits for": (
        "multiprocessing.get_context('fork').Process(target=late).start()",
        66,
    ),
    "but exit 3": ("deadlock(); sys.exit(3)", 3),
    "but exit with words": ("deadlock(); sys.exit('words')", 1),
    "but an exception": ("deadlock(); raise ValueError", 1),
    "but _exit": ("deadlock(); os._exit(0)", 0),
    "but SIGTERM": ("deadlock(); os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", -signal.SIGTERM),
    "but interrupted": ("deadlock(); raise KeyboardInterrupt", -signal.SIGINT),
}


@pytest.mark.parametrize("report", [False, True], ids=["no report", "report"])
@pytest.mark.parametrize("case", FOUND)
def test_status_tells_of_findings(
    case: str, report: bool, run_watched: RunWatched, write: Write, deadlock_module: Path, tmp_path: Path
) -> None:
    """66 if an error was found, as late as it may be, and the program's own status was 0; else the program's own."""
    code, status = FOUND[case]
    write("early.py", "import atexit, multiprocessing, os, signal, sys, threading, time")
    write(
        "found.py",
        "from early import *\nfrom deadlocks import deadlock\n"
        "def late():\n    time.sleep(0.3)\n    deadlock()\n" + code,
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = run_watched(
        *(["--report", "report.json"] if report else []), "found.py", env={"TMPDIR": str(scratch)}
    )
    assert done.returncode == status, done.stderr
    assert "DEADLOCK" in done.stderr
    if report:
        findings = json.loads((tmp_path / "report.json").read_text())["findings"]
        assert [finding["kind"] for finding in findings] == ["deadlock"]
    elif status >= 0 and "_exit(0)" not in code:
        assert list(scratch.iterdir()) == []


def test_exit_status_can_be_chosen(run_watched: RunWatched, write: Write, deadlock_module: Path) -> None:
    """``--exit-status N`` replaces 66, 0 included."""
    write("found.py", "import deadlocks; deadlocks.deadlock()")
    for status in (0, 1, 255):
        assert run_watched("--exit-status", str(status), "found.py").returncode == status


def test_quiet_prints_nothing(run_watched: RunWatched, write: Write, deadlock_module: Path) -> None:
    """``--quiet`` keeps findings off stderr; the status still tells."""
    write("found.py", "import deadlocks; deadlocks.deadlock()")
    done = run_watched("--quiet", "found.py")
    assert (done.returncode, done.stderr) == (66, "")


def test_files_are_flushed_with_66(
    run_watched: RunWatched, write: Write, deadlock_module: Path, tmp_path: Path
) -> None:
    """The changed status costs nothing of the interpreter's own end: open files are flushed, globals finalized."""
    write(
        "found.py",
        """
        import deadlocks, threading
        file = open("kept.txt", "w")
        file.write("all of it")
        class Last:
            def __del__(self):
                print("finalized")
        last = Last()
        threading.Thread(target=deadlocks.deadlock).start()
        """,
    )
    done = run_watched("found.py")
    assert (done.returncode, done.stdout) == (66, "finalized\n")
    assert (tmp_path / "kept.txt").read_text() == "all of it"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no /dev/full")
def test_temporary_report_is_private(
    run_watched: RunWatched, write: Write, deadlock_module: Path, tmp_path: Path
) -> None:
    """Without --report, the file shared with children can be read by nobody else."""
    write(
        "found.py",
        """
        import deadlocks, glob, os
        deadlocks.deadlock()
        print([oct(os.stat(name).st_mode & 0o777) for name in glob.glob(os.environ["TMPDIR"] + "/lockwatch-*")])
        """,
    )
    done = run_watched("found.py", env={"TMPDIR": str(tmp_path)})
    assert done.stdout == "['0o600']\n"
