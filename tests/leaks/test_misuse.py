"""Locks that are misused: what is said of each way to do it, and what looks like it and is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.leaks.conftest import Findings

BLOCKED = """
lock = threading.Lock()
held, go_on = threading.Event(), threading.Event()
def hold():
    with lock:
        held.set()
        go_on.wait()
def start():
    thread = threading.Thread(target=hold, name="holder")
    thread.start()
    held.wait()
    return thread
def take():
    with lock:
        pass
def let_go_when_said():
    until(lambda: found("misuse"))
    go_on.set()
def let_go_later():
    time.sleep(0.25)
    go_on.set()
"""


def test_a_blocked_event_loop(findings: Findings) -> None:
    """After `loop_block` it is said, while the lock is held, with the stack of whoever holds it."""
    (one,) = findings(
        BLOCKED
        + """
async def main():
    holder = start()
    threading.Thread(target=let_go_when_said).start()
    take()
    holder.join()
asyncio.run(main())
"""
    )
    assert (one["kind"], one["level"]) == ("misuse", "warning")
    assert (
        "the event loop of Thread 'MainThread' has been blocked by Task 'Task-1' for 0.1 s" in one["message"]
    )
    assert "it waits for Lock 'lock', held by Thread 'holder'" in one["message"]
    blocked, holder = one["parties"]
    assert blocked["waits_for"]["resource"] == "Lock 'lock'"
    assert [hold["resource"] for hold in holder["holds"]] == ["Lock 'lock'"]
    assert "go_on.wait()" in [frame["source"] for frame in holder["stack"]]


@pytest.mark.parametrize(
    ("settings", "main"),
    [
        ({"loop_block": 5.0}, "take()"),
        ({"loop_block": 0.0}, "take()"),
        ({}, "await asyncio.to_thread(take)"),
        ({}, "assert lock.acquire(timeout=0.05) is False"),
    ],
    ids=["shorter than the limit", "switched off", "in a thread of its own", "a short time-out"],
)
def test_an_event_loop_that_is_not_blocked_for_long(
    findings: Findings, settings: dict[str, object], main: str
) -> None:
    """A wait below the limit, or in a thread that runs no loop, is nobody's business."""
    program = f"""
async def main():
    holder = start()
    threading.Thread(target=let_go_later).start()
    {main}
    go_on.wait()
    holder.join()
asyncio.run(main())
"""
    assert findings(BLOCKED + program, settings=settings) == []


def test_a_thread_without_a_loop_may_wait(findings: Findings) -> None:
    """The same wait before the loop runs, and after it: silent."""
    assert (
        findings(
            BLOCKED
            + """
asyncio.run(asyncio.sleep(0))
holder = start()
threading.Thread(target=let_go_later).start()
take()
holder.join()
"""
        )
        == []
    )


def test_released_by_the_wrong_thread(findings: Findings) -> None:
    """A re-entrant lock: MisuseError, and a finding with both threads. A plain one may be released by anybody."""
    (one,) = findings(
        """
        mine, anybodys = threading.RLock(), threading.Lock()
        mine.acquire(), anybodys.acquire()
        def other():
            anybodys.release()
            mine.release()
        for _ in range(2):
            run(other)
            anybodys.acquire()
        mine.release()
        """
    )
    assert (one["kind"], one["level"]) == ("misuse", "warning")
    assert "Thread 'other' releases RLock 'mine', which Thread 'MainThread' holds" in one["message"]
    assert [party["name"] for party in one["parties"]] == ["other", "MainThread"]


def test_a_release_that_expects_to_be_refused(findings: Findings) -> None:
    """Whoever releases in a ``try`` knows that it may not be theirs."""
    assert (
        findings(
            """
            mine = threading.RLock()
            mine.acquire()
            def other():
                try:
                    mine.release()
                except RuntimeError:
                    return
                raise AssertionError
            run(other)
            mine.release()
            """
        )
        == []
    )


