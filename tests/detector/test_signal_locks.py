"""Locks whose owner is in doubt: used as signals, taken twice by bare ``acquire()``, left behind by ended threads."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import TYPE_CHECKING

import pytest

import lockwatch
from lockwatch import config
from lockwatch._core.waits import OPEN

if TYPE_CHECKING:
    from tests.conftest import RunPython
    from tests.detector.conftest import Chain, Crew

LOCKS_OF_A_PLACE = (lockwatch.Lock, lockwatch.RLock)


# --- a lock that somebody else releases --------------------------------------------------------------------


def test_released_by_another_thread_makes_a_signal(crew: Crew) -> None:
    """Once a thread other than the owner released a lock, it and all locks made at that place have no owner any more.

    Locks made elsewhere keep theirs, also in the same function.
    """

    def make() -> lockwatch.Lock:
        return lockwatch.Lock()

    one, sister, other = make(), make(), lockwatch.Lock()
    for lock in (one, sister, other):
        crew.start(lock.acquire).thread.join()
        assert not lock._signal
    one.release()
    later = make()
    with later:
        pass
    wait = crew.start(sister.acquire)
    crew.blocked(wait, sister)
    found = wait.wait()
    assert found is not None
    assert sister.blockers(found).rule == OPEN
    assert one._signal
    assert not sister._signal  # by its class only
    sister.release()
    crew.until(wait.done)
    other.release()
    assert lockwatch.recorded_findings() == ()


def test_hand_shake(crew: Crew) -> None:
    """Twin: two threads that wake each other by locks they never took themselves, 100 times, are no deadlock."""
    ping, pong = lockwatch.Lock(), lockwatch.Lock()
    ping.acquire()
    pong.acquire()

    def server() -> None:
        for _ in range(100):
            ping.acquire()
            pong.release()

    def client() -> None:
        for _ in range(100):
            ping.release()
            pong.acquire()

    crew.start(server)
    crew.start(client)
    assert crew.deadlocks() == []
    assert lockwatch.recorded_findings() == ()


def test_known_signal_takes_no_part_in_a_cycle(crew: Crew, chain: Chain) -> None:
    """A ring with an edge that anybody awake could end is no deadlock: whoever has the right to, ends it."""
    signal, lock = lockwatch.Lock(name="signal"), lockwatch.Lock(name="lock")
    signal.acquire()
    crew.start(signal.release).thread.join()
    go = threading.Event()

    def first() -> str:
        signal.acquire()
        go.wait()
        with lock:
            return "went on"

    def second() -> str:
        with lock:
            go.set()
            crew.until(lambda: one.waits_for(lock))
            signal.acquire()
            return "went on"

    one = crew.start(first)
    crew.until(signal.locked)
    two = crew.start(second)
    crew.blocked(two, signal)
    signal.release()
    assert crew.deadlocks() == []
    assert (one.value, two.value) == ("went on", "went on")
    assert lockwatch.recorded_findings() == ()


def test_release_by_the_owner_makes_no_signal(crew: Crew) -> None:
    """Twin: locks that their owners release stay owned, taken by ``with`` or bare calls: their cycles are found."""
    locks = [lockwatch.Lock() for _ in range(2)]
    for lock in locks:
        lock.acquire()
        lock.release()
        with lock:
            pass
    ready = threading.Barrier(2)

    def body(one: lockwatch.Lock, two: lockwatch.Lock) -> None:
        one.acquire()
        try:
            ready.wait()
            with two:
                pass
        finally:
            one.release()

    crew.start(body, *locks)
    crew.start(body, *reversed(locks))
    assert [found.cause for found in crew.deadlocks()] == ["cycle"]


def test_rlocks_are_no_signals(crew: Crew) -> None:
    """An RLock can be released by its owner alone; the attempt of another thread is refused and changes nothing."""
    lock = lockwatch.RLock()
    with lock:
        job = crew.start(lock.release)
        crew.until(job.done)
        assert lock.statistics().count == 1
    assert isinstance(job.error, lockwatch.MisuseError)
    job.error = None


# --- a second bare acquire -------------------------------------------------------------------------------------


def test_second_bare_acquire_is_released_in_time(crew: Crew) -> None:
    """Twin: one thread takes a lock twice by ``acquire()``, another releases it meanwhile: that is a signal."""
    lock = lockwatch.Lock()

    def body() -> str:
        lock.acquire()
        lock.acquire()
        return "went on"

    job = crew.start(body)
    crew.blocked(job, lock)
    lock.release()
    assert crew.deadlocks() == []
    assert job.value == "went on"
    assert lock._signal
    lock.release()
    assert lockwatch.recorded_findings() == ()


def test_hope_lasts_as_long_as_somebody_has_the_lock_in_sight(run_python: RunPython) -> None:
    """Twin: long after the grace there is no error while another thread has the lock, which it may yet release."""
    done = run_python("""
        import threading, time
        import lockwatch
        from lockwatch import config
        from lockwatch._core import agents

        config.configure(reacquire_grace=0.01)
        lock = lockwatch.Lock()

        def body():
            lock.acquire()
            lock.acquire()
            print("went on")

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        while not (lock._queue and (lock._queue[0].recheck_ns or 0) - lock._queue[0].since_ns > 30_000_000):
            time.sleep(0.001)  # it has looked again at least once, and still hopes
        assert lockwatch.recorded_findings() == ()
        lock.release()
        thread.join()
        assert lockwatch.recorded_findings() == ()
    """)
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr


def test_second_bare_acquire_after_the_grace(run_python: RunPython) -> None:
    """A thread that takes a lock of its own twice by ``acquire()``, which nobody else has: the error comes after the grace."""
    done = run_python("""
        import threading, time
        import lockwatch
        from lockwatch import config

        config.configure(reacquire_grace=0.2)

        def body():
            lock = lockwatch.Lock()
            lock.acquire()
            began = time.monotonic()
            try:
                lock.acquire()
            except lockwatch.DeadlockError as error:
                print(error.finding.cause, time.monotonic() - began >= 0.2)

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        thread.join()
    """)
    assert (done.returncode, done.stdout) == (0, "self True\n"), done.stderr


def test_second_bare_acquire_with_nobody_else_awake(run_python: RunPython) -> None:
    """With no other thread there is nobody to hope for: the error comes at once, not after a grace of an hour."""
    done = run_python("""
        import lockwatch
        from lockwatch import config

        config.configure(reacquire_grace=3600.0)
        lock = lockwatch.Lock()
        lock.acquire()
        try:
            lock.acquire()
        except lockwatch.DeadlockError as error:
            print(error.finding.cause, error.finding.parties[0].name)
    """)
    assert (done.returncode, done.stdout) == (0, "self MainThread\n"), done.stderr


def test_with_after_a_bare_acquire_is_released_in_time(crew: Crew) -> None:
    """Twin: the function that took the lock by ``acquire()`` releases nothing and waits by ``with``: another one does.

    As CPython's test_asyncio.test_events has it: the other thread is to run first.
    """
    lock = lockwatch.Lock()

    def body() -> str:
        lock.acquire()
        with lock:
            return "went on"

    job = crew.start(body)
    crew.blocked(job, lock)
    lock.release()
    assert crew.deadlocks() == []
    assert job.value == "went on"
    assert lockwatch.recorded_findings() == ()


def test_with_after_a_bare_acquire_that_is_to_be_released_here(crew: Crew) -> None:
    """The function that took the lock by ``acquire()`` is to release it, and waits for it: the error comes at once."""
    config.configure(reacquire_grace=3600.0)
    lock = lockwatch.Lock()

    def body() -> str:
        lock.acquire()
        try:
            with lock:
                return "went on"
        except lockwatch.DeadlockError as error:
            return str(error.finding.cause)
        finally:
            lock.release()

    job = crew.start(body)
    crew.until(job.done)
    assert job.value == "self"


# --- bare acquires by those who release ----------------------------------------------------------------------

BARE = """
import threading, time
import lockwatch
from lockwatch import config

