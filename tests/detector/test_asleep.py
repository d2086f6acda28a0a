"""Nobody is left awake: waits that anybody could end, and nobody to do it. Each in an interpreter of its own.

The twins are as important: a thread that sleeps, a timer, a signal handler, or a thread that Python does not know of may
still end such a wait. Where a twin would wait for ever, an alarm with its default action kills the process: that is no
Python handler, so it does not count as somebody awake.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import RunPython

Json = dict[str, Any]

PRELUDE = """
import ctypes, faulthandler, os, signal, sys, threading, time
import lockwatch
from lockwatch import config
config.configure(cpu=False)

def new_signal():
    "A lock whose class is known as a signal; it is held."
    lock = lockwatch.Lock(name="signal")
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    lock.acquire()
    return lock

def say(*words):
    "Print one line in one call, so that the lines of two threads do not mix."
    sys.stdout.write(" ".join(map(str, words)) + "\\n")

def outcome(wait):
    "Print how a wait ended."
    try:
        wait()
    except lockwatch.DeadlockError as error:
        found = error.finding
        say(found.cause, *sorted(party.name for party in found.parties),
              "victim:", *[party.name for party in found.parties if party.victim])
    else:
        say("went on")
    assert len(lockwatch.recorded_findings()) <= 1

lock = new_signal()
"""


def outcome(run_python: RunPython, body: str) -> str:
    """Runs a program after the prelude and returns what it prints."""
    done = run_python(PRELUDE + dedent(body))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def assert_waits_on(run_python: RunPython, body: str) -> None:
    """Asserts that a program that waits for ever gets no error: it must still be there when the alarm kills it."""
    done = run_python(PRELUDE + "signal.setitimer(signal.ITIMER_REAL, 0.5)\n" + dedent(body))
    assert done.returncode == -signal.SIGALRM, (done.stdout, done.stderr)
    assert done.stdout == ""


def test_alone(run_python: RunPython) -> None:
    """The only thread waits for a signal: nobody will ever give it."""
    assert outcome(run_python, "outcome(lock.acquire)") == "asleep MainThread victim: MainThread"


def test_all_wait_for_signals(run_python: RunPython) -> None:
    """Threads that wait for signals that none of them will give, main among them, are found by the last that waits."""
    printed = outcome(
        run_python,
        """
        others = [new_signal() for _ in range(3)]
        lock.release()
        taker = iter([lock])

        def body(mine):
            for one in taker:
                one.acquire()
            try:
                mine.acquire()
            except lockwatch.DeadlockError:
                say("wrong victim")
            else:
                mine.release()

        lockwatch.set_deadlock_weight(-1)
        threads = [threading.Thread(target=body, args=(one,), name=f"t{n}") for n, one in enumerate(others)]
        for thread, one in zip(threads, others):
            thread.start()
            while not one._queue:
                time.sleep(0.001)
        outcome(lock.acquire)
        for one in others:
            one.release()
        for thread in threads:
            thread.join()
        """,
    )
    assert printed == "asleep MainThread t0 t1 t2 victim: MainThread"


def test_whoever_joins_the_sleepers_is_not_the_victim(run_python: RunPython) -> None:
    """Of sleeping agents those in open waits come first, whatever the weights: the others merely wait for them."""
    printed = outcome(
        run_python,
        """
        other = new_signal()
        mutex = lockwatch.Lock(name="mutex")
        held = threading.Event()

        def body():
            with mutex, lockwatch.deadlock_weight(1000):
                held.set()
                outcome(other.acquire)

        thread = threading.Thread(target=body, name="sleeper")
        thread.start()
        while not other._queue:
            time.sleep(0.001)
        with mutex:
            say("main went on")
        thread.join()
        """,
    )
    assert printed == "asleep MainThread sleeper victim: sleeper\nmain went on"


def test_non_daemons_are_victims_before_daemons(run_python: RunPython) -> None:
    """Of equal sleepers the one whose end matters to the program's gets the error: not the daemon."""
    printed = outcome(
        run_python,
        """
        other = new_signal()
        lock.release()

        def body():
            lock.acquire()
            other.acquire()
            say("daemon went on")

        with lockwatch.deadlock_weight(5):
            thread = threading.Thread(target=body, name="daemon", daemon=True)
            thread.start()
            while not other._queue:
                time.sleep(0.001)
            outcome(lock.acquire)
        """,
    )
    assert printed == "asleep MainThread daemon victim: MainThread"


def test_the_last_one_awake_ends(run_python: RunPython) -> None:
    """A thread's end can leave the others asleep, with no new wait: it is noticed at that moment."""
    printed = outcome(
        run_python,
        """
        lock.release()

        def keeper():
            lock.acquire()
            other.acquire()

        def last():
            with own:
                while not lock._queue:
                    time.sleep(0.001)

        other, own = new_signal(), lockwatch.Lock()
        threading.Thread(target=keeper, name="keeper").start()
        while not other._queue:
            time.sleep(0.001)
        threading.Thread(target=last, name="last").start()
        outcome(lock.acquire)
        other.release()
        """,
    )
    assert printed == "asleep MainThread keeper victim: MainThread"


def test_a_cycle_is_found_beside_sleepers(run_python: RunPython) -> None:
    """A closed cycle is found at once, whoever else is awake: nobody but its parties could end it."""
    printed = outcome(
        run_python,
        """
        a, b, seen = lockwatch.Lock(name="a"), lockwatch.Lock(name="b"), []

        def body():
            with b, a:
                seen.append("other went on")

        awake = threading.Thread(target=time.sleep, args=(3600,), daemon=True)
        awake.start()
        thread = threading.Thread(target=body, name="other")
        def cross():
            with a:
                thread.start()
                while not a._queue:
                    time.sleep(0.001)
                with b:
                    say("wrong")
        outcome(cross)
        thread.join()
        say(*seen)
        """,
    )
    assert printed == "cycle MainThread other victim: MainThread\nother went on"


