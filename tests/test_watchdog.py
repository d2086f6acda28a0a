"""The watchdog: late checks, stalls, the end after a stall, and that it is no part of the program.

The programs make long waits short (``parking.LONG_NS``), so that the watchdog is there soon; its own periods are
the real ones.
"""

from __future__ import annotations

import json
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.conftest import RunPython

Json = dict[str, Any]

PRELUDE = """
import os, queue, sys, threading, time
import lockwatch
from lockwatch._core import agents, detector, parking, watchdog

lockwatch.install(**{"cpu": False, "report": "report.json", **SETTINGS})
parking.LONG_NS = 30_000_000


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())


def until(condition, limit=15):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.002)


def waits_for(thread, kind):
    agent = agents.by_ident.get(thread.ident)
    return agent is not None and bool(agent.waits) and agent.waits[-1].resource.kind == kind


def attempt(body, *args):
    name = threading.current_thread().name
    try:
        body(*args)
        say(f"{name}: went on")
    except lockwatch.DeadlockError:
        say(f"{name}: DeadlockError")


def go(name, body, *args, daemon=False):
    thread = threading.Thread(target=attempt, args=(body, *args), name=name, daemon=daemon)
    thread.start()
    return thread


def stalls():
    return [found for found in lockwatch.recorded_findings() if found.kind == "stall"]


def lose_first_checks():
    # The check of each wait by the waiter itself is lost, as to an exception; later ones are not.
    block, seen = detector.block, set()
    def lossy(wait):
        if wait.serial in seen:
            block(wait)
        seen.add(wait.serial)
    detector.block = lossy
"""


class Programs:
    """Runs programs after the prelude, and reads the report."""

    def __init__(self, run_python: RunPython, folder: Path) -> None:
        self._run = run_python
        self._folder = folder

    def __call__(
        self,
        program: str,
        *,
        settings: Mapping[str, object] | None = None,
        status: int = 0,
        limit: float = 20,
    ) -> tuple[list[str], list[Json], str]:
        """Run a program; return its output, sorted, its findings and its stderr."""
        text = f"SETTINGS = {dict(settings or {})!r}\n{PRELUDE}\n{dedent(program)}"
        done = self._run(text, timeout=limit)
        assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        report = self._folder / "report.json"
        found: list[Json] = json.loads(report.read_text())["findings"] if report.exists() else []
        assert all(one["kind"] != "internal" for one in found), found
        return sorted(done.stdout.splitlines()), found, done.stderr


@pytest.fixture
def program(run_python: RunPython, tmp_path: Path) -> Programs:
    """Runs programs under the watchdog."""
    return Programs(run_python, tmp_path)


# --- late checks -------------------------------------------------------------------------------------------


def test_a_thread_ends(program: Programs) -> None:
    """A lock whose owner ends while others wait for it is an orphan soon after, with nobody going to sleep anew."""
    said, found, _ = program(
        """
        lock, kept = threading.Lock(), []
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        def owner():
            def holding():
                with lock:
                    yield
            kept.append(holding())
            next(kept[0])
            until(lambda: waits_for(threading.main_thread(), "Lock"))
        threading.Thread(target=owner).start()
        until(lambda: kept)
        began = time.monotonic()
        attempt(lock.acquire)
        assert time.monotonic() - began < 5
        """,
        settings={"reacquire_grace": 0.05},
    )
    assert said == ["MainThread: DeadlockError"]
    assert [one["cause"] for one in found] == ["orphan"]


def test_a_lost_check_of_a_cycle(program: Programs) -> None:
    """A cycle whose check was lost when it closed is found by the watchdog, though another thread is awake."""
    said, found, _ = program(
        """
        first, second = threading.Lock(), threading.Lock()
        both = threading.Barrier(2)
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        def body(one, other):
            with one:
                both.wait(5)
                with other:
                    pass
        lose_first_checks()
        threads = [go("one", body, first, second), go("two", body, second, first)]
        until(lambda: all(waits_for(thread, "Lock") for thread in threads))
        until(lambda: not all(thread.is_alive() for thread in threads))
        """
    )
    assert [one["cause"] for one in found] == ["cycle"]
    assert sorted(line.rpartition(" ")[2] for line in said) == ["DeadlockError", "on"]