config.configure(reacquire_grace=0.05)
one, other = lockwatch.Lock(), lockwatch.Lock()
both = threading.Barrier(2)


def first(mine, wanted):
    mine.acquire()
    try:
        if wanted is not mine:
            both.wait()
        second(wanted)
    finally:
        mine.release()


def second(wanted):
    wanted.acquire()
    try:
        print("went on")
    finally:
        wanted.release()


def start(*pairs):
    threads = [threading.Thread(target=first, args=pair, daemon=True) for pair in pairs]
    for thread in threads:
        thread.start()
    return threads


def looked_again(lock):  # and there is hope yet
    wait = lock._queue[0] if lock._queue else None
    return wait is not None and (wait.recheck_ns or 0) - wait.since_ns > 150_000_000
"""


@pytest.mark.parametrize("pairs", ["(one, one)", "(one, other), (other, one)"], ids=["self", "cycle"])
def test_who_releases_both_leaves_nothing_to_others(pairs: str, run_python: RunPython) -> None:
    """Owner and waiter took it by ``acquire()`` and release it in ``finally``: no mutex is more of one, though others see it."""
    done = run_python(
        BARE
        + f"""
threading.excepthook = lambda error: None
threads = start({pairs})
while any(thread.is_alive() for thread in threads):  # awake, with the locks in sight
    time.sleep(0.01)