# --- twins: somebody may still do it ----------------------------------------------------------------------------

SOMEBODY = {
    "a thread that sleeps": """
        def body():
            time.sleep(0.1)
            lock.release()
        threading.Thread(target=body).start()
        """,
    "a daemon that sleeps": """
        def body():
            time.sleep(0.1)
            lock.release()
        threading.Thread(target=body, daemon=True).start()
        """,
    "a timer": "threading.Timer(0.1, lock.release).start()",
    "a thread of _thread": """
        import _thread
        def body():
            time.sleep(0.1)
            lock.release()
        _thread.start_new_thread(body, ())
        """,
    "a thread with a timed wait": """
        other = new_signal()
        def body():
            other.acquire(timeout=0.1)
            lock.release()
        threading.Thread(target=body).start()
        while not other._queue:
            time.sleep(0.001)
        """,
    "a handler of an alarm": """
        signal.signal(signal.SIGALRM, lambda *args: lock.release())
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        """,
    "a handler of another process's signal": """
        import subprocess
        signal.signal(signal.SIGUSR1, lambda *args: lock.release())
        child = subprocess.Popen(["sh", "-c", f"sleep 0.1; kill -USR1 {os.getpid()}"])
        """,
    "a handler that raises": """
        def handler(*args):
            raise TimeoutError
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        take = lock.acquire
        def acquire():
            try:
                take()
            except TimeoutError:
                pass
        """,
}


@pytest.mark.parametrize("who", SOMEBODY)
def test_somebody_may_still_do_it(who: str, run_python: RunPython) -> None:
    """No error while anybody is there who could end the wait, and then does."""
    ending = "\noutcome(globals().get('acquire', lock.acquire))"
    assert outcome(run_python, dedent(SOMEBODY[who]) + ending) == "went on"


def test_a_handler_counts_for_all_threads_waits(run_python: RunPython) -> None:
    """A signal handler runs in the main thread, also when that waits itself: it may give others their signals."""
    printed = outcome(
        run_python,
        """
        other = new_signal()

        def handler(*args):
            other.release()

        def body():
            outcome(other.acquire)
            lock.release()

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        threading.Thread(target=body).start()
        lock.acquire()
        say("main went on")
        """,
    )
    assert printed == "went on\nmain went on"


def test_the_interrupt_handler_of_python_is_no_somebody(run_python: RunPython) -> None:
    """Ctrl-C may always come; it is not counted on, or nothing would ever be found."""
    printed = outcome(
        run_python,
        """
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        outcome(lock.acquire)
        """,
    )
    assert printed.startswith("asleep MainThread ")


# --- twins: a thread that Python does not know -----------------------------------------------------------------------

FOREIGN = """
    libc = ctypes.CDLL(None)
    ident = ctypes.c_ulong()
    start = ctypes.cast(libc.sleep, ctypes.c_void_p)
    assert libc.pthread_create(ctypes.byref(ident), None, start, ctypes.c_void_p(3600)) == 0
    """
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")


@linux
def test_foreign_thread_may_do_it(run_python: RunPython) -> None:
    """With a thread that is not Python's in the process nothing is certain: no error."""
    assert_waits_on(run_python, dedent(FOREIGN) + "outcome(lock.acquire)")


@linux
def test_foreign_thread_of_the_interpreters_own(run_python: RunPython) -> None:
    """Faulthandler's watchdog is such a thread, too."""
    assert_waits_on(run_python, "faulthandler.dump_traceback_later(3600)\noutcome(lock.acquire)")


@linux
def test_foreign_threads_can_be_ignored(run_python: RunPython) -> None:
    """``foreign_threads="ignore"`` says that they never touch Python's locks: the error comes."""
    ignore = 'config.configure(foreign_threads="ignore")\n'
    assert outcome(run_python, dedent(FOREIGN) + ignore + "outcome(lock.acquire)").startswith(
        "asleep MainThread "
    )


def compiler() -> str | None:
    """The C compiler, if there is one."""
    return shutil.which("cc") or shutil.which("gcc")


CALLER = """
#include <pthread.h>
#include <unistd.h>
static void (*call)(int);
static void *body(void *unused) {
    (void)unused;
    for (int turn = 0;; turn++) { usleep(100000); call(turn); }
    return 0;
}
int start(void (*function)(int)) {
    pthread_t thread;
    call = function;
    return pthread_create(&thread, 0, body, 0);
}
"""


@linux
def test_foreign_thread_that_comes_and_goes(run_python: RunPython, tmp_path: Path) -> None:
    """A thread of a C library that calls into Python now and then is an agent only meanwhile; it will come again.

    Its first call uses a lock and ends; that end must not make the main thread's wait hopeless: its third call ends it.
    """
    found = compiler()
    if found is None:
        pytest.skip("no C compiler")
    source = tmp_path / "caller.c"
    source.write_text(CALLER)
    subprocess.run([found, "-shared", "-fPIC", "-pthread", "-o", tmp_path / "caller.so", source], check=True)
    printed = outcome(
        run_python,
        """
        library = ctypes.CDLL("./caller.so")
        own = lockwatch.Lock()

        @ctypes.CFUNCTYPE(None, ctypes.c_int)
        def call(turn):
            with own:
                pass
            if turn == 2:
                lock.release()

        assert library.start(call) == 0
        outcome(lock.acquire)
        sys.stdout.flush()
        os._exit(0)
        """,
    )
    assert printed == "went on"
