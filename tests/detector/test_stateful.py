"""Random lock programs with a known answer, step by step against a model.

Threads take turns: each does one operation when told, and the next is told when everything has come to rest. So the
model, plain Python and a few lines for each rule, knows exactly who owns what, who waits, and whether there is a
deadlock and who its victim is. An operation that blocks is seen in the thread itself, not by a time-out.
"""

from __future__ import annotations

import faulthandler
import queue
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import lockwatch
from lockwatch import config, delivery
from lockwatch._core import agents
from lockwatch._core.frames import current_frames
from lockwatch._core.waits import innermost

if TYPE_CHECKING:
    from lockwatch._core.agents import Agent

LIMIT = 20.0
LONG = 1000.0
"""Time-out of the timed waits: they end when the test says so."""

AnyLock = lockwatch.Lock | lockwatch.RLock


class Leave(Exception):
    """Ends the innermost block of a puppet."""


class Puppet:
    """A real thread that does one operation when told: (what, lock).

    Attributes:
        done: How many operations it has finished.
        results: What each gave.
        victim_of: The findings of the DeadlockErrors that it got; after each it has left all its blocks.
    """

    def __init__(self, name: str, locks: list[AnyLock], weight: int) -> None:
        self.locks = locks
        self.orders: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
        self.done = 0
        self.results: list[object] = []
        self.victim_of: list[lockwatch.Finding] = []
        self.agent: Agent | None = None
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        lockwatch.set_deadlock_weight(weight, self.thread)
        self.thread.start()

    def _run(self) -> None:
        self.agent = agents.current()
        while True:
            try:
                self._block()
                return  # told to leave the outermost one
            except lockwatch.DeadlockError as error:
                self.victim_of.append(error.finding)
                self._finish("deadlock")

    def _finish(self, result: object) -> None:
        self.results.append(result)
        self.done += 1

    def _block(self) -> None:
        """Do what is told; a ``with`` is a block in this one. Locks taken by ``acquire`` are let go at its end."""
        held: list[AnyLock] = []
        try:
            while True:
                what, index = self.orders.get()
                if what == "leave":
                    return
                lock = self.locks[index]
                if what == "with":
                    with lock:
                        self._finish(True)
                        self._block()
                    self._finish(None)
                elif what == "release":
                    held.remove(lock)
                    lock.release()
                    self._finish(None)
                else:
                    if what == "acquire":
                        got = lock.acquire()
                    elif what == "timed":
                        got = lock.acquire(timeout=LONG)
                    else:
                        got = lock.acquire(blocking=False)
                    if got:
                        held.append(lock)
                    self._finish(got)
        finally:
            for lock in reversed(held):
                lock.release()

    def expire(self) -> None:
        """Let the time of its timed wait be up."""
        assert self.agent is not None
        wait = innermost(self.agent)
        assert wait is not None
        wait.deadline_ns = 0
        wait.wake()

    def state(self, told: int) -> str:
        """Where it stands: "idle", "parked" in a wait, or still "moving"."""
        if self.done == told:
            return "idle"
        frame = current_frames().get(self.thread.ident or 0)
        parked = frame is not None and frame.f_code.co_name == "park"
        return "parked" if parked and self.agent is not None and self.agent.waits else "moving"


class Thread:
    """A thread in the model: its open blocks, each with the locks taken by ``acquire`` in it, and its wait.

    Attributes:
        blocks: (lock of the ``with`` or None, locks taken by ``acquire``), outermost first.
        wait: What it is blocked in: (operation, lock), or None.
        told: How many operations it was told, or (as a victim's way out) has finished.
    """

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.blocks: list[tuple[int | None, list[int]]] = [(None, [])]
        self.wait: tuple[str, int] | None = None
        self.told = 0
        self.since = 0
        self.victim_of: list[frozenset[str]] = []


