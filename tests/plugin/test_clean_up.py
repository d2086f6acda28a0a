"""The run goes on: what a test leaves behind is told and unwound, and what cannot be ends the run, with a report."""

from __future__ import annotations

import time

from tests.plugin.conftest import RunTests

LEAKS = """
import asyncio, threading
import pytest

lock, other = threading.Lock(), threading.RLock()
first, second = threading.Lock(), threading.Lock()

def test_deadlock_left_behind():
    both = threading.Barrier(2)
    def take(one, two):
        with one:
            both.wait()
            with two:
                pass
    threading.Thread(target=take, args=(first, second)).start()
    threading.Thread(target=take, args=(second, first)).start()

def test_next_is_clean():
    assert not first.locked() and not second.locked()
    assert threading.active_count() == 1

def test_thread():
    threading.Thread(target=threading.Event().wait, name="waiter").start()

def test_stubborn_thread():
    def again():
        for _ in range(5):
            try:
                threading.Event().wait()
            except RuntimeError:
                pass
    threading.Thread(target=again).start()

def test_all_threads_are_gone():
    assert threading.active_count() == 1

def test_thread_that_ends_soon():
    threading.Thread(target=threading.Event().wait, args=(0.05,)).start()

def test_idle_daemon():
    threading.Thread(target=threading.Event().wait, daemon=True).start()

def test_stuck_daemon():
    def stuck():
        with lock:
            pass
    lock.acquire()
    threading.Thread(target=stuck, daemon=True, name="stuck").start()

@pytest.mark.lockwatch(allow=["threads"])
def test_allowed():
    done.clear()
    threading.Thread(target=done.wait).start()

done = threading.Event()

@pytest.fixture(scope="module")
def service():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="service")
    thread.start()
    yield thread
    stop.set()
    thread.join()

def test_fixture_of_the_module(service):
    assert service.is_alive()

def test_fixture_of_the_module_again(service):
    assert service.is_alive()
    done.set()

def test_lock():
    lock.acquire()

def test_lock_was_let_go():
    assert lock.acquire(timeout=1)
    lock.release()

def test_lock_of_an_ended_thread():
    thread = threading.Thread(target=other.acquire)
    thread.start()
    thread.join()

def test_lock_that_nobody_has_any_more():
    threading.Lock().acquire()
    mine = threading.RLock()
    mine.acquire()

def test_task():
    loop = asyncio.new_event_loop()
    loops.append(loop)
    async def forever():
        await loop.create_future()
    loop.create_task(forever(), name="forever")
    loop.run_until_complete(asyncio.sleep(0))

loops = []

def test_loop_can_be_used_again():
    loop = loops.pop()
    loop.run_until_complete(asyncio.sleep(0))
    assert not asyncio.all_tasks(loop)
    loop.close()

def test_stuck_loop_in_a_thread():
    async def main():
        await asyncio.get_running_loop().create_future()
    threading.Thread(target=asyncio.run, args=(main(),)).start()

def test_last():
    pass
"""

LEAKING = {
    "test_deadlock_left_behind",
    "test_thread",
    "test_stubborn_thread",
    "test_stuck_daemon",
    "test_lock",
    "test_lock_of_an_ended_thread",
    "test_task",
    "test_stuck_loop_in_a_thread",
}


def test_what_is_left_behind_fails_its_test_and_goes_away(run_tests: RunTests) -> None:
    """Threads, tasks and locks left behind fail the test in its teardown; those behind it find none of them; warnings are errors."""
    run = run_tests(LEAKS, "-v", "-W", "error", "-W", "ignore::ResourceWarning")
    words = run.words()
    assert {name for name, said in words.items() if "LOCKS" in said} == LEAKING, run.out
    assert all(said == ["PASSED"] for name, said in words.items() if name not in LEAKING), run.out
    # found in the call, or when that is over: a race of the tests' own
    either = (["LOCKS"], ["PASSED", "LOCKS"])
    assert all(
        words.pop(name) in either for name in ("test_deadlock_left_behind", "test_lock_of_an_ended_thread")
    )
    assert all(said in (["PASSED"], ["PASSED", "LOCKS"]) for said in words.values()), run.out
    assert "LEAK: the test leaves a thread that has not ended: Thread 'waiter' (waits for Event" in run.out
    assert "LEAK: the test leaves a lock held: Lock 'lock' (held by Thread 'MainThread')" in run.out
    assert "ended while it held RLock 'other'" in run.out
    assert "LEAK: the test leaves a task pending: Task 'forever'" in run.out
    assert run.status == 1


STALLS = """
import threading, time

gate = threading.Event()

def noise():  # somebody awake: nothing can be concluded
    while not gate.wait(0.05):
        pass

def test_waits_for_ever():
    thread = threading.Thread(target=noise, daemon=True)
    thread.start()
    try:
        threading.Event().wait()
    finally:
        gate.set()
        thread.join()

def test_in_c():
    time.sleep(1000)

def test_computes():
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        pass

def test_last():
    pass
"""


def test_a_stalled_test_fails_and_the_run_goes_on(run_tests: RunTests) -> None:
    """--lockwatch-stall: a test that does not move fails with all stacks, in a wait of ours or in C; one that computes does not."""
    run = run_tests(STALLS, "-v", "--lockwatch-stall=0.6")
    words = run.words()
    assert words["test_waits_for_ever"] == words["test_in_c"] == ["LOCKS"], run.out
    assert words["test_computes"] == words["test_last"] == ["PASSED"], run.out
    assert "STALL: the test has not moved for" in run.out


def test_what_cannot_be_unwound_ends_the_run_with_a_report(run_tests: RunTests) -> None:
    """A test that nothing can end: the run ends with the report of what was found, all stacks, status 66, and the JSON file."""
    source = """
    import threading, _thread, time

    def test_dead():
        try:
            lock = threading.Lock()
            with lock, lock:
                pass
        except RuntimeError:
            pass

    def test_never_ends():
        while True:
            try:
                time.sleep(1000)
            except BaseException:
                pass
    """
    began = time.monotonic()
    run = run_tests(source, "--lockwatch-stall=0.5", "--lockwatch-report=locks.json")
    assert run.status == 66, run.out
    assert time.monotonic() - began < 60
    assert "test_never_ends could not be ended; the run ends here" in run.err
    assert "STALL: the test has not moved" in run.err
    assert "in test_never_ends" in run.err.partition("DUMP of process")[2]


def test_a_thread_that_cannot_be_ended_does_not_hold_up_the_end(run_tests: RunTests) -> None:
    """A thread stuck in C fails its test; the others run; the process ends without it, with all stacks and pytest's status."""
    source = """
    import threading, _thread

    def test_it():
        raw = _thread.allocate_lock()
        raw.acquire()
        threading.Thread(target=raw.acquire, name="in C").start()

    def test_next():
        pass
    """
    run = run_tests(source, "-v")
    assert run.words() == {"test_it": ["PASSED", "LOCKS"], "test_next": ["PASSED"]}
    assert run.status == 1
    assert "lockwatch could not end: in C" in run.out
    assert "the process ends here without these threads, which do not end: in C" in run.err
