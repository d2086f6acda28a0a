"""The wait at interpreter exit is a wait like any other, and ends as it did without lockwatch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import RunPython


def test_exit_waits_for_threads(run_python: RunPython) -> None:
    """The interpreter still waits for threads, runs threading's own exit functions, and ends with the same status."""
    done = run_python("""
        import sys, threading, time
        import lockwatch
        lockwatch.install()
        import concurrent.futures
        pool = concurrent.futures.ThreadPoolExecutor(1)
        pool.submit(print, "pool", flush=True)

        def work():
            threading.main_thread().join(0.2)
            print("worked", flush=True)

        threading.Thread(target=work).start()
        sys.exit(3)
    """)
    assert (done.returncode, sorted(done.stdout.split()), done.stderr) == (3, ["pool", "worked"], "")


def test_the_main_thread_is_seen_waiting(run_python: RunPython) -> None:
    """While the interpreter waits for its threads, that wait is in the table of waits."""
    done = run_python("""
        import threading, time
        import lockwatch
        lockwatch.install()

        def work():
            from lockwatch._core import agents
            main = agents.by_ident[threading.main_thread().ident]
            for _ in range(200):
                if any(wait.resource.kind == "interpreter exit" for wait in main.waits):
                    print("seen", flush=True)
                    return
                time.sleep(0.01)

        threading.Thread(target=work).start()
        threading.Lock().acquire()
    """)
    assert (done.returncode, done.stdout) == (0, "seen\n"), done.stderr


def test_inactive_wrappers_pass_through(run_python: RunPython) -> None:
    """After uninstall, and inside somebody else's wrapper, ours only calls the original, once."""
    done = run_python("""
        import threading
        import lockwatch
        original = threading._shutdown
        calls = []
        threading._shutdown = lambda: (calls.append("original"), original())
        lockwatch.install()
        ours = threading._shutdown
        threading._shutdown = lambda: (calls.append("theirs"), ours())
        lockwatch.uninstall()
        lockwatch.install()
        import atexit
        atexit.register(lambda: print(calls))
    """)
    assert (done.returncode, done.stdout) == (0, "['theirs', 'original']\n"), done.stderr
