"""Waits for several futures: ``futures.wait``, ``as_completed``, ``Executor.map``, ``Executor.shutdown``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.waits.conftest import Watched

DAEMON = "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
WAYS = {
    "wait": "futures.wait(fs)",
    "wait for the first": "futures.wait(fs, return_when=futures.FIRST_COMPLETED)",
    "wait for a failure": "futures.wait(fs, return_when=futures.FIRST_EXCEPTION)",
    "as_completed": "list(futures.as_completed(fs))",
    "as_completed, the first": "next(futures.as_completed(fs))",
}
EVERY = pytest.mark.parametrize("way", list(WAYS))


@EVERY
def test_alone(watched: Watched, way: str) -> None:
    """Futures that nobody runs: found asleep at the line that waits for them."""
    outcome = watched(
        f"""
        from scene import *
        from concurrent import futures
        fs = [futures.Future(), futures.Future()]
        def body():
            {WAYS[way]}  # waits
        attempt(body)
        """
    )
    (found,) = outcome.deadlocks
    assert found[:2] == ("asleep", "MainThread")
    assert found.waits["MainThread"] == ("futures", "waits")
    assert outcome.said == ["MainThread: DeadlockError at waits"]


@EVERY
def test_for_the_pool_that_one_runs_in(watched: Watched, way: str) -> None:
    """A task that waits for tasks queued behind it in a pool of one worker: starved, with a thread awake."""
    outcome = watched(
        f"""
        from scene import *
        from concurrent import futures
        {DAEMON}
        pool = futures.ThreadPoolExecutor(1, thread_name_prefix="pool")
        def outer():
            fs = [pool.submit(int), pool.submit(int)]
            {WAYS[way]}  # waits
        pool.submit(attempt, outer).result(10)
        pool.shutdown()
        """
    )
    (found,) = outcome.deadlocks
    assert found[:2] == ("starved", "pool_0")
    assert found.waits["pool_0"] == ("futures", "waits")
    assert outcome.said == ["pool_0: DeadlockError at waits"]


@EVERY
def test_of_tasks_that_want_a_lock(watched: Watched, way: str) -> None:
    """Waiting under a lock for running tasks that all want it: a cycle, with a thread awake."""
    outcome = watched(
        f"""
        from scene import *
        from concurrent import futures
        {DAEMON}
        lock, pool = threading.Lock(), futures.ThreadPoolExecutor(2, thread_name_prefix="pool")
        def task():
            with lock:  # wants the lock
                pass
        def main():
            with lock:
                fs = [pool.submit(attempt, task) for _ in range(2)]
                until(lambda: len([1 for thread in pool._threads if waits_for(thread, "Lock")]) == 2)
                {WAYS[way]}  # waits
        attempt(main)
        pool.shutdown()
        """
    )
    (found,) = outcome.deadlocks
    assert found.cause in ("cycle", "starved")
    assert found.victim == "MainThread"
    assert found.waits["MainThread"] == ("futures", "waits")
    assert outcome.said == [
        "MainThread: DeadlockError at waits",
        "pool_0: went on",
        "pool_1: went on",
    ]


@EVERY
def test_not_while_somebody_is_awake(watched: Watched, way: str) -> None:
    """All seven ways to be awake fulfil the futures; tasks of a pool that are only slow do so, too."""
    outcome = watched(
        f"""
        from scene import *
        from concurrent import futures
        def make():
            fs = [futures.Future(), futures.Future()]
            def end():
                for future in fs:
                    future.set_result(1)
            return lambda: {WAYS[way]}, end
        rescues(make)
        with futures.ThreadPoolExecutor(2) as pool:
            fs = [pool.submit(time.sleep, 0.05 * n) for n in range(4)]
            {WAYS[way]}
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["rescued"]


def test_one_of_several_is_enough(watched: Watched) -> None:
    """Waiting for the first of two: one task waits for the waiter, the other is only slow; no alarm."""
    outcome = watched(
        """
        from scene import *
        from concurrent import futures
        lock, pool = threading.Lock(), futures.ThreadPoolExecutor(2)
        def wants():
            with lock:
                pass
        with lock:
            fs = [pool.submit(wants), pool.submit(time.sleep, 0.2)]
            until(lambda: any(waits_for(thread, "Lock") for thread in pool._threads))
            futures.wait(fs, return_when=futures.FIRST_COMPLETED)
            next(futures.as_completed(fs))
        pool.shutdown()
        """
    )
    assert outcome.findings == []


