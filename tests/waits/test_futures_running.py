"""A future that runs: the thread that runs it could end the wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.waits.conftest import Watched

DAEMON = "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"


@pytest.mark.parametrize("early", [True, False], ids=["pool first", "install first"])
@pytest.mark.parametrize("method", ["result", "exception"])
def test_each_other(watched: Watched, method: str, early: bool) -> None:
    """Two running tasks that wait for each other's futures (the example of CPython's documentation), with a thread awake."""
    lines = [
        "from scene import *",
        "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(2)",
    ]
    if early:
        lines.reverse()
    outcome = watched(
        "\n".join(lines)
        + f"""
{DAEMON}
futures = {{}}
def task(mine, other):
    until(lambda: other in futures)
    if mine == "b":
        until(lambda: runner and waits_for(runner[0], "Future"))
    else:
        runner.append(threading.current_thread())
    futures[other].{method}()  # waits
runner = []
for mine, other in (("a", "b"), ("b", "a")):
    futures[mine] = pool.submit(attempt, task, mine, other)
for future in list(futures.values()):
    future.result(10)
"""
    )
    (found,) = outcome.deadlocks
    assert found.cause == "cycle"
    assert {line for _, line in found.waits.values()} == {"waits"}
    assert all(resource.startswith("Future") for resource, _ in found.waits.values())
    assert len(found.waits) == 2
    errors = [line for line in outcome.said if line.endswith("DeadlockError at waits")]
    assert errors == [f"{found.victim}: DeadlockError at waits"]
    assert len(outcome.said) == 2


def test_with_a_lock(watched: Watched) -> None:
    """Waiting under a lock for a task that wants that lock: a cycle of a lock and a future, with a thread awake."""
    outcome = watched(
        f"""
        from scene import *
        from concurrent.futures import ThreadPoolExecutor
        {DAEMON}
        lock, pool = threading.Lock(), ThreadPoolExecutor(4, thread_name_prefix="pool")
        def task():
            with lock:  # wants the lock
                pass
        def main():
            with lock:
                future = pool.submit(attempt, task)
                until(lambda: any(waits_for(thread, "Lock") for thread in pool._threads))
                future.result()  # waits
        attempt(main)
        """
    )
    waits = {
        "MainThread": ("Future 'future'", "waits"),
        "pool_0": ("Lock 'lock'", "wants the lock"),
    }
    (found,) = outcome.deadlocks
    assert found[:2] == ("cycle", "MainThread")
    assert {name: line for name, (_, line) in found.waits.items()} == {
        name: line for name, (_, line) in waits.items()
    }
    assert found.waits["pool_0"] == waits["pool_0"]
    assert outcome.said == ["MainThread: DeadlockError at waits", "pool_0: went on"]


def test_of_itself(watched: Watched) -> None:
    """A task that waits for its own future."""
    outcome = watched(
        f"""
        from scene import *
        from concurrent.futures import ThreadPoolExecutor
        {DAEMON}
        pool, future = ThreadPoolExecutor(3, thread_name_prefix="pool"), []
        def task():
            until(lambda: future)
            future[0].result()  # waits
        future.append(pool.submit(attempt, task))
        future[0].result(10)
        """
    )
    (found,) = outcome.deadlocks
    assert found[:2] == ("self", "pool_0")
    assert found.waits["pool_0"][1] == "waits"
    assert outcome.said == ["pool_0: DeadlockError at waits"]


def test_asleep_task(watched: Watched) -> None:
    """A task that waits for an event that nobody sets is the root; who waits for its future goes on when it has failed."""
    outcome = watched(
        """
        from scene import *
        from concurrent.futures import ThreadPoolExecutor
        pool, ready = ThreadPoolExecutor(1, thread_name_prefix="pool"), threading.Event()
        def task():
            ready.wait()  # task waits
        future = pool.submit(task)
        def main():
            future.result()  # main waits
        try:
            main()
        except lockwatch.DeadlockError as error:
            say("the task's error:", place(error))
        """
    )
    (found,) = outcome.deadlocks
    assert found[:2] == ("asleep", "pool_0")
    assert found.waits["pool_0"] == ("Event 'ready'", "task waits")
    assert found.waits["MainThread"][1] == "main waits"
    assert outcome.said == ["the task's error: task waits"]


def test_not_while_the_task_is_awake(watched: Watched) -> None:
    """A task that sleeps, reads, computes or waits with a time-out ends its future; so does who fulfils a bare Future."""
    outcome = watched(
        """
        from scene import *
        from concurrent.futures import Future, ThreadPoolExecutor
        def make():
            future = Future()
            return future.result, lambda: future.set_result(1)
        rescues(make)
        with ThreadPoolExecutor(1) as pool:
            def in_the_pool(end):
                waits.append(pool.submit(end))
            for rescuer in RESCUERS:
                if rescuer in (sleeper, only_slow, with_a_timeout, in_a_socket, timer):
                    ended = []
                    finish = pool.submit(rescuer, lambda: ended.append(1)).result()
                    pool.submit(finish).result()
                    assert ended
            try:
                pool.submit(time.sleep, 0.2).result(0.01)
            except TimeoutError:
                say("timed out")
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["rescued", "timed out"]


def test_a_bare_future(watched: Watched) -> None:
    """A Future that nobody runs could be fulfilled by anybody: found when nobody is awake."""
    outcome = watched(
        """
        from scene import *
        from concurrent.futures import Future
        promise = Future()
        def body():
            promise.result()  # waits
        attempt(body)
        """
    )
    assert outcome.deadlocks == [("asleep", "MainThread", {"MainThread": ("Future 'promise'", "waits")})]
    assert outcome.said == ["MainThread: DeadlockError at waits"]


def test_fulfilled_by_another(watched: Watched) -> None:
    """A running future that was fulfilled early, or is cancelled, is waited for no longer."""
    outcome = watched(
        """
        from scene import *
        from concurrent.futures import ThreadPoolExecutor, CancelledError
        pool, begun, go_on = ThreadPoolExecutor(1), threading.Event(), threading.Event()
        def task():
            begun.set()
            go_on.wait()
            return 7
        running = pool.submit(task)
        begun.wait()
        pending = pool.submit(int)
        waiter = go("waiter", pending.result)
        waiting(waiter, "Future")
        assert pending.cancel()
        waiter.join()
        threading.Timer(0.05, go_on.set).start()
        say(running.result())
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["7", "waiter: CancelledError: "]
