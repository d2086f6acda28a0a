"""Hammers a set of watched locks with everything that may come in between, or a choice of it; see test_ingredients.py.

Usage: ``python ingredients.py SECONDS SEED [async] [interrupt] [alarm] [garbage] [fork]``.

Eight threads, the main one among them, take locks of both kinds in every way there is, in rounds. The ingredients:

async      exceptions thrown into the worker threads at random moments (``PyThreadState_SetAsyncExc``)
interrupt  KeyboardInterrupt in the main thread, by signals from another one
alarm      a signal handler that takes locks, every millisecond
garbage    finalizers that take a lock, of objects in cycles, with a low threshold of the collector
fork       forks from a worker in the midst of it all; the child checks its locks and exits

After each round the world stands still, and everything is counted: nobody may be in a queue or in the graph, each
lock must be free, its invariants kept, and the number that it protects must be the sum of what the threads say.

An exception that arrives at the very first instruction of ``release`` or ``__exit__`` leaves the lock held: no code
in Python can help that. Each thread looks for such leftovers of its own after each operation, releases and counts
them. Prints one JSON object. Any finding of lockwatch's is a failure, as the program has no deadlock in it.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import os
import random
import signal
import sys
import threading
import time
from typing import Any

import lockwatch
from lockwatch import waits
from lockwatch._core import agents
from lockwatch._core.handover import OWNED

THREADS = 8
OPERATIONS = 60
"""For each thread in each round."""
LIMIT = 30
"""Seconds that all may take longer than it should."""

SECONDS, SEED = float(sys.argv[1]), int(sys.argv[2])
INGREDIENTS = frozenset(sys.argv[3:])

LOCKS: list[lockwatch.Lock | lockwatch.RLock] = [
    lockwatch.Lock(name="l0"),
    lockwatch.RLock(name="r1"),
    lockwatch.Lock(name="l2"),
    lockwatch.RLock(name="r3"),
    lockwatch.RLock(name="leaf"),
]
"""Taken in this order, if two at a time; handlers and finalizers wait for the last one only."""
LEAF = len(LOCKS) - 1
PROCESS = os.getpid()

values = [0] * len(LOCKS)
"""What the locks protect."""
inside: list[object] = [None] * len(LOCKS)
"""Who is in the critical section of a plain lock."""
counts: dict[str, int] = dict.fromkeys(
    ["rounds", "async", "interrupt", "alarm", "garbage", "fork", "leftovers", "timeouts", "refused"], 0
)


class Interruption(BaseException):
    """What is thrown into workers; not an Exception, as nobody may swallow it."""


class Garbage:
    """A cycle of one, with a finalizer that takes a lock."""

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        worker = workers.get(threading.get_ident())
        if worker is not None and not world_stands.is_set() and os.getpid() == PROCESS:
            counts["garbage"] += 1
            before = worker.levels()
            try:
                with LOCKS[LEAF]:
                    worker.bump(LEAF)
            except (Interruption, KeyboardInterrupt):
                worker.restore(before)  # nobody outside of here hears of it


class Worker:
    """One of the threads.

    Attributes:
        armed: Whether an exception may be thrown into it now; taken back by whoever throws.
        throwing: Whether somebody is about to.
        mine: How often it was in each critical section.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.random = random.Random(SEED * 100 + number)
        self.armed = self.throwing = False
        self.mine = [0] * len(LOCKS)
        self.agent: Any = None
        self.ident = 0

    # --- what is protected ---

    def bump(self, index: int) -> None:
        """Count; no exception and no other thread can come between the two last stores of a lock's owner."""
        if isinstance(LOCKS[index], lockwatch.RLock):  # a handler may bump on top of us: in one go
            values[index] += 1
            self.mine[index] += 1
            return
        assert inside[index] is None, f"{inside[index]} and {self.number} are inside of {LOCKS[index]}"
        try:
            inside[index] = self.number
            value = values[index]
            for _ in range(3):
                pass  # a chance for others
            values[index] = value + 1
            self.mine[index] += 1
        finally:
            inside[index] = None

    # --- operations ---

    def operate(self) -> None:
        """Do one random thing with the locks."""
        index = self.random.randrange(len(LOCKS))
        lock = LOCKS[index]
        what = self.random.randrange(7)
        if what == 0:
            with lock:
                self.bump(index)
        elif what == 1:
            lock.acquire()
            try:
                self.bump(index)
            finally:
                lock.release()
        elif what == 2:
            got = lock.acquire(timeout=self.random.random() * 0.002)
            if not got:
                counts["timeouts"] += 1
                return
            try:
                self.bump(index)
            finally:
                lock.release()
        elif what == 3:
            got = lock.try_acquire()
            if not got:
                counts["refused"] += 1
                return
            try:
                self.bump(index)
            finally:
                lock.release()
        elif what == 4 and index < LEAF:
            other = self.random.randrange(index + 1, len(LOCKS))
            with lock, LOCKS[other]:
                self.bump(index)
                self.bump(other)
        elif what == 5 and isinstance(lock, lockwatch.RLock):
            with lock:
                self.bump(index)
                lock.acquire()
                try:
                    self.bump(index)
                finally:
                    lock.release()
        elif what == 6:
            with lock:
                time.sleep(self.random.choice([0, 0, 0.002]))  # the latter brings starvation mode about
                self.bump(index)

    def let_it_come(self) -> None:
        """Wait for an exception that is under way. No loop does so within a ``try``: 3.13 leaves out jumps back."""
        while self.throwing:
            time.sleep(0)
        for _ in range(20):
            pass

    def operate_under_fire(self) -> None:
        """Do one thing during which one exception may arrive; afterwards none is under way, and nothing is left."""
        begun = over = False
        while not over:
            try:
                if not begun:
                    begun = True
                    self.armed = bool({"async", "interrupt"} & INGREDIENTS)
                    self.operate()
                self.armed = False
                self.let_it_come()
                over = True
            except (Interruption, KeyboardInterrupt):
                pass
        self.restore([0] * len(LOCKS))
        assert self.number not in inside
        if "garbage" in INGREDIENTS:
            Garbage()
        if "fork" in INGREDIENTS and self.number == 1 and self.random.random() < 0.1:
            self.fork()

    def levels(self) -> list[int]:
        """How many levels of each lock it holds."""
        holds = [lock._state.get(OWNED) for lock in LOCKS]
        return [
            lock._level() if hold is not None and hold[0] is self.agent else 0
            for lock, hold in zip(LOCKS, holds, strict=True)
        ]

    def restore(self, before: list[int]) -> None:
        """Release what was left held because ``release`` was interrupted before it began."""
        for lock, level, now in zip(LOCKS, before, self.levels(), strict=True):
            for _ in range(now - level):
                assert INGREDIENTS & {"async", "interrupt"}, f"{lock} was left held"
                counts["leftovers"] += 1
                lock.release()

    def fork(self) -> None:
        """Fork with a lock; the child has its own, and none of the others' waits."""
        with LOCKS[self.random.randrange(LEAF)]:
            child = os.fork()
            if child == 0:
                os._exit(self.look_around())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        counts["fork"] += 1

    def look_around(self) -> int:
        """Check the locks in a child; returns its exit status. Imports nothing.

        Without a GIL another thread may have been at ``sys.modules`` when this one forked (CPython 3.13).
        """
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            faulthandler.register(signal.SIGALRM, chain=True)
            signal.alarm(10)  # shows its stack and dies, if it hangs
            assert agents.living() == [self.agent]
            assert not waits()
            mine = 0
            for lock in LOCKS:
                lock._check()
                hold = lock._state.get(OWNED)
                if hold is not None and hold[0] is self.agent:
                    mine += 1
                    lock.release()
                elif hold is not None:
                    assert hold[0].ended
                    assert hold[0].lost_in_fork
                    lock._at_fork_reinit()
                lock._check()
                with lock:
                    lock._check()
                assert not lock.locked()
                assert lock.statistics().waiters == 0
            assert mine == 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            return 1
        return 0

    # --- rounds ---

    def run(self) -> None:
        """Work in rounds until told to end."""
        self.agent = agents.current()
        self.ident = threading.get_ident()
        workers[self.ident] = self
        start.wait()
        while not stop.is_set():
            for _ in range(OPERATIONS):
                self.operate_under_fire()
            gate.wait()
            if self.number == 0:
                look_at_the_world()
            gate.wait()