@pytest.mark.parametrize(
    "wait",
    [
        "threading.Event().wait()",
        "queue.Queue().get()",
        "queue.SimpleQueue().get()",
        "go('other', stuck); stuck()",
    ],
)
def test_a_lost_check_of_the_last_one_awake(program: Programs, wait: str) -> None:
    """All asleep, and nobody looked: the watchdog does."""
    said, found, _ = program(
        f"""
        stuck = queue.SimpleQueue().get
        def main():
            {wait}
        lose_first_checks()
        attempt(main)
        """
    )
    assert found
    assert {one["cause"] for one in found} == {"asleep"}
    assert "MainThread: DeadlockError" in said


def test_a_lost_check_between_two_looks(program: Programs) -> None:
    """A wait that has just become old is looked at then, however long the watchdog means to sleep."""
    said, found, _ = program(
        """
        watchdog._SHORTEST_NS = watchdog._LONGEST_NS = 60_000_000_000
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        idle = threading.Event()
        thread = go("idle", idle.wait)
        until(lambda: watchdog._ME in watchdog._claim)
        time.sleep(0.2)
        lose_first_checks()
        one, other, meeting = threading.Lock(), threading.Lock(), threading.Barrier(2)
        def party(first, second):
            with first:
                meeting.wait()
                with second:
                    pass
        parties = [go("one", party, one, other), go("other", party, other, one)]
        for party in parties:
            party.join()
        idle.set()
        thread.join()
        """
    )
    assert sum("DeadlockError" in words for words in said) == 1
    assert [one["cause"] for one in found] == ["cycle"]


def test_looks_do_not_put_off_the_end_of_a_grace(program: Programs) -> None:
    """A wait that may be one for a signal is decided after its grace, however often the watchdog looks meanwhile."""
    said, found, _ = program(
        """
        names = {"time": time}
        exec("def body():\\n while True: time.sleep(0.02)", names)
        threading.Thread(target=names["body"], daemon=True).start()  # awake, and sees nothing
        watchdog._LONGEST_NS = 60_000_000
        lose_first_checks()
        def twice():
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()
        go("twice", twice).join()
        """,
        settings={"reacquire_grace": 0.5},
    )
    assert said == ["twice: DeadlockError"]
    assert [one["cause"] for one in found] == ["self"]


def test_timed_waits_are_left_alone(program: Programs) -> None:
    """A long wait with a time-out is looked at and nothing comes of it."""
    said, found, _ = program(
        """
        lock = threading.Lock()
        lock.acquire()
        say(lock.acquire(timeout=1.0), threading.Event().wait(0.5))
        """
    )
    assert said == ["False False"]
    assert found == []


# --- stalls ------------------------------------------------------------------------------------------------

STALLING = {
    "Lock": ("thing = threading.Lock()", "with thing:"),
    "RLock": ("thing = threading.RLock()", "with thing:"),
    "Semaphore": ("thing = threading.Semaphore(1)", "with thing:"),
}


@pytest.mark.parametrize("kind", list(STALLING))
def test_a_stall(program: Programs, kind: str) -> None:
    """A wait longer than ``stall`` for what another holds is said once, with the holder and the line it stands at."""
    make, take = STALLING[kind]
    said, found, _ = program(
        f"""
        {make}
        have, let_go = threading.Event(), threading.Event()
        def hold():
            {take}
                have.set()
                while not let_go.wait(0.01):
                    work()
        def work():
            time.sleep(0.01)  # stands here
        holder = go("holder", hold)
        have.wait()
        def wait():
            {take}
                pass
        waiter = go("waiter", wait)
        until(stalls)
        time.sleep(0.5)
        let_go.set()
        waiter.join()
        """,
        settings={"stall": 0.2},
    )
    (stall,) = found
    assert stall["kind"] == "stall"
    assert stall["level"] == "warning"
    assert stall["message"].startswith(f"Thread 'waiter' has waited for {kind} 'thing' for")
    assert stall["message"].endswith("held by Thread 'holder'")
    waiter, holder = stall["parties"]
    assert waiter["waits_for"]["resource"] == f"{kind} 'thing'"
    assert holder["name"] == "holder"
    assert any(frame["function"] == "hold" for frame in holder["stack"])
    if kind != "Semaphore":
        assert [hold["resource"] for hold in holder["holds"]] == [f"{kind} 'thing'"]
    assert said == ["holder: went on", "waiter: went on"]


