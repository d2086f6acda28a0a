"""Who is who: idents that are given again, threads that a fork leaves behind, threads that Python did not start."""

from __future__ import annotations

import _thread
import gc
import os
import threading
import weakref
from typing import TYPE_CHECKING

import pytest

import lockwatch
from lockwatch._core import agents

if TYPE_CHECKING:
    from tests.conftest import RunPython
    from tests.detector.conftest import Crew, Job

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def successor(crew: Crew, gone: Job, lock: lockwatch.Lock | lockwatch.RLock) -> Job:
    """Has a thread take ``lock`` that was given the ident of one that has ended."""

    def body() -> bool:
        if threading.get_ident() != gone.thread.ident:
            return False
        with lock:
            return True

    for _ in range(100):
        job = crew.start(body, name="new")
        job.thread.join()
        if job.value is not False:
            return job
    pytest.skip("the system did not give the ident again")


@pytest.mark.parametrize("kind", [lockwatch.Lock, lockwatch.RLock])
def test_a_new_thread_does_not_inherit(kind: type[lockwatch.Lock | lockwatch.RLock], crew: Crew) -> None:
    """A thread with the ident of a dead one is not the owner of what that left: it gets an error of cause "orphan".

    (By ident, an RLock would let it in, and a Lock would say "self".)
    """
    lock = kind(name="left")

    def leave(really: bool) -> None:
        lock.acquire()
        if not really:
            lock.release()  # it was this function's to release

    gone = crew.start(leave, True, name="gone")
    gone.thread.join()
    job = successor(crew, gone, lock)
    found = job.deadlock
    assert found is not None
    assert found.cause == "orphan"
    new, old = found.parties
    assert (new.name, old.name) == ("new", "gone")
    assert new.ident == old.ident
    assert (new.alive, old.alive) == (True, False)
    if isinstance(lock, lockwatch.RLock):
        with pytest.raises(lockwatch.MisuseError, match="thread 'gone' .which has ended. took it"):
            lock.release()


def test_an_agent_for_each_thread(crew: Crew) -> None:
    """Each thread is one agent, known while it lives and not after; serial numbers are never given again."""
    jobs = [crew.start(agents.current, name=f"t{number}") for number in range(50)]
    crew.join()
    serials = [job.agent.serial for job in jobs if job.agent is not None]
    assert sorted(set(serials)) == sorted(serials)
    assert len(serials) == 50
    assert all(job.agent is not None and job.agent.ended and job.value is job.agent for job in jobs)
    assert not {job.agent for job in jobs} & set(agents.living())
    assert agents.current() is agents.current() in agents.living()


def test_an_agent_keeps_no_thread_alive(crew: Crew) -> None:
    """Neither the table of agents nor an agent keeps a Thread object alive, or an agent of a thread that ended."""
    thread = threading.Thread(target=agents.current)
    thread.start()
    thread.join()
    ref = weakref.ref(thread)
    del thread
    gc.collect()
    assert ref() is None

    found: list[weakref.ref[object]] = []
    crew.start(lambda: found.append(weakref.ref(agents.current())))
    crew.join()
    crew.jobs.clear()
    crew.until(lambda: not agents.any_dying())  # whoever asks next lets those go whose threads are gone
    gc.collect()
    assert found[0]() is None


def test_a_thread_that_threading_does_not_know(crew: Crew) -> None:
    """A thread started by ``_thread`` is an agent like any other: owner, waiter, party, and seen to end."""
    lock = lockwatch.Lock(name="left")
    started = threading.Event()

    def body() -> None:
        lock.acquire()
        started.set()
        if not started.is_set():
            lock.release()  # it was this function's to release

    before = set(threading.enumerate())
    ident = _thread.start_new_thread(body, ())
    assert started.wait(10)
    crew.until(lambda: ident not in agents.by_ident)
    assert set(threading.enumerate()) == before  # no dummy Thread was made for it

    def late() -> None:
        with lock:
            pass

    crew.start(late)
    (found,) = crew.deadlocks()
    assert found.cause == "orphan"
    assert found.parties[1].name == f"thread {ident}"
    assert found.parties[1].daemon is None


