"""``multiprocessing.pool.ThreadPool``: the workers that run something could end the wait for its result."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.waits.conftest import Watched

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 13) or not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="what other threads do cannot be read off their variables",
)

POOL = """
from scene import *
from multiprocessing.dummy import Pool
lock = threading.Lock()
def task(*_):
    with lock:  # wants the lock
        pass
def behind_the_lock(count):
    waiting = [agent for agent in agents.living() if agent.waits and agent.waits[-1].resource is lock]
    return len(waiting) == count
"""


@pytest.mark.parametrize(
    ("ask", "thing"),
    [
        ("pool.apply_async(task)", ".get()"),
        ("pool.apply_async(task)", ".wait()"),
        ("pool.map_async(task, range(2), 1)", ".get()"),
        ("pool.starmap_async(task, [(1, 2), (3, 4)], 1)", ".get()"),
        ("pool.imap(task, range(2))", ".next()"),
    ],
    ids=["apply", "wait", "map", "starmap", "imap"],
)
def test_under_the_lock_that_the_work_wants(watched: Watched, ask: str, thing: str) -> None:
    """Waiting for a result under a lock that the work wants is a cycle, also while the pool's keeper is awake."""
    outcome = watched(
        POOL
        + f"""
pool = Pool(2)
def main():
    with lock:
        result = {ask}
        until(lambda: behind_the_lock({1 if "apply" in ask else 2}))
        result{thing}  # waits
attempt(main)
pool.terminate()
"""
    )
    (found,) = outcome.deadlocks
    assert found[:2] == ("cycle", "MainThread")
    assert found.waits["MainThread"][1] == "waits"
    assert outcome.said == ["MainThread: DeadlockError at waits"]


def test_a_pool_that_waits_for_itself(watched: Watched) -> None:
    """All workers wait for work that stands behind them in the pool: cause ``starved``."""
    outcome = watched(
        POOL
        + """
pool, both = Pool(2), threading.Barrier(2)
def outer(number):
    both.wait()
    attempt(lambda: pool.apply(int))  # waits
pool.map(outer, range(2), 1)
pool.close()
pool.join()
"""
    )
    (found,) = outcome.deadlocks
    assert found.cause == "starved"
    assert {line for _, line in found.waits.values()} == {"waits"}
    assert sorted(line.partition(": ")[2] for line in outcome.said) == ["DeadlockError at waits", "went on"]


def test_a_worker_is_free(watched: Watched) -> None:
    """Twin: one worker has nothing to do, or runs: what is asked for will be done."""
    outcome = watched(
        POOL
        + """
pool = Pool(2)
attempt(lambda: pool.apply(lambda: pool.apply(int)))
slow = pool.apply_async(time.sleep, (DELAY,))
attempt(lambda: pool.apply(lambda: pool.apply(int)))
slow.get()
pool.close()
pool.join()
"""
    )
    assert outcome.deadlocks == []
    assert outcome.said == ["MainThread: went on"] * 2


def test_a_result_on_its_way(watched: Watched) -> None:
    """Twin: the work is done, and its result with the thread that delivers it, while the worker waits for the asker."""
    outcome = watched(
        POOL
        + """
pool, go_on = Pool(1), threading.Event()
def callback(_):
    time.sleep(DELAY)
def main():
    with lock:
        first = pool.apply_async(int, callback=callback)
        pool.apply_async(task)
        until(lambda: behind_the_lock(1))
        first.get()
    go_on.set()
attempt(main)
pool.close()
pool.join()
"""
    )
    assert outcome.deadlocks == []
    assert outcome.said == ["MainThread: went on"]


def test_the_lock_is_free_in_time(watched: Watched) -> None:
    """Twin: a wait with a timeout under the lock, then the result without it; items one by one."""
    outcome = watched(
        POOL
        + """
pool = Pool(2)
def main():
    with lock:
        result = pool.map_async(task, range(4))
        until(lambda: behind_the_lock(2))
        result.wait(DELAY)
    result.get()
    assert list(pool.imap(task, range(4))) == list(pool.imap_unordered(task, range(4), 2)) == [None] * 4
attempt(main)
pool.close()
pool.join()
"""
    )
    assert outcome.deadlocks == []
    assert outcome.said == ["MainThread: went on"]