def test_a_stall_in_an_import(program: Programs, tmp_path: Path) -> None:
    """Waiting long for a module that another thread imports is a stall, too."""
    (tmp_path / "slow.py").write_text(
        "import __main__\n__main__.begun.append(1)\n__main__.until(__main__.stalls)\n"
    )
    said, found, _ = program(
        """
        begun = []
        def load():
            import slow
        go("first", load)
        until(lambda: begun)
        go("second", load)
        """,
        settings={"stall": 0.2},
    )
    (stall,) = found
    assert stall["message"].startswith("Thread 'second' has waited for import of module 'slow' for")
    assert stall["message"].endswith("held by Thread 'first'")
    assert "until" in [frame["function"] for frame in stall["parties"][1]["stack"]]
    assert said == ["first: went on", "second: went on"]


def test_real_long_waits(program: Programs) -> None:
    """Without our shortening: the watchdog starts after a second, and says a stall of 0.3 s soon after."""
    said, found, _ = program(
        """
        parking.LONG_NS = 1_000_000_000
        lock = threading.Lock()
        with lock:
            waiter = go("waiter", lock.acquire)
            began = time.monotonic()
            until(stalls)
            assert 0.3 <= time.monotonic() - began < 5
        """,
        settings={"stall": 0.3},
    )
    assert [one["kind"] for one in found] == ["stall"]
    assert said == ["waiter: went on"]


def test_once_per_wait(program: Programs) -> None:
    """A second wait for the same lock is another stall; each wait is said once, however long it lasts."""
    _, found, _ = program(
        """
        lock = threading.Lock()
        for number in (1, 2):
            with lock:
                def wait():
                    with lock:
                        pass
                waiters = [go(f"w{number}{n}", wait) for n in range(2)]
                until(lambda: len(stalls()) == 2 * number)
                time.sleep(0.4)
            for waiter in waiters:
                waiter.join()
        """,
        settings={"stall": 0.1},
    )
    names = sorted(one["parties"][0]["name"] for one in found)
    assert names == ["w10", "w11", "w20", "w21"]


def test_no_stall(program: Programs) -> None:
    """Waiting for work, for a thread or a future is a normal job; waiting for a lock is none if nobody asked."""
    waits = """
        from concurrent.futures import Future
        lock, ready, jobs, simple, promise = (
            threading.Lock(), threading.Event(), queue.Queue(), queue.SimpleQueue(), Future()
        )
        lock.acquire()
        changed = threading.Condition()
        def on_condition():
            with changed:
                changed.wait()
        def everything():
            crew = [go("event", ready.wait), go("get", jobs.get), go("simple", simple.get), go("future", promise.result),
                    go("condition", on_condition)]
            crew.append(go("join", crew[0].join))
            return crew
        """
    said, found, _ = program(
        f"""
        {waits}
        crew = everything()
        until(watchdog.running)
        time.sleep(1.0)
        ready.set(), jobs.put(1), simple.put(1), promise.set_result(1)
        with changed:
            changed.notify()
        for thread in crew:
            thread.join()
        lockwatch.configure(stall=0.0)
        waiter = go("lock", lock.acquire)
        time.sleep(0.5)
        lock.release()
        """,
        settings={"stall": 0.1},
    )
    assert found == []
    assert len(said) == 7


def test_the_second_threshold(program: Programs) -> None:
    """After ``stall_exit`` seconds the process ends with ``exit_status``, a finding of level error and the full dump."""
    said, found, stderr = program(
        """
        lock = threading.Lock()
        def wait_for_the_lock():
            with lock:
                pass
        def unconcerned():
            time.sleep(60)
        go("unconcerned", unconcerned, daemon=True)
        with lock:
            waiter = go("waiter", wait_for_the_lock)
            time.sleep(60)
        """,
        settings={"stall": 0.2, "stall_exit": 0.8, "exit_status": 7},
        status=7,
    )
    assert [(one["kind"], one["level"]) for one in found] == [("stall", "warning"), ("stall", "error")]
    assert "DUMP of process" in stderr
    dump = stderr.partition("DUMP of process")[2]
    for text in (
        "Thread 'MainThread'",
        "Thread 'waiter'",
        "Thread 'unconcerned'",
        "in unconcerned",
        "Lock 'lock'",
    ):
        assert text in dump
    assert said == []


def test_the_second_threshold_alone(program: Programs) -> None:
    """``stall_exit`` works without ``stall``; a status of 0 would say that all is well, so it becomes 1."""
    _, found, stderr = program(
        """
        lock = threading.Lock()
        with lock:
            go("waiter", lock.acquire)
            time.sleep(60)
        """,
        settings={"stall_exit": 0.4, "exit_status": 0},
        status=1,
    )
    assert [(one["kind"], one["level"]) for one in found] == [("stall", "error")]
    assert "DUMP of process" in stderr