def test_a_dying_thread_whose_ident_is_given_again(crew: Crew) -> None:
    """What has ended is not dying any more once another native thread has its ident; with the same one it still is.

    (An agent that counted as dying would hide each deadlock of cause "asleep", as long as that other thread lives.)
    """
    leave = threading.Event()
    heir = crew.start(lambda: (agents.current(), leave.wait(10)))
    crew.until(lambda: heir.agent is not None)
    assert heir.agent is not None
    other, same = (
        agents.Agent(heir.agent.ident, native_id, None)
        for native_id in (threading.get_native_id(), heir.agent.native_id)
    )
    for agent in (other, same):
        agent.ended = True
        agents.dying[agent.serial] = agent
    try:
        assert not agents.is_dying(other)
        assert agents.is_dying(same)
        assert agents.any_dying()
    finally:
        leave.set()
        crew.join()
        agents.dying.clear()


def test_a_dummy_of_a_thread_that_had_the_ident_before(run_python: RunPython) -> None:
    """`threading` keeps the dummy of a thread that it does not know; whoever is given its ident is not that one."""
    done = run_python(
        """
        import lockwatch
        lockwatch.install()
        import threading
        from lockwatch._core import agents
        class Successor(threading.Thread):
            def _set_ident(self):
                super()._set_ident()
                threading._active[self._ident] = threading._DummyThread.__new__(threading._DummyThread)
            def run(self):
                print(agents.current().thread() is self)
        thread = Successor()
        thread.start()
        thread.join()
        """
    )
    assert done.stdout == "True\n", done.stderr


# --- fork ------------------------------------------------------------------------------------------------------------

FORK = """
    import os, sys, threading, time, warnings
    import lockwatch
    from lockwatch import config
    config.configure(cpu=False)
    warnings.simplefilter("ignore")

    def until(condition):
        while not condition():
            time.sleep(0.001)

    def child(body):
        "Run body in a fork and return its exit status."
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            try:
                body()
                sys.stdout.flush()
                os._exit(0)
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    end = threading.Event()
"""


def forked(run_python: RunPython, body: str) -> list[str]:
    """Runs a program after the prelude and returns the lines that it and its children print."""
    done = run_python(FORK + body)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@forks
@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_owner_did_not_come_along(kind: str, run_python: RunPython) -> None:
    """In the child a lock held by a thread that a fork left behind is an orphan; re-made, it is as good as new.

    In the parent nothing has changed.
    """
    printed = forked(
        run_python,
        f"""
    lock = lockwatch.{kind}(name="lock")

    def owner():
        with lock:
            end.wait()

    thread = threading.Thread(target=owner, name="owner")
    thread.start()
    until(lock.locked)

    def body():
        try:
            with lock:
                print("got it")
        except lockwatch.DeadlockError as error:
            found = error.finding
            print(found.cause, found.pid == os.getpid(), *[(one.name, one.alive) for one in found.parties])
        assert [row.agent for row in lockwatch.holders()] == []
        lock._at_fork_reinit()
        with lock:
            print("as good as new", [row.agent for row in lockwatch.holders()])
        lock._check()
        assert not lock.locked()

    assert child(body) == 0
    assert lock.locked() and lockwatch.recorded_findings() == ()
    end.set()
    thread.join()
    with lock:
        print("parent")
    """,
    )
    assert printed == [
        "orphan True ('MainThread', True) ('owner', False)",
        "as good as new [\"Thread 'MainThread'\"]",
        "parent",
    ]