def test_released_by_the_wrong_task(findings: Findings) -> None:
    """The same for `lockwatch.aio.RLock`."""
    (one,) = findings(
        """
        from lockwatch import aio
        async def main():
            lock = aio.RLock()
            async def other():
                lock.release()
            async with lock:
                (error,) = await asyncio.gather(asyncio.create_task(other(), name="other"), return_exceptions=True)
            assert isinstance(error, lockwatch.MisuseError)
        asyncio.run(main())
        """
    )
    assert "Task 'other' releases asyncio.RLock 'lock', which Task 'Task-1' holds" in one["message"]


COPIES = """
import copy, pickle
class Account:
    def __init__(self):
        self.lock = threading.Lock()
account = Account()
def attempt(body):
    try:
        body()
    except TypeError:
        return
    raise AssertionError
"""


@pytest.mark.parametrize(
    "how", ["copy.copy(account.lock)", "copy.deepcopy(account)", "pickle.dumps(account)"]
)
def test_copied(findings: Findings, how: str) -> None:
    """A note, with the place in the program, beside the CopyError; the same place is said once."""
    (one,) = findings(
        COPIES
        + f"""
def duplicate():
    return {how}
attempt(duplicate)
attempt(duplicate)
"""
    )
    assert (one["kind"], one["level"]) == ("misuse", "note")
    assert "Lock 'Account.lock' cannot be copied" in one["message"]
    assert "in duplicate" in one["message"]


def test_a_copy_that_is_only_tried(findings: Findings) -> None:
    """Whoever copies in a ``try`` has something else to do if that fails. A fresh lock in the copy is right."""
    program = """
def duplicate():
    try:
        return copy.deepcopy(account)
    except TypeError:
        return account
assert duplicate() is account
class Careful(Account):
    def __deepcopy__(self, memo):
        return Careful()
copy.deepcopy(Careful())
"""
    assert findings(COPIES + program) == []


FORKED = """
held, go_on = threading.Event(), threading.Event()
lock = threading.{kind}()
def hold():
    {hold}
    go_on.wait()
    {let_go}
def hold_by_with():
    with lock:
        held.set()
        go_on.wait()
thread = threading.Thread(target={target}, name="holder")
thread.start()
held.wait()
child = os.fork()
if not child:
    {child}
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
go_on.set()
thread.join()
"""


def test_a_lock_inherited_held(findings: Findings) -> None:
    """A child waits with a time-out for a lock that a thread of its parent holds: nobody is there to release it."""
    (one,) = findings(
        FORKED.format(
            kind="Lock",
            hold="",
            let_go="",
            target="hold_by_with",
            child="assert not lock.acquire(timeout=0.01); assert not lock.acquire(timeout=0.01)",
        )
    )
    assert (one["kind"], one["level"]) == ("misuse", "warning")
    assert (
        "waits for Lock 'lock' in vain: Thread 'holder' held it when this process was forked"
        in one["message"]
    )
    assert [party["alive"] for party in one["parties"]] == [True, False]


@pytest.mark.parametrize(
    ("kind", "hold", "let_go", "child"),
    [
        (
            "RLock",
            "lock.acquire(); held.set()",
            "lock.release()",
            "lock._at_fork_reinit(); lock.acquire(timeout=1)",
        ),
        ("Lock", "lock.acquire(); held.set()", "", "lock.acquire(timeout=0.01)"),
        ("Lock", "lock.acquire(); held.set()", "lock.release()", "lock.acquire(False)"),
    ],
    ids=["made anew", "a signal, perhaps", "tried"],
)
def test_a_lock_after_a_fork_that_is_no_misuse(
    findings: Findings, kind: str, hold: str, let_go: str, child: str
) -> None:
    """What the child has made anew, what another thread of the child may release, and what is only tried."""
    assert findings(FORKED.format(kind=kind, hold=hold, let_go=let_go, target="hold", child=child)) == []


PRIVATE = {
    "entered at once": ("with threading.Lock():\n        pass", "warning"),
    "a condition": ("with threading.Condition():\n        pass", "warning"),
    "a local variable": ("lock = threading.RLock()\n    with lock:\n        pass", "note"),
    "taken and released": (
        "lock = threading.Lock()\n    lock.acquire()\n    try:\n        pass\n    finally:\n        lock.release()",
        "note",
    ),
}


