"""asyncio's locks under ``install()``: those made before, by name, in subclasses; asyncio's order; and back again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import RunPython

CIRCLE = """
    import asyncio
    import lockwatch
    {before}

    async def member(mine, other, holding):
        async with mine:
            await holding.wait()
            async with other:
                return "went on"

    async def main(locks):
        holding = asyncio.Barrier(2)
        found = await asyncio.gather(
            member(locks[0], locks[1], holding), member(locks[1], locks[0], holding), return_exceptions=True
        )
        return sorted(type(one).__name__ if isinstance(one, Exception) else one for one in found)

    {test}
"""


def circle(run_python: RunPython, before: str, test: str) -> str:
    """Runs the program and returns what it prints."""
    done = run_python(CIRCLE.format(before=before, test=test.replace("\n", "\n    ")))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


FOUND = "['DeadlockError', 'went on']"


@pytest.mark.parametrize(
    ("before", "locks"),
    [
        ("lockwatch.install()", "[asyncio.Lock(), asyncio.Lock()]"),
        ("locks = [asyncio.Lock(), asyncio.Lock()]; lockwatch.install()", "locks"),
        ("from asyncio import Lock; lockwatch.install()", "[Lock(), Lock()]"),
        ("Sub = type('Sub', (asyncio.Lock,), {}); lockwatch.install()", "[Sub(), Sub()]"),
        ("locks = [asyncio.Condition(), asyncio.Condition()]; lockwatch.install()", "locks"),
        ("lockwatch.install()", "[asyncio.Condition(), asyncio.Condition()]"),
        ("lockwatch.install()", "[asyncio.Semaphore(), asyncio.BoundedSemaphore()]"),
    ],
)
def test_circle_is_found(run_python: RunPython, before: str, locks: str) -> None:
    """Two tasks in a circle: one gets the error at once, the other goes on. Whatever the lock, whenever it was made."""
    assert circle(run_python, before, f"print(asyncio.run(main({locks})))") == FOUND


def test_name_and_place(run_python: RunPython) -> None:
    """The report names the locks after the program's source."""
    test = """mine, other = asyncio.Lock(), asyncio.Lock()
asyncio.run(main([mine, other]))
print(sorted(lockwatch.recorded_findings()[0].cycle[1::2]))"""
    assert (
        circle(run_python, "lockwatch.install()", test)
        == "[\"asyncio.Lock 'mine'\", \"asyncio.Lock 'other'\"]"
    )


def test_uninstall(run_python: RunPython) -> None:
    """Everything is as before: methods, the program's objects, and conditions made meanwhile. Held locks stay held."""
    test = """import copy, pickle
acquire, release, init = asyncio.Lock.acquire, asyncio.Lock.release, asyncio.Lock.__init__
lockwatch.install()
assert asyncio.Lock.acquire is not acquire
lock, condition, semaphore, event = asyncio.Lock(), asyncio.Condition(), asyncio.Semaphore(), asyncio.Event()
assert lock._lockwatch.name == "lock" and event._lockwatch.name == "event"
copies = copy.deepcopy([lock, semaphore, event])
pickle.loads(pickle.dumps([lock, condition._lock, event]))
assert copies[0]._lockwatch is None
shallow = copy.copy(lock)
async def use():
    async with lock, condition, semaphore, copies[0], shallow:
        assert lock._lockwatch._owner() and shallow._lockwatch is not lock._lockwatch
        lockwatch.uninstall()
        assert (asyncio.Lock.acquire, asyncio.Lock.release, asyncio.Lock.__init__) == (acquire, release, init)
        assert not any("_lockwatch" in vars(one) for one in (lock, condition, semaphore, event))
        assert condition.acquire.__func__ is acquire
        lockwatch.install()
        assert condition.acquire.__func__ is not acquire
    assert not lock.locked() and not condition.locked() and not semaphore.locked()
asyncio.run(use())
print("done")"""
    assert circle(run_python, "", test) == "done"


def test_asyncio_later(run_python: RunPython) -> None:
    """``install()`` does not load asyncio; when the program does, its locks are watched."""
    done = run_python("""
        import sys
        import lockwatch
        lockwatch.install()
        assert "asyncio" not in sys.modules
        import asyncio

        async def main():
            lock = asyncio.Lock()
            async with lock:
                async with lock:
                    pass
        try:
            asyncio.run(main())
        except lockwatch.DeadlockError as error:
            print(error.finding.cause)
    """)
    assert done.stdout.strip() == "self", done.stderr


def test_asyncios_order(run_python: RunPython) -> None:
    """Under ``install()`` the order is asyncio's own: nobody overtakes a waiter that was woken."""
    done = run_python("""
        import asyncio
        import lockwatch
        lockwatch.install()

        async def main():
            lock, got = asyncio.Lock(), []

            async def take(name):
                async with lock:
                    got.append(name)

            await lock.acquire()
            tasks = [asyncio.create_task(take(name)) for name in "ab"]
            await asyncio.sleep(0)
            lock.release()
            tasks.append(asyncio.create_task(take("c")))
            await take("d")
            await asyncio.gather(*tasks)
            print("".join(got), lock)

        asyncio.run(main())
        print(lockwatch.recorded_findings())
    """)
    order, findings = done.stdout.splitlines()
    assert order.startswith("abdc <asyncio.locks.Lock object at")
    assert findings == "()"


def test_watched_names_beside_it(run_python: RunPython) -> None:
    """Classes of ``lockwatch.aio`` work the same under ``install()``."""
    before = "lockwatch.install(); from lockwatch import aio"
    locks = "[aio.Lock(), aio.RLock()]", "[aio.Semaphore(), aio.BoundedSemaphore()]"
    test = "\n".join(f"print(asyncio.run(main({pair})))" for pair in locks)
    assert circle(run_python, before, test).splitlines() == [FOUND, FOUND]
