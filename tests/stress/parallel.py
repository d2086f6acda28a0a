"""A program that uses the fast path from many threads at once while others look into it, for some seconds.

    python parallel.py SECONDS THREADS

Workers count under shared locks with ordinary variables; take locks in two's; leave locks to be released by others; make
locks and drop them while held; start threads that end holding one. Lookers read, all the time, every lock's hold, every
agent's table and all statistics: what the fast path only notes is made into holds while its owner runs on. At the end all
counts add up, all shared locks are free, nobody's table has an entry, and a GIL that was off is off. Prints "ok".
"""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
import weakref
from typing import Any

import lockwatch
from lockwatch._core import agents
from lockwatch._core.handover import OWNED
from lockwatch._core.holds import AGENT, CODE, LASTI, LOCK

SECONDS, THREADS = float(sys.argv[1]), int(sys.argv[2])
PARALLEL = not getattr(sys, "_is_gil_enabled", lambda: True)()
LOCKS: list[Any] = [kind() for kind in (lockwatch.Lock, lockwatch.RLock) * 2]
COUNTS = [0] * len(LOCKS)
BATON = lockwatch.Lock()
made: list[Any] = []
failures: list[str] = []
looks = [0]
end = time.monotonic() + SECONDS


def work(number: int, mine: list[int]) -> None:
    """Count, and everything else that a lock can be used for."""
    chance = random.Random(number)
    while time.monotonic() < end:
        for _ in range(200):
            index = chance.randrange(len(LOCKS))
            lock = LOCKS[index]
            what = chance.randrange(8)
            if what < 3:
                with lock:
                    COUNTS[index] += 1
            elif what == 3:
                lock.acquire()
                COUNTS[index] += 1
                lock.release()
            elif what == 4:
                if not lock.acquire(False):
                    continue
                COUNTS[index] += 1
                lock.release()
            elif what == 5:
                with LOCKS[0], LOCKS[1], LOCKS[1]:
                    COUNTS[0] += 1
                mine[0] += 1
                continue
            elif what == 6:
                BATON.acquire(timeout=0.0005)  # somebody else gives it back
                continue
            else:
                dropped = (lockwatch.Lock if chance.random() < 0.5 else lockwatch.RLock)()
                made.append(weakref.ref(dropped))
                del made[:-50]
                dropped.acquire()
                continue
            mine[index] += 1


def meddle() -> None:
    """Release a lock that others have taken: a signal."""
    while time.monotonic() < end:
        if BATON.locked():
            BATON.release()
        time.sleep(0.0003)


def look() -> None:
    """Read everything that others are writing."""
    while time.monotonic() < end:
        for lock in [*LOCKS, BATON, *[one for one in [ref() for ref in made.copy()] if one is not None]]:
            hold = lock._state.get(OWNED)
            if hold is not None and not (
                hold[LOCK]() is lock and hold[AGENT].serial and hold[CODE].co_name and hold[LASTI] >= -1
            ):
                failures.append(f"a torn hold: {hold}")
            lock.statistics()
            repr(lock)
        for agent in agents.living():
            for hold in agent.holds.copy().values():
                if hold[AGENT] is not agent:
                    failures.append(f"another's hold: {hold}")
        looks[0] += 1
        if looks[0] % 100 == 0:
            gc.collect()


def come_and_go() -> None:
    """Start threads that end with a lock in their hands."""
    while time.monotonic() < end:
        left = lockwatch.Lock()
        thread = threading.Thread(target=left.acquire)
        thread.start()
        thread.join()
        hold = left._state.get(OWNED)
        if hold is None or hold[AGENT].thread() not in {thread, None}:
            failures.append(f"the wrong owner: {hold}")


def main() -> None:
    """Run all of them, and add up."""
    sys.setswitchinterval(0.0002)
    counts = [[0] * len(LOCKS) for _ in range(THREADS)]
    threads = [threading.Thread(target=work, args=(number, mine)) for number, mine in enumerate(counts)]
    threads += [threading.Thread(target=body) for body in (meddle, look, look, come_and_go)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, lock in enumerate(LOCKS):
        assert COUNTS[index] == sum(mine[index] for mine in counts), f"{lock}: {COUNTS[index]}"
        assert not lock.locked(), lock
        lock._check()
    assert not failures, failures[:3]
    assert looks[0], "nobody looked"
    if BATON.locked():
        BATON.release()
    for agent in agents.living():
        assert not agent.holds, agent.holds
    assert not PARALLEL or not sys._is_gil_enabled(), "the GIL is on"  # type: ignore[attr-defined,unused-ignore]
    print("ok")


main()