@forks
def test_waits_stay_behind(run_python: RunPython) -> None:
    """The child has none of the parent's waits: its queues are empty, and the forking thread's locks are still its own."""
    printed = forked(
        run_python,
        """
    lock, own = lockwatch.Lock(name="lock"), lockwatch.RLock(name="own")

    def waiter():
        with own, lock:
            pass

    lock.acquire()
    threads = [threading.Thread(target=waiter, name=f"w{n}") for n in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: len(lockwatch.waits()) == 3)

    def body():
        assert lockwatch.waits() == () and lock.statistics().waiters == own.statistics().waiters == 0
        print([(row.agent, row.hold.resource) for row in lockwatch.holders()])
        lock._check()
        lock.release()
        with lock:
            print("taken again", lock.statistics().mode)
        try:
            own.acquire()
        except lockwatch.DeadlockError as error:
            print(error.finding.cause)

    assert child(body) == 0
    assert len(lockwatch.waits()) == 3
    lock.release()
    for thread in threads:
        thread.join()
    assert lockwatch.recorded_findings() == ()
    """,
    )
    assert printed == ["[(\"Thread 'MainThread'\", \"Lock 'lock'\")]", "taken again normal", "orphan"]


@forks
def test_fork_from_another_thread(run_python: RunPython) -> None:
    """The forking thread lives on in the child as the main one, with what it holds; main's locks are orphans there."""
    printed = forked(
        run_python,
        """
    mine, theirs = lockwatch.Lock(name="mine"), lockwatch.Lock(name="theirs")

    def body():
        me = lockwatch._core.agents.current()
        assert me.main and me.ident == threading.get_ident() and me.native_id == threading.get_native_id()
        try:
            with theirs:
                print("got it")
        except lockwatch.DeadlockError as error:
            print(error.finding.cause, [one.name for one in error.finding.parties])
        try:
            with mine:
                print("got it")
        except lockwatch.DeadlockError as error:
            print(error.finding.cause, [one.name for one in error.finding.parties])
        mine.release()

        # and the detector goes on working among the child's own threads
        gate = threading.Barrier(2)
        def cross(one, two):
            try:
                with one:
                    gate.wait()
                    with two:
                        pass
            except lockwatch.DeadlockError as error:
                print(error.finding.cause)
        a, b = lockwatch.Lock(), lockwatch.Lock()
        threads = [threading.Thread(target=cross, args=pair) for pair in ((a, b), (b, a))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def forker():
        with mine:
            assert child(body) == 0

    with theirs:
        thread = threading.Thread(target=forker, name="forker")
        thread.start()
        thread.join()
    assert lockwatch.recorded_findings() == ()
    """,
    )
    assert printed == ["orphan ['forker', 'MainThread']", "self ['forker']", "cycle"]


@forks
def test_child_of_a_child(run_python: RunPython) -> None:
    """Each fork leaves its own threads behind: what the grandparent's held is still an orphan, and says whose."""
    printed = forked(
        run_python,
        """
    first, second = lockwatch.Lock(name="first"), lockwatch.Lock(name="second")

    def hold(lock):
        with lock:
            end.wait()

    def start(lock, name):
        threading.Thread(target=hold, args=(lock,), name=name, daemon=True).start()
        until(lock.locked)

    def grandchild():
        for lock in (first, second):
            try:
                with lock:
                    print("got it")
            except lockwatch.DeadlockError as error:
                print(error.finding.cause, error.finding.parties[1].name)

    def body():
        start(second, "of the child")
        assert child(grandchild) == 0

    start(first, "of the parent")
    assert child(body) == 0
    end.set()
    """,
    )
    assert printed == ["orphan of the parent", "orphan of the child"]


@forks
def test_fork_inside_a_wait(run_python: RunPython) -> None:
    """A signal handler that forks inside a wait: parent and child both go on waiting, each for its own copy."""
    printed = forked(
        run_python,
        """
    import signal
    lock = lockwatch.Lock(name="lock")
    status = []

    def owner():
        with lock:
            end.wait()

    def body():
        assert [row.agent for row in lockwatch.waits()] == ["Thread 'MainThread'"]
        lock._at_fork_reinit()
        with lock:
            print("child")

    def handler(*args):
        status.append(child(body))
        end.set()

    threading.Thread(target=owner).start()
    until(lock.locked)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    with lock:
        print("parent", status)
    assert lockwatch.recorded_findings() == ()
    """,
    )
    assert printed == ["child", "parent [0]"]