class Model:
    """The known answer: mutexes with FIFO queues, and a deadlock wherever a chain of untimed waits bites its tail."""

    def __init__(self, recursive: list[bool], weights: list[int]) -> None:
        self.recursive = recursive
        self.threads = [Thread(weight) for weight in weights]
        self.owner: list[int | None] = [None] * len(recursive)
        self.count = [0] * len(recursive)
        self.queues: list[list[int]] = [[] for _ in recursive]
        self.clock = 0

    def _take(self, who: int, what: str, lock: int) -> None:
        thread = self.threads[who]
        self.owner[lock] = who
        self.count[lock] += 1
        thread.wait = None
        if what == "with":
            thread.blocks.append((lock, []))
        else:
            thread.blocks[-1][1].append(lock)

    def available(self, who: int, lock: int) -> bool:
        owner = self.owner[lock]
        return owner is None or (owner == who and self.recursive[lock])

    def start(self, who: int, what: str, lock: int) -> None:
        """Thread ``who`` wants a lock."""
        thread = self.threads[who]
        thread.told += 1
        if self.available(who, lock):
            self._take(who, what, lock)
        elif what != "try":
            self.clock += 1
            thread.since = self.clock
            thread.wait = (what, lock)
            self.queues[lock].append(who)
            self._resolve(who)

    def _resolve(self, who: int) -> None:
        """Find the cycle that this thread's wait leads to, if any, and let its victim go."""
        path: list[int] = []
        at: int | None = who
        while at is not None and at not in path:
            wait = self.threads[at].wait
            if wait is None or wait[0] == "timed":
                return
            path.append(at)
            at = self.owner[wait[1]]
        if at is None:
            return
        cycle = path[path.index(at) :]
        victim = min(cycle, key=lambda one: (self.threads[one].weight, -self.threads[one].since))
        self.threads[victim].victim_of.append(frozenset(f"t{one}" for one in cycle))
        self._give_up(victim)
        for lock in self._leave_all(victim):
            self._let_go(lock)

    def _give_up(self, who: int) -> None:
        wait = self.threads[who].wait
        assert wait is not None
        self.queues[wait[1]].remove(who)
        self.threads[who].wait = None

    def _leave_all(self, who: int) -> list[int]:
        thread = self.threads[who]
        locks = [lock for block in thread.blocks for lock in (block[0], *block[1]) if lock is not None]
        thread.blocks = [(None, [])]
        return locks

    def _let_go(self, lock: int) -> None:
        self.count[lock] -= 1
        if self.count[lock] == 0:
            self.owner[lock] = None
            if self.queues[lock]:
                heir = self.queues[lock].pop(0)
                wait = self.threads[heir].wait
                assert wait is not None
                self._take(heir, wait[0], lock)

    def release(self, who: int, lock: int) -> None:
        thread = self.threads[who]
        thread.told += 1
        thread.blocks[-1][1].remove(lock)
        self._let_go(lock)

    def leave(self, who: int) -> None:
        thread = self.threads[who]
        thread.told += len(thread.blocks) > 1  # the outermost block's end is the thread's
        lock, held = thread.blocks.pop()
        for one in [*held, *([] if lock is None else [lock])]:
            self._let_go(one)

    def expire(self, who: int) -> None:
        self._give_up(who)


