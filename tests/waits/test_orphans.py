"""What was held by somebody who is gone can be let go by nobody: the owner ended, or did not come along through a fork."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.waits.conftest import Watched

DAEMON = "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
KEEP = """
kept = []
def hold(thing):
    def holding():
        with thing:
            yield
    kept.append(holding())
    next(kept[-1])
"""


@pytest.mark.parametrize("kind", ["Lock()", "RLock()", "Semaphore(1)", "BoundedSemaphore(1)"])
@pytest.mark.parametrize("first", ["the owner ends", "the waiter waits"])
def test_of_a_thread_that_ended(watched: Watched, kind: str, first: str) -> None:
    """A lock or permit that an ended thread took by ``with``: found with a thread awake, before and after its end."""
    waits_first = first == "the waiter waits"
    outcome = watched(
        f"""
        from scene import *
        {DAEMON}
        {KEEP.replace(chr(10), chr(10) + "        ")}
        thing = threading.{kind}
        def owner():
            hold(thing)
            if {waits_first}:
                until(lambda: agents.by_ident[threading.main_thread().ident].waits)
        one = go("owner", owner)
        if not {waits_first}:
            one.join()
            until(lambda: one.ident not in sys._current_frames())
        until(lambda: kept)
        def main():
            with thing:  # wants it
                pass
        attempt(main)
        """
    )
    (found,) = outcome.deadlocks
    assert found[:2] == ("orphan", "MainThread")
    assert found.waits["MainThread"][0].endswith(" 'thing'")
    assert found.waits["MainThread"][1] == "wants it"
    gone = [party["name"] for party in outcome.findings[0]["parties"] if not party["alive"]]
    assert gone == ["owner"]
    assert outcome.said == ["MainThread: DeadlockError at wants it", "owner: went on"]


def test_a_bare_lock_of_a_thread_that_ended(watched: Watched) -> None:
    """A lock taken by a bare acquire may be a signal: nobody else has it in sight, so after the grace it is an orphan."""
    outcome = watched(
        f"""
        from scene import *
        {DAEMON}
        def main():
            thing = threading.Lock()
            thread = threading.Thread(target=thing.acquire, name="owner")
            thread.start()
            thread.join()
            until(lambda: thread.ident not in sys._current_frames())
            del thread
            thing.acquire()  # wants it
        attempt(main)
        """,
        settings={"reacquire_grace": 0.2},
    )
    (found,) = outcome.deadlocks
    assert found[:2] == ("orphan", "MainThread")
    assert found.waits["MainThread"] == ("Lock 'thing'", "wants it")
    assert outcome.said == ["MainThread: DeadlockError at wants it"]


def test_not_of_a_thread_that_lives(watched: Watched) -> None:
    """A thread that took the ident of an ended one is not its heir; threads that come and go leave nothing behind."""
    outcome = watched(
        """
        from scene import *
        lock = threading.Lock()
        def use():
            with lock:
                time.sleep(0.001)
        for _ in range(100):
            threads = [threading.Thread(target=use) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        """
    )
    assert outcome.findings == []


FORK = """
def in_child(body, *args):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        threading.current_thread().name = "child"
        attempt(body, *args)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize(
    "kind",
    [
        "Lock()",
        "RLock()",
        "Semaphore(1)",
        "Condition()",
    ],
)
def test_inherited_through_a_fork(watched: Watched, kind: str) -> None:
    """A child that wants what another thread of its parent held gets the error; the parent goes on as ever."""
    outcome = watched(
        f"""
        from scene import *
        {FORK.replace(chr(10), chr(10) + "        ")}
        thing, have, go_on = threading.{kind}, threading.Event(), threading.Event()
        def owner():
            with thing:
                have.set()
                go_on.wait()
        one = go("owner", owner)
        have.wait()
        def wants():
            with thing:  # wants it
                pass
        in_child(wants)
        go_on.set()
        attempt(wants)
        """
    )
    (found,) = outcome.deadlocks
    assert found[:2] == ("orphan", "child")
    assert found.waits["child"][1] == "wants it"
    gone = [party["name"] for party in outcome.findings[0]["parties"] if not party["alive"]]
    assert gone == ["owner"]
    assert outcome.said == ["MainThread: went on", "child: DeadlockError at wants it", "owner: went on"]


def test_running_futures_in_a_child(watched: Watched) -> None:
    """A child that waits for a future which a thread of its parent runs, or would have run, gets the error."""
    outcome = watched(
        f"""
        from scene import *
        from concurrent.futures import ThreadPoolExecutor
        {FORK.replace(chr(10), chr(10) + "        ")}
        begun, go_on, pool = threading.Event(), threading.Event(), ThreadPoolExecutor(1)
        def task():
            begun.set()
            go_on.wait()
        running = pool.submit(task)
        begun.wait()
        pending = pool.submit(int)
        def wants_running():
            running.result()  # wants the running one
        def wants_pending():
            pending.result()  # wants the pending one
        in_child(wants_running)
        in_child(wants_pending)
        go_on.set()
        say(running.result(), pending.result())
        """
    )
    assert [(found.victim, found.waits["child"][1]) for found in outcome.deadlocks] == [
        ("child", "wants the running one"),
        ("child", "wants the pending one"),
    ]
    assert outcome.deadlocks[0].cause == "orphan"
    assert outcome.said == [
        "None 0",
        "child: DeadlockError at wants the pending one",
        "child: DeadlockError at wants the running one",
    ]


def test_a_module_in_a_child(watched: Watched) -> None:
    """A child that imports what a thread of its parent was importing would wait for ever: found."""
    outcome = watched(
        f"""
        from scene import *
        import shared
        {FORK.replace(chr(10), chr(10) + "        ")}
        def load():
            import slow  # imports
        one = go("one", load)
        until(lambda: shared.begun)
        in_child(load)
        shared.go_on.append(1)
        one.join()
        """,
        modules={
            "shared": "begun, go_on = [], []",
            "slow": "from scene import *\nimport shared\nshared.begun.append(1)\nuntil(lambda: shared.go_on)",
        },
        timeout=10,
    )
    (found,) = outcome.deadlocks
    assert found.cause == "orphan"
    assert found.waits["child"] == ("import of module 'slow'", "imports")
    assert outcome.said == ["child: DeadlockError at imports", "one: went on"]