@pytest.mark.parametrize("name", PRIVATE)
def test_a_lock_for_one_call(findings: Findings, name: str) -> None:
    """A lock that nobody but the call that makes it can see protects nothing: said once, with the place."""
    body, level = PRIVATE[name]
    (one,) = findings(
        f"""
def count():
    {body}
for _ in range(3):
    count()
until(lambda: found("misuse"))
"""
    )
    assert (one["kind"], one["level"]) == ("misuse", level)
    assert "protects nothing" in one["message"]
    assert "in count" in one["message"]


SHARED = """
def for_a_thread():
    lock = threading.Lock()
    def other():
        with lock:
            pass
    run(other)
    with lock:
        pass
def given_away():
    lock = threading.Lock()
    thread = threading.Thread(target=take, args=(lock,))
    thread.start()
    with lock:
        pass
    thread.join()
def take(lock):
    with lock:
        pass
def stored():
    with (lock := threading.Lock()):
        everybodys.append(lock)
    everybodys.clear()
everybodys = []
class Box:
    def __init__(self):
        self.lock = lock = threading.Lock()
        with lock:
            pass
def steps():
    lock = threading.Lock()
    with lock:
        yield
def or_that(other=None):
    lock = threading.Lock()
    if other is not None:
        lock = other
    with lock:
        pass
def pool():
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor() as workers:
        workers.submit(int).result()
def others():
    with threading.Semaphore():
        pass
    q = queue.Queue()
    q.put(1)
    q.get()
for _ in range(2):
    for_a_thread(), given_away(), stored(), Box(), list(steps()), or_that(), pool(), others()
"""


def test_a_lock_for_one_call_that_is_shared(findings: Findings) -> None:
    """Given to a thread, stored, seen by an inner function or a generator, inside something else: silent."""
    assert findings(SHARED) == []


TWO_LOOPS = """
import lockwatch.aio
lock = {kind}()
held, done = threading.Event(), threading.Event()
async def hold():
    async with lock:
        held.set()
        while not done.is_set():
            await asyncio.sleep(0.01)
async def want():
    async with lock:
        pass
"""


@pytest.mark.parametrize("kind", ["asyncio.Lock", "lockwatch.aio.Lock"])
def test_two_loops_at_once(findings: Findings, kind: str) -> None:
    """A task waits for a lock that a task of another loop holds: its release would call into the wrong loop."""
    found = findings(
        TWO_LOOPS.format(kind=kind)
        + """
thread = threading.Thread(target=lambda: asyncio.run(hold()))
thread.start()
held.wait()
async def main():
    task = asyncio.create_task(want(), name="want")
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
asyncio.run(main())
done.set()
thread.join()
"""
    )
    (one,) = [one for one in found if one["kind"] == "misuse"]
    assert one["level"] == "warning"
    assert "Task 'want' waits for asyncio.Lock 'lock', which belongs to another event loop" in one["message"]


@pytest.mark.parametrize("kind", ["asyncio.Lock", "lockwatch.aio.Lock"])
def test_a_second_loop_after_the_first(findings: Findings, kind: str) -> None:
    """A lock that was waited for in one loop is bound to it: to wait for it in a second one fails."""
    (one,) = findings(
        TWO_LOOPS.format(kind=kind)
        + """
async def main(fails):
    holder = asyncio.create_task(hold())
    await asyncio.sleep(0.01)
    waiter = asyncio.create_task(want(), name="want")
    await asyncio.sleep(0.01)
    done.set()
    await holder
    (error,) = await asyncio.gather(waiter, return_exceptions=True)
    assert isinstance(error, RuntimeError) is fails, error
    done.clear()
asyncio.run(main(False))
asyncio.run(main(True))
"""
    )
    assert (one["kind"], one["level"]) == ("misuse", "warning")


def test_one_loop_after_another_without_waiting(findings: Findings) -> None:
    """A lock that nobody waits for may be used in one loop after the other."""
    program = "done.set()\nasyncio.run(hold())\nasyncio.run(hold())\nasyncio.run(want())\n"
    assert findings(TWO_LOOPS.format(kind="asyncio.Lock") + program) == []
