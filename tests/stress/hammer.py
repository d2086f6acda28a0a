"""A program that does everything to a few locks at once, for some seconds, and stops now and then to check them.

    python hammer.py SECONDS SEED

Eight threads take and give back Locks and RLocks in a fixed order, with ``with``, time-outs and tries, and count under each lock
with an ordinary variable. Meanwhile: asynchronous exceptions hit them, the main thread's timer signal takes locks in its
handler and raises KeyboardInterrupt now and then, finalizers of garbage take an RLock, a thread forks.

At each stop all threads stand at a barrier: every lock's invariants are walked (``_check``), the locks are free but for those
that an exception at the very first instruction of a release has left (their owner is asked to let them go), and the counts add
up. The last line printed is "ok".
"""

from __future__ import annotations

import ctypes
import gc
import os
import random
import signal
import sys
import threading
import time
from typing import Any

import lockwatch

SECONDS, SEED = float(sys.argv[1]), int(sys.argv[2])
THREADS = 8


class Poke(BaseException):
    """An asynchronous exception."""


class Counted:
    """A lock and what it protects; the two counts are equal whenever nobody is inside."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self.one = self.two = 0

    def count(self) -> None:
        """Count in two steps, which only a lock keeps together; an exception in between is put right."""
        before = self.one
        try:
            self.one += 1
            self.two += 1
        finally:
            if self.one != self.two:
                self.one = self.two = before


LOCKS = [
    Counted(lockwatch.Lock()),
    Counted(lockwatch.RLock()),
    Counted(lockwatch.Lock()),
    Counted(lockwatch.RLock()),
]
FOR_FINALIZERS = lockwatch.RLock()
FOR_HANDLERS = lockwatch.RLock()


class Garbage:
    """A cycle whose finalizer takes a lock."""

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        with FOR_FINALIZERS:
            pass


def take(chance: random.Random) -> None:
    """Take one or two locks, in their order, in one of the ways there are."""
    first, second = sorted(chance.sample(range(len(LOCKS)), 2))
    one, two = LOCKS[first], LOCKS[second]
    way = chance.randrange(5)
    if way == 0:
        with one.lock:
            one.count()
    elif way == 1:
        with one.lock, two.lock:
            one.count()
            two.count()
    elif way == 2:
        taken = False
        try:
            taken = one.lock.acquire(timeout=chance.random() * 0.002)
            if taken:
                one.count()
        finally:
            let_go(one.lock, taken)
    elif way == 3:
        taken = False
        try:
            taken = two.lock.try_acquire()
            if taken:
                two.count()
        finally:
            let_go(two.lock, taken)
    else:
        with one.lock:
            one.count()
            time.sleep(chance.random() * 0.0005)
    if chance.random() < 0.01:
        Garbage()


def let_go(lock: Any, taken: bool) -> None:
    """Release a lock that was taken, also where an exception hid whether it was."""
    hold = lock._state.get(0)
    if taken or (hold is not None and hold[0].thread() is threading.current_thread()):
        lock.release()


class Round:
    """One stretch of hammering and the stop after it. Polled, since an exception may still arrive at the stop."""

    def __init__(self) -> None:
        self.over = self.go = False
        self.standing: set[int] = set()


ROUND = Round()
DONE = False


def hammer(number: int) -> None:
    """Take locks until told to stop, whatever exceptions come; then stand still for the check."""
    chance = random.Random(SEED * 100 + number)
    while not DONE:
        try:  # in a function of its own: an exception may also come at the jump back from the handler in there
            rounds(number, chance)
        except Poke:
            pass


def rounds(number: int, chance: random.Random) -> None:
    """Go on after each exception."""
    while not DONE:
        try:
            one_round(number, chance)
        except Poke:
            pass


def one_round(number: int, chance: random.Random) -> None:
    """Let go of what an exception has left, take locks until the stop, and stand still there."""
    give_back()
    current = ROUND
    while not current.over:
        take(chance)
    give_back()
    current.standing.add(number)
    while not current.go:
        time.sleep(0.001)


def give_back() -> None:
    """Let go of what an exception has left with this thread."""
    me = threading.current_thread()
    for lock in (FOR_HANDLERS, *(counted.lock for counted in LOCKS)):
        hold = lock._state.get(0)
        while hold is not None and hold[0].thread() is me:
            lock.release()
            hold = lock._state.get(0)


def on_alarm(number: int, frame: object) -> None:
    """The main thread's signal handler: takes a lock, and sometimes raises."""
    del number, frame
    with FOR_HANDLERS:
        pass
    if raising and random.random() < 0.05:
        raise KeyboardInterrupt


def poke(thread: threading.Thread) -> None:
    """Send an asynchronous exception."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Poke))


def fork_and_check() -> None:
    """A child can use what nobody held, and ends."""
    child = os.fork()
    if not child:
        signal.setitimer(signal.ITIMER_REAL, 0)
        lock = lockwatch.Lock()
        with lock:
            pass
        for counted in LOCKS:
            counted.lock._at_fork_reinit()
            with counted.lock:
                pass
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with {status}"


raising = False


def main() -> None:
    """Run the rounds."""
    global ROUND, DONE, raising
    gc.set_threshold(50)
    signal.signal(signal.SIGALRM, on_alarm)
    threads = [threading.Thread(target=hammer, args=(number,), daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    chance = random.Random(SEED)
    end = time.monotonic() + SECONDS
    rounds = interrupts = 0
    while time.monotonic() < end:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        stop_at = time.monotonic() + 0.3
        while time.monotonic() < stop_at:
            try:
                raising = True
                with FOR_HANDLERS:
                    pass
                taken = False
                try:
                    taken = LOCKS[0].lock.acquire(timeout=0.001)
                finally:
                    let_go(LOCKS[0].lock, taken)
                poke(chance.choice(threads))
                time.sleep(0.0005)
            except KeyboardInterrupt:
                interrupts += 1
            finally:
                raising = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        give_back()
        if rounds % 4 == 0:
            fork_and_check()
        current = ROUND
        current.over = True
        while len(current.standing) < THREADS:
            time.sleep(0.001)
        for counted in LOCKS:
            counted.lock._check()
            assert not counted.lock.locked(), counted.lock
            assert counted.one == counted.two, (counted.one, counted.two)
        FOR_FINALIZERS._check()
        ROUND = Round()
        rounds += 1
        DONE = time.monotonic() >= end
        current.go = True
    for thread in threads:
        thread.join()
    assert rounds > 2
    assert sum(counted.one for counted in LOCKS) > 100
    assert not [finding for finding in lockwatch.recorded_findings() if finding.kind == "internal"]
    print("ok")


main()