def look_at_the_world() -> None:
    """Check and count everything, while all stand at the gate."""
    world_stands.set()
    for index, lock in enumerate(LOCKS):
        lock._check()
        assert not lock.locked(), f"{lock} is held"
        statistics = lock.statistics()
        assert statistics.waiters == 0, f"{statistics.waiters} wait for {lock}"
        assert inside[index] is None
        total = sum(worker.mine[index] for worker in team)
        assert values[index] == total, f"{lock} protects {values[index]}, not {total}"
    for worker in team:
        assert not worker.agent.waits, f"stale waits {worker.agent.waits}"
        assert not worker.agent.holds, f"stale holds {worker.agent.holds}"
    for found in lockwatch.recorded_findings():
        raise AssertionError(f"{found.message}\n{found.advice}")
    counts["rounds"] += 1
    if time.monotonic() > end:
        stop.set()
    world_stands.clear()


# --- what comes in between ---------------------------------------------------------------------------------------


def throw() -> None:
    """Throw exceptions into workers that are armed, one for each operation."""
    chance = random.Random(SEED)
    while not stop.is_set():
        worker = chance.choice(team)
        worker.throwing = True
        if worker.armed:
            if worker.number == 0:
                if "interrupt" in INGREDIENTS:
                    signal.pthread_kill(worker.ident, signal.SIGINT)
            elif "async" in INGREDIENTS:
                worker.armed = False
                ident, kind = ctypes.c_ulong(worker.ident), ctypes.py_object(Interruption)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, kind)
                counts["async"] += 1
        worker.throwing = False
        time.sleep(chance.random() * 0.001)


