"""A future that stands in its pool's queue: any worker of the pool could end the wait, or one that may still be started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.waits.conftest import Watched

DAEMON = "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"


@pytest.mark.parametrize("early", [True, False], ids=["pool first", "install first"])
@pytest.mark.parametrize("workers", [1, 3])
def test_starved(watched: Watched, workers: int, early: bool) -> None:
    """All workers wait for work queued behind them: certain with a thread awake. One gives up and the others go on."""
    pool = f"pool = ThreadPoolExecutor({workers}, thread_name_prefix='pool')"
    lines = ["from scene import *", f"from concurrent.futures import ThreadPoolExecutor\n{pool}"]
    if early:
        lines.reverse()
    outcome = watched(
        "\n".join(lines)
        + f"""
{DAEMON}
all_here = threading.Barrier({workers})
def outer():
    all_here.wait()
    inner = pool.submit(int, 7)
    inner.result()  # waits for the pool
futures = [pool.submit(attempt, outer) for _ in range({workers})]
for future in futures:
    future.result(10)
"""
    )
    (found,) = outcome.deadlocks
    assert found.cause == "starved"
    assert found.victim is not None
    assert found.victim.startswith("pool_")
    for resource, line in found.waits.values():
        assert resource.startswith("Future")
        assert line == "waits for the pool"
    errors = [line for line in outcome.said if "DeadlockError" in line]
    assert errors == [f"{found.victim}: DeadlockError at waits for the pool"]
    assert len(outcome.said) == workers


def test_two_pools(watched: Watched) -> None:
    """Two pools of one worker each whose tasks wait for work in the other: starved, with a thread awake."""
    outcome = watched(
        f"""
        from scene import *
        from concurrent.futures import ThreadPoolExecutor
        {DAEMON}
        pools = [ThreadPoolExecutor(1, thread_name_prefix=name) for name in "ab"]
        both = threading.Barrier(2)
        def outer(other):
            both.wait()
            pools[other].submit(int).result()  # waits
        futures = [pools[0].submit(attempt, outer, 1), pools[1].submit(attempt, outer, 0)]
        for future in futures:
            future.result(10)
        """
    )
    (found,) = outcome.deadlocks
    assert found.cause in ("starved", "cycle")
    assert set(found.waits) == {"a_0", "b_0"}
    assert len([line for line in outcome.said if line.endswith("DeadlockError at waits")]) == 1


def test_room_for_one_more_worker(watched: Watched) -> None:
    """A pool that may start one more worker, or has an idle or busy one, is not starved."""
    outcome = watched(
        """
        from scene import *
        from concurrent.futures import ThreadPoolExecutor
        def nested(pool, depth):
            return pool.submit(nested, pool, depth - 1).result() + 1 if depth else 0
        with ThreadPoolExecutor(8) as pool:
            say(pool.submit(nested, pool, 7).result())
        with ThreadPoolExecutor(2) as pool:
            slow = pool.submit(time.sleep, 0.2)
            say(pool.submit(nested, pool, 1).result())
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["1", "7"]


def test_not_while_the_workers_are_awake(watched: Watched) -> None:
    """Work queued behind a worker that sleeps, reads, computes or waits with a time-out will be done."""
    outcome = watched(
        """
        from scene import *
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(1) as pool:
            for rescuer in (sleeper, timer, in_a_socket, with_a_timeout, only_slow):
                pool.submit(lambda: rescuer(int)())
                say(pool.submit(int).result())
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["0"] * 5


def test_idle_pools(watched: Watched) -> None:
    """Idle workers are asleep and never to blame: not while main works, not when it waits, and not at exit."""
    outcome = watched(
        """
        from scene import *
        from concurrent.futures import ThreadPoolExecutor
        pools = [ThreadPoolExecutor(3) for _ in range(3)]
        for pool in pools:
            list(pool.map(int, range(10)))
        rescues(lambda: (ready := threading.Event()) and (ready.wait, ready.set))
        def body():
            threading.Event().wait()  # waits
        attempt(body)
        say("last line")
        """
    )
    assert [found.victim for found in outcome.deadlocks] == ["MainThread"]
    assert outcome.said == ["MainThread: DeadlockError at waits", "last line", "rescued"]


def test_a_busy_pool(watched: Watched) -> None:
    """Thousands of tasks by several submitters on small pools: nothing is found, nothing lost."""
    outcome = watched(
        """
        from scene import *
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(2) as pool, ThreadPoolExecutor(3) as users:
            def use():
                return sum(pool.submit(int, n).result() for n in range(500))
            say(sum(future.result() for future in [users.submit(use) for _ in range(3)]))
        """
    )
    assert outcome.findings == []
    assert outcome.said == [str(3 * sum(range(500)))]


def test_found_by_all_at_once(watched: Watched) -> None:
    """Workers that see the knot in the same moment agree on one victim; the others look again and find nothing."""
    outcome = watched(
        """
        from scene import *
        from concurrent.futures import ThreadPoolExecutor
        from lockwatch import config
        from lockwatch._core import detector, ontop
        ontop.anybody_runs = lambda edges: False  # the gates below are not ours, and on top of the waits
        config.configure(reacquire_grace=1e-6)  # main is awake: else only the last one would look, after the grace
        pool = ThreadPoolExecutor(3, thread_name_prefix="pool")
        all_here = threading.Barrier(3)
        def gate(function, wait_of):
            arrived = []
            def gated(thing):
                if wait_of(thing).resource.kind == "Future" and len(arrived) < 3:
                    arrived.append(1)
                    until(lambda: len(arrived) == 3)
                return function(thing)
            return gated
        detector.check = gate(detector.check, lambda wait: wait)
        detector.settle = gate(detector.settle, lambda knot: knot.edges[0].wait)
        def outer():
            all_here.wait()
            pool.submit(int).result()  # waits for the pool
        futures = [pool.submit(attempt, outer) for _ in range(3)]
        for future in futures:
            while not future.done():
                time.sleep(0.01)
        """
    )
    assert [found.cause for found in outcome.deadlocks] == ["starved"]
    assert len([line for line in outcome.said if "DeadlockError" in line]) == 1