def test_a_failure_ends_the_wait(watched: Watched) -> None:
    """FIRST_EXCEPTION: one task waits for the waiter, another fails a little later, which ends the wait; no alarm."""
    outcome = watched(
        """
        from scene import *
        from concurrent import futures
        lock, pool = threading.Lock(), futures.ThreadPoolExecutor(2)
        def wants():
            with lock:
                pass
        def fails():
            time.sleep(0.2)
            raise KeyError
        def main():
            with lock:
                fs = [pool.submit(wants), pool.submit(fails)]
                until(lambda: any(waits_for(thread, "Lock") for thread in pool._threads))
                futures.wait(fs, return_when=futures.FIRST_EXCEPTION)
        attempt(main)
        pool.shutdown()
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["MainThread: went on"]


def test_all_of_a_mixed_lot(watched: Watched) -> None:
    """Waiting for all of one that is done, one pending and one that runs and wants our lock: the last decides; a cycle."""
    outcome = watched(
        f"""
        from scene import *
        from concurrent import futures
        {DAEMON}
        lock, pool = threading.Lock(), futures.ThreadPoolExecutor(1, thread_name_prefix="pool")
        done = pool.submit(int)
        done.result()
        def task():
            with lock:  # wants the lock
                pass
        def main():
            with lock:
                fs = [done, pool.submit(attempt, task), pool.submit(int)]
                until(lambda: any(waits_for(thread, "Lock") for thread in pool._threads))
                futures.wait(fs)  # waits
        attempt(main)
        pool.shutdown()
        """
    )
    (found,) = outcome.deadlocks
    assert found[:2] == ("cycle", "MainThread")
    assert found.waits["pool_0"] == ("Lock 'lock'", "wants the lock")
    assert outcome.said == ["MainThread: DeadlockError at waits", "pool_0: went on"]


def test_map(watched: Watched) -> None:
    """Iterating over ``Executor.map`` inside a task of the same full pool is starved; with room it is not."""
    outcome = watched(
        f"""
        from scene import *
        from concurrent import futures
        {DAEMON}
        def outer(pool):
            for number in pool.map(int, range(3)):  # iterates
                pass
        with futures.ThreadPoolExecutor(2) as roomy:
            roomy.submit(outer, roomy).result(10)
        pool = futures.ThreadPoolExecutor(1, thread_name_prefix="pool")
        pool.submit(attempt, outer, pool).result(10)
        say(list(pool.map(int, range(3))))
        """
    )
    (found,) = outcome.deadlocks
    assert found[:2] == ("starved", "pool_0")
    assert found.waits["pool_0"][1] == "iterates"
    assert outcome.said == ["[0, 1, 2]", "pool_0: DeadlockError at iterates"]


@pytest.mark.parametrize("how", ["pool.shutdown()", "with pool: pass"])
def test_shutdown(watched: Watched, how: str) -> None:
    """Shutting a pool down under a lock that its task wants: a cycle with the worker's end, named at the caller's line."""
    outcome = watched(
        f"""
        from scene import *
        from concurrent import futures
        {DAEMON}
        lock, pool = threading.Lock(), futures.ThreadPoolExecutor(1, thread_name_prefix="pool")
        def task():
            with lock:  # wants the lock
                pass
        def main():
            with lock:
                pool.submit(attempt, task)
                until(lambda: any(waits_for(thread, "Lock") for thread in pool._threads))
                {how}  # shuts down
        attempt(main)
        """
    )
    waits = {
        "MainThread": ("end of thread 'pool_0'", "shuts down"),
        "pool_0": ("Lock 'lock'", "wants the lock"),
    }
    assert outcome.deadlocks == [("cycle", "MainThread", waits)]
    assert outcome.said == ["MainThread: DeadlockError at shuts down", "pool_0: went on"]


def test_shutdown_by_its_own_worker(watched: Watched) -> None:
    """A shutdown that waits for work that is only slow, or does not wait, is fine."""
    outcome = watched(
        """
        from scene import *
        from concurrent import futures
        for wait in (True, False):
            pool = futures.ThreadPoolExecutor(2)
            for n in range(4):
                pool.submit(time.sleep, 0.05)
            pool.shutdown(wait=wait)
        say("last line")
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["last line"]


def test_process_pools(watched: Watched) -> None:
    """What runs in other processes may always end: no finding, and the results come."""
    outcome = watched(
        """
        from scene import *
        from concurrent import futures
        import multiprocessing
        def work(n):
            time.sleep(0.05)
            return n
        if __name__ == "__main__":
            with futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
                say(list(pool.map(work, range(4))))
                say(pool.submit(work, 7).result())
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["7", "[0, 1, 2, 3]"]