class LockPrograms(RuleBasedStateMachine):
    """Does each operation for real and in the model, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.puppets: list[Puppet] = []
        self.failed = False

    @initialize(
        recursive=st.lists(st.booleans(), min_size=2, max_size=4),
        weights=st.lists(st.sampled_from([0, 0, 0, -1, 5]), min_size=2, max_size=5),
    )
    def begin(self, recursive: list[bool], weights: list[int]) -> None:
        config.configure(mode="raise", cpu=False)
        delivery.clear()
        self.model = Model(recursive, weights)
        kinds = [lockwatch.RLock if again else lockwatch.Lock for again in recursive]
        self.locks = [kind(name=f"l{index}") for index, kind in enumerate(kinds)]
        self.puppets = [Puppet(f"t{index}", self.locks, weight) for index, weight in enumerate(weights)]

    # --- operations ---

    def idle(self) -> list[int]:
        return [
            index for index, thread in enumerate(self.model.threads) if thread.wait is None and thread.blocks
        ]

    def timed(self) -> list[int]:
        return [
            who
            for who, one in enumerate(self.model.threads)
            if one.wait is not None and one.wait[0] == "timed"
        ]

    @precondition(lambda self: self.idle())
    @rule(
        who=st.integers(0, 59),
        what=st.sampled_from(["with", "with", "acquire", "timed", "try"]),
        lock=st.integers(0, 11),
    )
    def take(self, who: int, what: str, lock: int) -> None:
        """Some thread takes some lock."""
        self.told_to_take(self.idle()[who % len(self.idle())], what, lock % len(self.locks))

    @precondition(lambda self: self.wanted())
    @rule(which=st.integers(0, 239), what=st.sampled_from(["with", "with", "acquire", "acquire", "timed"]))
    def want(self, which: int, what: str) -> None:
        """Some thread that has a lock takes one that another has: that is how cycles come about."""
        who, lock = self.wanted()[which % len(self.wanted())]
        self.told_to_take(who, what, lock)

    def wanted(self) -> list[tuple[int, int]]:
        return [
            (who, lock)
            for who in self.idle()
            if who in self.model.owner
            for lock, owner in enumerate(self.model.owner)
            if owner is not None and owner != who
        ]

    def told_to_take(self, who: int, what: str, lock: int) -> None:
        """Take; but wait for a plain Lock by ``with`` only: taken and wanted by bare calls, it might be a signal."""
        if what == "acquire" and not self.model.recursive[lock] and not self.model.available(who, lock):
            what = "with"
        self.model.start(who, what, lock)
        self.puppets[who].orders.put((what, lock))
        self.compare()

    @precondition(lambda self: self.idle())
    @rule(who=st.integers(0, 59), which=st.integers(0, 11))
    def release(self, who: int, which: int) -> None:
        """Some thread releases a lock that it took by ``acquire`` in its innermost block."""
        who = self.idle()[who % len(self.idle())]
        held = self.model.threads[who].blocks[-1][1]
        if held:
            lock = held[which % len(held)]
            self.model.release(who, lock)
            self.puppets[who].orders.put(("release", lock))
            self.compare()

    @precondition(lambda self: self.idle())
    @rule(who=st.integers(0, 59))
    def leave(self, who: int) -> None:
        """Some thread leaves its innermost block, if that is a ``with``."""
        who = self.idle()[who % len(self.idle())]
        if len(self.model.threads[who].blocks) > 1:
            self.model.leave(who)
            self.puppets[who].orders.put(("leave", 0))
            self.compare()

    @precondition(lambda self: self.timed())
    @rule(who=st.integers(0, 59))
    def expire(self, who: int) -> None:
        """The time of some timed wait is up."""
        who = self.timed()[who % len(self.timed())]
        self.model.expire(who)
        self.puppets[who].expire()
        self.compare()

    # --- comparison ---

    def at_rest(self) -> bool:
        """Whether each thread is where the model says."""
        for thread, puppet in zip(self.model.threads, self.puppets, strict=True):
            told = thread.told if thread.wait is None else thread.told - 1
            if puppet.done != told or (thread.wait is not None and puppet.state(thread.told) != "parked"):
                return False
        return True

    def compare(self) -> None:
        """Wait for rest, then compare everything; after a failure nothing more is asked of the threads."""
        self.failed = True
        self.wait_for_rest()
        self.compare_locks()
        self.compare_errors()
        self.failed = False

    def wait_for_rest(self) -> None:
        """Wait until each thread is where the model says."""
        deadline = time.monotonic() + LIMIT
        while not self.at_rest():
            if time.monotonic() > deadline:
                faulthandler.dump_traceback(all_threads=True)
                pytest.fail(f"no rest; expected {[vars(thread) for thread in self.model.threads]}")
            time.sleep(0)

    def compare_locks(self) -> None:
        """Who owns what, how often, who waits where in which queue, and what the live tables say of it."""
        owners: list[str | None] = [lock.statistics().owner for lock in self.locks]
        assert owners == [None if owner is None else f"t{owner}" for owner in self.model.owner]
        assert [lock.statistics().count for lock in self.locks] == self.model.count
        queues = [[waiter.agent.label() for waiter in lock._queue] for lock in self.locks]
        assert queues == [[f"t{who}" for who in waiting] for waiting in self.model.queues]
        waits = {(row.agent, row.waits_for.resource.split("'")[1], row.blockers) for row in lockwatch.waits()}
        assert waits == {
            (f"Thread 't{who}'", f"l{thread.wait[1]}", (f"Thread 't{self.model.owner[thread.wait[1]]}'",))
            for who, thread in enumerate(self.model.threads)
            if thread.wait is not None
        }
        held = {(row.agent, row.hold.resource.split("'")[1], row.hold.count) for row in lockwatch.holders()}
        assert held == {
            (f"Thread 't{owner}'", f"l{lock}", self.model.count[lock])
            for lock, owner in enumerate(self.model.owner)
            if owner is not None
        }
        for lock in self.locks:
            lock._check()

    def compare_errors(self) -> None:
        """Each error that the model expects was raised, in its victim and of its parties; and there were no others."""
        for who, (thread, puppet) in enumerate(zip(self.model.threads, self.puppets, strict=True)):
            got = [frozenset(party.name for party in found.parties) for found in puppet.victim_of]
            assert got == thread.victim_of
            for found in puppet.victim_of:
                assert [party.name for party in found.parties if party.victim] == [f"t{who}"]
                assert found.cause == ("self" if len(found.parties) == 1 else "cycle")
        errors = sum(len(thread.victim_of) for thread in self.model.threads)
        assert len(lockwatch.recorded_findings()) == errors

    def teardown(self) -> None:
        """Whatever happened, all threads come to their end: nobody is stuck for good."""
        if not self.puppets or self.failed:
            return
        while any(thread.blocks for thread in self.model.threads):
            for who in self.timed():
                self.model.expire(who)
                self.puppets[who].expire()
                self.compare()
            assert self.idle(), "the model is stuck"
            for who in self.idle():
                self.model.leave(who)
                self.puppets[who].orders.put(("leave", 0))
                if self.model.threads[who].blocks:
                    self.compare()
                else:
                    self.puppets[who].thread.join(LIMIT)
                    assert not self.puppets[who].thread.is_alive()
        for lock in self.locks:
            lock._check()
            assert not lock.locked()
        self.compare_errors()


TestLockPrograms = LockPrograms.TestCase
TestLockPrograms.settings = settings(
    derandomize=True, deadline=None, max_examples=150, stateful_step_count=60, database=None
)