print([finding.cause for finding in lockwatch.recorded_findings() if finding.kind == "deadlock"])
"""
    )
    expected = "['self']\n" if pairs == "(one, one)" else "went on\n['cycle']\n"
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("        wanted.release()", "        pass"),
        (
            "        mine.release()",
            "        try:\n            mine.release()\n        except RuntimeError:\n            pass",
        ),
    ],
    ids=["the waiter keeps it", "the owner may find it released"],
)
def test_who_leaves_a_release_to_others(line: str, instead: str, run_python: RunPython) -> None:
    """Twin: one of the two does not release it, or is ready to find it released: that may be somebody else's part."""
    done = run_python(
        BARE.replace(line, instead)
        + """
[thread] = start((one, one))
while not looked_again(one):
    time.sleep(0.001)
one.release()
thread.join()
assert lockwatch.recorded_findings() == ()
"""
    )
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr


def test_the_call_that_took_it_has_ended(run_python: RunPython) -> None:
    """Twin: an earlier call took it, and was left by an exception: whoever knows of that may release it."""
    done = run_python(
        BARE
        + """
def lose():
    one.acquire()
    if threads:
        raise KeyError
    one.release()


def body():
    try:
        lose()
    except KeyError:
        second(one)


threads = [threading.Thread(target=body, daemon=True)]
threads[0].start()
while not looked_again(one):
    time.sleep(0.001)
one.release()
threads[0].join()
assert not [finding for finding in lockwatch.recorded_findings() if finding.kind == "deadlock"]
"""
    )
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr


# --- orphans -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOCKS_OF_A_PLACE)
def test_owner_has_ended(kind: type[lockwatch.Lock | lockwatch.RLock], crew: Crew) -> None:
    """Waiting for a lock that an ended thread never released is a deadlock, at once; the report names that thread."""
    lock = kind(name="left")

    def leave(really: bool) -> None:
        lock.acquire()
        if not really:
            lock.release()  # it was this function's to release

    crew.start(leave, True, name="gone").thread.join()

    def body() -> None:
        with lock:
            pass

    crew.start(body, name="late")
    (found,) = crew.deadlocks()
    assert found.cause == "orphan"
    assert found.cycle == ("Thread 'late'", f"{kind.kind} 'left'", "Thread 'gone'")
    late, gone = found.parties
    assert (late.alive, late.victim, gone.alive, gone.victim) == (True, True, False, False)
    assert [hold.resource for hold in gone.holds] == [f"{kind.kind} 'left'"]
    assert gone.stack == ()
    lock._check()


def test_owner_that_was_not_to_release(crew: Crew) -> None:
    """Twin: the function that took the lock releases nothing, so it may have been handed on: another thread does."""
    lock = lockwatch.Lock(name="handed on")
    crew.start(lock.acquire, name="gone").thread.join()

    def body() -> str:
        with lock:
            return "went on"

    job = crew.start(body, name="late")
    crew.blocked(job, lock)
    lock.release()
    assert crew.deadlocks() == []
    assert job.value == "went on"
    assert lockwatch.recorded_findings() == ()


