"""Locks left behind: by threads, by tasks, at exit, by the program that drops them; and what is no leak."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.leaks.conftest import Findings

CERTAIN = {
    "a re-entrant lock": (
        "r = threading.RLock()\nrun(r.acquire, name='worker')\nuntil(lambda: found('leak'))",
        "Thread 'worker' ended while it held RLock 'r'",
    ),
    "a release skipped by an exception": (
        """
        lock = threading.Lock()
        def worker():
            lock.acquire()
            fail()
            lock.release()
        run(worker)
        until(lambda: found('leak'))
        """,
        "Thread 'worker' ended while it held Lock 'lock', by LookupError raised at program.py:10 in fail",
    ),
    "an exception that was swallowed": (
        """
        lock = threading.Lock()
        def worker():
            try:
                lock.acquire()
                fail()
                lock.release()
            except LookupError:
                pass
        run(worker)
        until(lambda: found('leak'))
        """,
        "Thread 'worker' ended while it held Lock 'lock'",
    ),
    "a return before the release": (
        """
        lock = threading.Lock()
        def worker():
            lock.acquire()
            if lock:
                return
            lock.release()
        run(worker)
        """,
        "Thread 'worker' ended while it held Lock 'lock'",
    ),
    "a thread that threading does not know": (
        """
        import _thread
        r = threading.RLock()
        _thread.start_new_thread(lambda: r.acquire(), ())
        until(lambda: found('leak'))
        """,
        "ended while it held RLock 'r'",
    ),
    "a condition's lock": (
        """
        class Box:
            def __init__(self):
                self.changed = threading.Condition()
            def get(self):
                self.changed.acquire()
                fail()
                self.changed.release()
        box = Box()
        run(box.get, name='worker')
        until(lambda: found('leak'))
        """,
        "Thread 'worker' ended while it held RLock 'Box.changed', by LookupError",
    ),
    "dropped": (
        """
        class Client:
            def __init__(self):
                self._lock = threading.Lock()
            def ask(self):
                self._lock.acquire()
                fail()
                self._lock.release()
        try:
            Client().ask()
        except LookupError:
            pass
        until(lambda: found('leak'))
        """,
        "Lock 'Client._lock' was dropped by the program while Thread 'MainThread' held it: its release was skipped",
    ),
    "a task's": (
        """
        lock = asyncio.Lock()
        async def body():
            await lock.acquire()
            fail()
            lock.release()
        async def main():
            done, _ = await asyncio.wait([asyncio.create_task(body(), name="job")])
            done.pop().exception()
            gc.collect()
            until(lambda: found('leak'))
        asyncio.run(main())
        """,
        "Task 'job' ended while it held asyncio.Lock 'lock'",
    ),
    "a task's that awaited meanwhile": (
        """
        lock = asyncio.Lock()
        async def body():
            await lock.acquire()
            await asyncio.sleep(0.05)
            fail()
            lock.release()
        async def main():
            job = asyncio.create_task(body(), name='job')
            await asyncio.wait([job])
            assert found('leak')
            job.exception()
        asyncio.run(main())
        """,
        "Task 'job' ended while it held asyncio.Lock 'lock', by LookupError raised at program.py:10 in fail",
    ),
}


@pytest.mark.parametrize("name", CERTAIN)
def test_leaks_are_found(findings: Findings, name: str) -> None:
    """Each is said once, as a warning, with the lock, its owner and the place where it was taken."""
    program, message = CERTAIN[name]
    (leak,) = findings(program)
    assert (leak["kind"], leak["level"]) == ("leak", "warning")
    assert message in leak["message"]
    (party,) = leak["parties"]
    (hold,) = party["holds"]
    assert hold["taken"] is not None
    assert hold["resource"] in leak["message"]
    assert "not for the report" not in str(leak)


SILENT = """
# a signal: the thread takes it and ends, another one lets go
signalled = threading.Lock()
run(signalled.acquire)
until(lambda: signalled.locked())
signalled.release()
run(signalled.acquire)

# handed over to a thread that is started, unless that fails
handed = threading.Lock()
go_on = threading.Event()
def finish():
    go_on.wait()
    handed.release()
crew = []
def hand_over():
    handed.acquire()
    try:
        crew.append(threading.Thread(target=finish))
        crew[0].start()
    except BaseException:
        handed.release()
        raise
run(hand_over)
time.sleep(0.05)
go_on.set()
crew[0].join()

# kept for life
only_one = threading.Lock()
run(only_one.acquire, False)
for_life = threading.Lock()
for_life.acquire()
class Daemon:
    def __init__(self):
        self.running = threading.RLock()
        self.running.acquire()
daemon = Daemon()

# a gate: whoever comes through keeps it
gate = threading.Lock()
gate.acquire()
through = threading.Thread(target=gate.acquire)
through.start()
gate.release()
through.join()

# taken in one function, let go in another
class Pair:
    def __init__(self):
        self.lock = threading.Lock()
    def begin(self):
        self.lock.acquire()
    def end(self):
        self.lock.release()
pair = Pair()
run(pair.begin)
pair.end()
Pair().begin()

# a daemon thread is in the middle of something
working = threading.RLock()
def work():
    working.acquire()
    ready.set()
    threading.Event().wait()
    working.release()
ready = threading.Event()
threading.Thread(target=work, daemon=True).start()
ready.wait()