def interrupted(number: int, frame: object) -> None:
    """Raise KeyboardInterrupt in the main thread, if it is armed."""
    if team[0].armed:
        team[0].armed = False
        counts["interrupt"] += 1
        raise KeyboardInterrupt


handlers = 0
"""How many handlers stand on top of each other."""


def alarmed(number: int, frame: object) -> None:
    """Take locks in a signal handler: the leaf, and any other only for a moment."""
    global handlers
    if handlers > 2 or world_stands.is_set() or os.getpid() != PROCESS:
        return  # a signal of before a fork may come in the child, where its locks' owners are gone
    handlers += 1
    try:
        counts["alarm"] += 1
        with LOCKS[LEAF]:
            team[0].bump(LEAF)
        index = counts["alarm"] % LEAF
        if inside[index] != 0 and LOCKS[index].acquire(timeout=0.0005):
            try:
                team[0].bump(index)
            finally:
                LOCKS[index].release()
    finally:
        handlers -= 1


def unraisable(info: Any) -> None:
    """What is thrown into a finalizer ends there; nothing else may."""
    if not isinstance(info.exc_value, Interruption | KeyboardInterrupt):
        fail(info)


def fail(info: Any) -> None:
    """A thread that fails takes all with it."""
    sys.excepthook(info.exc_type, info.exc_value, info.exc_traceback)
    sys.stderr.flush()
    faulthandler.dump_traceback()
    os._exit(1)


team = [Worker(number) for number in range(THREADS)]
workers: dict[int, Worker] = {}
start, stop, world_stands = threading.Event(), threading.Event(), threading.Event()
gate = threading.Barrier(THREADS)
end = time.monotonic() + SECONDS


def main() -> None:
    """Set the scene, work, and report."""
    faulthandler.dump_traceback_later(SECONDS + LIMIT, exit=True)
    threading.excepthook, sys.unraisablehook = fail, unraisable
    sys.setswitchinterval(0.0005)
    if "garbage" in INGREDIENTS:
        gc.set_threshold(7, 2, 2)
    signal.signal(signal.SIGINT, interrupted)
    threads = [threading.Thread(target=worker.run, name=f"w{worker.number}") for worker in team[1:]]
    if INGREDIENTS & {"async", "interrupt"}:
        threads.append(threading.Thread(target=throw, name="thrower"))
    for thread in threads:
        thread.daemon = True
        thread.start()
    while len(workers) < THREADS - 1:
        time.sleep(0.001)
    start.set()
    if "alarm" in INGREDIENTS:
        signal.signal(signal.SIGALRM, alarmed)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        team[0].run()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        faulthandler.dump_traceback()
        os._exit(1)
    signal.setitimer(signal.ITIMER_REAL, 0)
    for thread in threads:
        thread.join()
    print(json.dumps({**counts, "taken": sum(lock.statistics().acquisitions for lock in LOCKS)}))


if __name__ == "__main__":
    main()