@pytest.mark.parametrize("kind", LOCKS_OF_A_PLACE)
def test_owner_ends_while_others_wait(kind: type[lockwatch.Lock | lockwatch.RLock], crew: Crew) -> None:
    """A knot that closes without a new wait: the owner ends, and each of its waiters gets the error then."""
    lock, outer = kind(name="left"), lockwatch.Lock(name="outer")
    end = threading.Event()

    def owner() -> None:
        lock.acquire()
        if not end.wait(60):
            lock.release()

    def waiter() -> None:
        with lock:
            pass

    def holder() -> None:
        with outer, lock:
            pass

    def tail() -> str:
        with outer:
            return "went on"

    crew.start(owner, name="gone")
    crew.until(lock.locked)
    jobs = [crew.start(waiter, name="w0"), crew.start(waiter, name="w1"), crew.start(holder, name="holder")]
    for job in jobs:
        crew.blocked(job, lock)
    last = crew.start(tail, name="tail")
    crew.blocked(last, outer)
    end.set()
    found = crew.deadlocks()
    assert {one.cause for one in found} == {"orphan"}
    assert [next(party.name for party in one.parties if party.victim) for one in found] == [
        "w0",
        "w1",
        "holder",
    ]
    assert last.value == "went on"
    lock._check()


def test_owner_that_ends_after_release(crew: Crew) -> None:
    """Twin: an owner that ends right after it released leaves no orphan, however often that is tried."""
    lock = lockwatch.Lock()

    def body() -> None:
        with lock:
            pass

    for _ in range(20):
        jobs = [crew.start(body) for _ in range(8)]
        for job in jobs:
            job.thread.join()
    assert crew.deadlocks() == []
    assert lockwatch.recorded_findings() == ()
    assert lock.statistics().acquisitions == 160


def test_orphan_by_bare_acquires_is_still_a_signal_to_somebody(crew: Crew) -> None:
    """Twin: taken by a thread that ended, wanted by a bare ``acquire()``: another thread may release it, and does."""
    lock = lockwatch.Lock()
    crew.start(lock.acquire).thread.join()
    job = crew.start(lock.acquire, name="late")
    crew.blocked(job, lock)
    lock.release()
    assert crew.deadlocks() == []
    assert job.value is True
    assert lockwatch.recorded_findings() == ()


def test_orphan_by_bare_acquires_after_the_grace(run_python: RunPython) -> None:
    """The same with nobody else who has the lock: the error comes after the grace, also when the wait came first."""
    done = run_python("""
        import threading
        import lockwatch
        from lockwatch import config

        config.configure(reacquire_grace=0.05)

        def body(owner_first):
            lock = lockwatch.Lock()
            end = threading.Event()
            def own(lock=lock, end=end):
                lock.acquire()
                end.wait()
            owner = threading.Thread(target=own)
            owner.start()
            del own
            if owner_first:
                end.set()
                owner.join()
            else:
                threading.Timer(0.2, end.set).start()
            del owner
            try:
                lock.acquire()
            except lockwatch.DeadlockError as error:
                print(error.finding.cause)

        for owner_first in (True, False):
            thread = threading.Thread(target=body, args=(owner_first,), daemon=True)
            thread.start()
            thread.join()
    """)
    assert (done.returncode, done.stdout) == (0, "orphan\norphan\n"), done.stderr


def test_lock_of_an_ended_thread_dies_with_its_last_reference(crew: Crew) -> None:
    """An orphan keeps nothing alive: the lock is collectable, and its dead owner's table lets go of it."""
    lock = lockwatch.Lock()
    job = crew.start(lock.acquire)
    crew.join()
    assert job.agent is not None
    assert len(job.agent.holds) == 1
    gone = weakref.ref(lock)
    job.thread = threading.Thread()  # it has the lock's method as its target
    crew.jobs.clear()
    del lock
    gc.collect()
    assert gone() is None
    assert job.agent.holds == {}


def test_the_grace_is_a_setting(crew: Crew) -> None:
    """``reacquire_grace`` reaches the wait: it decides when the waiter looks again."""
    config.configure(reacquire_grace=123.0)
    lock = lockwatch.Lock()

    def body() -> None:
        lock.acquire()
        lock.acquire()

    job = crew.start(body)
    crew.blocked(job, lock)
    wait = job.wait()
    assert wait is not None
    assert wait.recheck_ns is not None
    assert 122 < (wait.recheck_ns - wait.since_ns) / 1e9 < 124
    lock.release()
    crew.join()