def test_a_stall_of_the_log(program: Programs) -> None:
    """A stalled lock may be the one that the report itself needs: that must not stop the watchdog."""
    program(
        """
        import logging
        handler = logging.StreamHandler()
        logging.getLogger().addHandler(handler)
        handler.acquire()
        go("waiter", logging.getLogger().warning, "x", daemon=True)
        time.sleep(6)
        """,
        settings={"stall": 0.2, "stall_exit": 1.0, "exit_status": 7},
        status=7,
    )


# --- its place in the program ------------------------------------------------------------------------------


def test_it_is_not_awake(program: Programs) -> None:
    """A running watchdog does not count as somebody who could still act, and is in no list of threads."""
    said, found, _ = program(
        """
        def body():
            until(watchdog.running)
            time.sleep(0.3)
            assert watchdog.running()
            assert len(threading.enumerate()) == threading.active_count() == 2
            assert len(agents.living()) == 2
            assert all(row.agent != "watchdog" for row in lockwatch.waits())
        go("other", body)
        attempt(threading.Event().wait)
        assert watchdog.running()
        """
    )
    assert said == ["MainThread: DeadlockError", "other: went on"]
    assert [one["cause"] for one in found] == ["asleep"]


def test_it_ends_when_idle(program: Programs) -> None:
    """There is none before the first long wait, one during it, and none some time after; then it comes again."""
    said, found, _ = program(
        """
        assert not watchdog.running()
        for _ in range(2):
            assert not threading.Event().wait(0.1)
            assert watchdog.running()
            until(lambda: not watchdog.running())
            until(lambda: len(sys._current_frames()) == 1)
        say("done")
        """
    )
    assert said == ["done"]
    assert found == []


def test_at_exit(program: Programs) -> None:
    """A program that ends while the watchdog runs ends at once, and without a word on stderr."""
    said, found, stderr = program(
        """
        assert not threading.Event().wait(0.1)
        assert watchdog.running()
        began = time.monotonic()
        import atexit
        atexit.register(lambda: say(time.monotonic() - began < 3))
        """
    )
    assert said == ["True"]
    assert found == []
    assert stderr == ""


def test_it_survives_a_fork(program: Programs) -> None:
    """It is stopped for a fork and goes on after it: a wait that began before the fork still becomes a stall, in the parent."""
    said, found, _ = program(
        """
        lock = threading.Lock()
        with lock:
            waiter = go("waiter", lock.acquire)
            until(watchdog.running)
            child = os.fork()
            if not child:
                os._exit(3 if watchdog.running() else 0)
            assert os.waitpid(child, 0)[1] == 0
            until(stalls, 8)
        """,
        settings={"stall": 1.0},
    )
    assert said == ["waiter: went on"]
    assert [one["kind"] for one in found] == ["stall"]


def test_it_works_in_a_child(program: Programs) -> None:
    """A child has a watchdog of its own when it needs one: stalls and lost checks there are found there."""
    said, found, _ = program(
        """
        assert not threading.Event().wait(0.1)
        assert watchdog.running()
        child = os.fork()
        if not child:
            lock = threading.Lock()
            with lock:
                waiter = go("waiter", lock.acquire)
                until(stalls)
            waiter.join()
            lose_first_checks()
            attempt(threading.Event().wait)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert not lockwatch.recorded_findings()
        """,
        settings={"stall": 0.2},
    )
    assert said == ["MainThread: DeadlockError", "waiter: went on"]
    assert [one["kind"] for one in found] == ["stall", "deadlock"]


def test_many_forks(program: Programs) -> None:
    """Forks while it starts, looks and stops never take long, whatever it was doing."""
    said, _, _ = program(
        """
        lock = threading.Lock()
        lock.acquire()
        threads = [go(f"t{n}", lock.acquire, True, 1.5) for n in range(3)]
        longest = 0
        for _ in range(40):
            began = time.monotonic()
            child = os.fork()
            if not child:
                os._exit(0)
            longest = max(longest, time.monotonic() - began)
            os.waitpid(child, 0)
            time.sleep(0.01)
        say("slow" if longest > 0.8 else "quick")
        """,
        settings={"stall": 0.1},
    )
    assert "quick" in said