# a generator that another thread goes on with
plain = threading.Lock()
def steps():
    with plain:
        yield
halfway = []
def begin():
    step = steps()
    next(step)
    halfway.append(step)
run(begin)
time.sleep(0.05)
halfway.pop().close()

# a waiter's lock, dropped when its time is up
def wait():
    waiter = threading.Lock()
    waiter.acquire()
    waiter.acquire(timeout=0.01)
wait()

# an exception that the release survives
def careful():
    plain.acquire()
    try:
        fail()
    finally:
        plain.release()
run(careful)

# tasks: a signal, and one that lets go when it is cancelled
async def main():
    told = asyncio.Lock()
    await asyncio.create_task(told.acquire())
    told.release()
    held = asyncio.Lock()
    async def hold():
        async with held:
            await asyncio.sleep(60)
    task = asyncio.create_task(hold())
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait([task])
    async def keep():
        await told.acquire()
    await asyncio.create_task(keep())
    return told
kept = asyncio.run(main())
gc.collect()
"""


def test_what_is_no_leak(findings: Findings) -> None:
    """Signals, gates, locks on their way to another thread, locks for life, generators, daemons: silent to the end."""
    assert findings(SILENT) == []


def test_one_place_is_said_once(findings: Findings) -> None:
    """A hundred threads that end with a lock of one class taken at one place are one problem."""
    (leak,) = findings(
        """
        def worker():
            lock = threading.RLock()
            locks.append(lock)
            lock.acquire()
        locks = []
        for _ in range(100):
            run(worker)
        """
    )
    assert leak["fingerprint"]


def test_the_last_look_awaits_what_the_watchdog_is_telling(findings: Findings) -> None:
    """A leak that the watchdog has begun to report has been delivered when `last_look` returns."""
    (leak,) = findings(
        """
        from lockwatch import delivery, leaks
        begun, go_on = threading.Event(), threading.Event()
        def slow(finding):
            begun.set()
            go_on.wait(15)
        delivery.add_sink(slow)
        def pause(seconds):  # of whoever awaits the watchdog
            before.append(found('leak'))
            go_on.set()
            time.sleep(seconds)
        before, watchdog.sleep = [], pause
        lock = threading.RLock()
        run(lock.acquire)
        assert begun.wait(15)
        leaks.last_look()
        assert before[0] == []
        assert len(found('leak')) == 1
        """
    )
    assert leak["kind"] == "leak"


EXIT = """
lock = threading.Lock()
def work():
    lock.acquire()
    fail()
    lock.release()
try:
    work()
except LookupError:
    pass
"""


def test_held_by_the_main_thread_at_exit(findings: Findings) -> None:
    """A lock whose release was skipped and that is still held at exit: a note. One that is let go by atexit: nothing."""
    (leak,) = findings(EXIT)
    assert (leak["kind"], leak["level"]) == ("leak", "note")
    assert "the program ended while Thread 'MainThread' held Lock 'lock'" in leak["message"]


def test_released_at_exit(findings: Findings) -> None:
    """What the program's own exit functions release is not held at exit."""
    assert findings(EXIT + "import atexit\natexit.register(lock.release)") == []


def test_a_child_has_not_left_what_its_parent_holds(findings: Findings) -> None:
    """Locks that were held by threads that a fork left behind are no leaks of the child, not even when it drops them."""
    assert (
        findings(
            """
            locks = [threading.RLock()]
            taken, done = threading.Event(), threading.Event()
            def hold():
                with locks[0]:
                    taken.set()
                    done.wait()
            thread = threading.Thread(target=hold)
            thread.start()
            taken.wait()
            child = os.fork()
            if not child:
                locks.clear()
                gc.collect()
                sys.exit()
            assert os.waitpid(child, 0)[1] == 0
            done.set()
            thread.join()
            """
        )
        == []
    )


STALL = """
lock = threading.Lock()
def owner():
    try:
        work()
    except LookupError:
        taken.set()
        done.wait()
    {clean_up}
def work():
    lock.acquire()
    {fail}
    lock.release()
def want():
    with lock:
        pass
taken, done = threading.Event(), threading.Event()
holder = threading.Thread(target=owner, name='holder', daemon=True)
holder.start()
taken.wait()
waiter = threading.Thread(target=want, name='waiter', daemon=True)
waiter.start()
"""


def test_a_skipped_release_that_somebody_waits_for(findings: Findings) -> None:
    """After a second: the owner has left the function that was to release the lock. With both stacks; no deadlock yet."""
    (stall,) = findings(
        STALL.format(fail="fail()", clean_up="lock.release()")
        + "until(lambda: found('stall'))\ndone.set()\nwaiter.join()\nholder.join()"
    )
    assert (stall["kind"], stall["level"]) == ("stall", "warning")
    assert "Thread 'holder' holds it, and has left work(), which took it" in stall["message"]
    assert [party["name"] for party in stall["parties"]] == ["waiter", "holder"]
    assert all(party["stack"] for party in stall["parties"])


def test_a_long_critical_section_is_no_skipped_release(findings: Findings) -> None:
    """The owner still runs the function that took the lock: it may take as long as it likes."""
    assert (
        findings(
            STALL.format(fail="taken.set(); done.wait()", clean_up="")
            + "time.sleep(1.6)\nassert watchdog.running()\ndone.set()\nwaiter.join()\nholder.join()"
        )
        == []
    )
