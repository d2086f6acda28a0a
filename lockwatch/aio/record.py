"""What lockwatch knows of a lock of tasks: owner, waiters, where it was made. It is the lock in the wait-for graph.

It is an object beside the lock, since the lock is the program's, or asyncio's own, with its subclasses and
attributes; it hangs on the lock and dies with it. What asyncio keeps (``_locked``, ``_waiters``) stays as it is
with asyncio.

Guarantees:
  * The owner is a task, or a thread where no task runs. It is the task that awaits the ``acquire()``; if a task
    was made for nothing but that (``create_task(lock.acquire())``, ``wait_for`` up to 3.11), it is the one that
    called, since that of the ``acquire()`` is done at once.
  * A lock whose owner nobody has seen take it has none: anybody may release it.
  * The end of an owner is noticed while others wait for the lock, and costs nothing otherwise.

Assumes: one loop's thread changes a lock, as asyncio demands; other threads read. Assumed atomic: see
`lockwatch._core.waits`.
"""

from __future__ import annotations

import sys
import weakref
from asyncio import _get_running_loop
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from lockwatch import misuse
from lockwatch._core import detector, hooks, leftovers, tasks
from lockwatch._core.holds import AGENT, CODE, HOW, LASTI, SINCE
from lockwatch._core.taskpath import TaskRecord
from lockwatch._core.waits import ALL, NOBODY, OPEN, VERDICT, Blockers, Victim, _serials, withdraw
from lockwatch.aio.sight import somebody_sees
from lockwatch.locks.lock import PlainPolicy, by_with
from lockwatch.naming import site

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

    from lockwatch._core.agents import Agent
    from lockwatch._core.holds import Hold
    from lockwatch._core.waits import Resource, Wait

    Site = tuple[CodeType, int, int]

ATTRIBUTE = "_lockwatch"
"""Where a lock, semaphore, event or queue of asyncio keeps what lockwatch knows of it."""

ACQUIRES: set[CodeType] = set()
"""The coroutines that are nothing but an ``acquire()``."""


class LockWait(tasks.TaskWait):
    """A task's wait for a lock or semaphore.

    Attributes:
        hold: What it stores as its hold when it gets the lock, or, once it was handed over, has stored; None for a
            semaphore.
        timer: Fires when the wait is to be looked at again, as long as there is hope that somebody ends it.
    """

    __slots__ = ("hold", "timer")

    def __init__(self, agent: Agent, resource: Resource, future: Any, hold: Hold | None, place: Site) -> None:
        # The fields of Wait and TaskWait one by one: two more calls would cost more than all the stores.
        self.agent = agent
        self.resource = resource
        self.mode = "exclusive"
        self.code, self.lasti, self.since_ns = place
        self.deadline_ns = None
        self.serial = next(_serials)
        self.slot = {}
        self.hope = self.raises = True
        self.doubted = self.recheck_ns = None
        self.open_seen = False
        self.future = future
        self.hold = hold
        self.timer: Any = None

    def cancelled(self) -> bool:
        """Whether the task is being cancelled: what asks asyncio's ``_waiters`` asks the wait in their place."""
        return bool(self.future.cancelled())

    def begin(self, loop: Any) -> None:
        """Put the wait into the graph and look for deadlocks; the verdict says what was found.

        Nothing is looked for if the lock is free, or its owner a task of the same ``loop`` that is about to run: that
        is what a search would find first, for a fraction of its cost.
        """
        agent = self.agent
        if agent.kind != "task":
            return  # somebody runs the coroutine by hand, and does as they like
        agent.waits.append(self)
        if self.hold is not None:
            hold = self.resource.hold  # type: ignore[attr-defined]
            if hold is None:
                if not self.resource.locked():  # type: ignore[attr-defined]
                    return
            else:
                owner = hold[AGENT]
                if owner.kind == "task":
                    task = owner.task_ref()
                    if not owner.end_watched:
                        watch_end(owner)
                    if not owner.waits and task is not None and owner.loop_ref() is loop:
                        future = task._fut_waiter
                        if not task.done() and (future is None or future.done()):
                            return
        self.look_first()

    def look_first(self) -> None:
        """Look for the first time: also at whether the owner's loop is another one."""
        self._look_at_loops()
        self.look()

    def _look_at_loops(self) -> None:
        """Report a lock whose owner is a task of another loop: its release would wake this task from a wrong thread."""
        hold = getattr(self.resource, "hold", None)
        owner = None if hold is None else hold[AGENT]
        if owner is None or owner.kind != "task" or self.code is None:
            return
        loop = owner.loop_ref()
        if loop is not self.agent.loop_ref() and not owner.ended:  # type: ignore[attr-defined]
            misuse.two_loops(self.resource, self.agent, site(self.code, self.lasti), owner)

    def look(self) -> None:
        """Look for deadlocks, and again when a grace runs out."""
        detector.block(self)
        self._look_later()

    def end(self) -> None:
        """Take the wait out of the graph."""
        withdraw(self)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def wake(self) -> None:
        """Have a victim's error raised; without a verdict, see that the wait is looked at again when it is time."""
        if isinstance(self.slot.get(VERDICT), Victim):
            super().wake()
            return
        loop = self.agent.loop_ref()  # type: ignore[attr-defined]
        if loop is not None and self.recheck_ns is not None:
            try:
                loop.call_soon_threadsafe(self._look_later)
            except RuntimeError:
                pass  # the loop has been closed

    def _look_later(self) -> None:
        loop = self.agent.loop_ref()  # type: ignore[attr-defined]
        if self.recheck_ns is None or self.slot or loop is None or self not in self.agent.waits:
            return
        if self.timer is not None:
            self.timer.cancel()
        self.timer = loop.call_later(max(0, self.recheck_ns - monotonic_ns()) / 1e9, self.look_again)

    def look_again(self) -> None:
        """Look for deadlocks again: the grace is over. A timer of the loop that can end no task's wait."""
        self.recheck_ns = self.timer = None
        if self in self.agent.waits and not self.slot:
            self.look()


class Record(PlainPolicy, TaskRecord):  # pyright: ignore[reportIncompatibleVariableOverride]
    """What is known of one plain lock of tasks.

    Attributes:
        subject: A weak reference to the lock.
    """

    __slots__ = ("subject",)

    kind = "asyncio.Lock"

    def __init__(self, lock: Any) -> None:
        TaskRecord.__init__(self)
        self.subject = weakref.ref(lock)

    def __del__(
        self,
        held: Callable[[Any, Hold], None] = leftovers.dropped_held,
        finalizing: Callable[[], bool] = sys.is_finalizing,
    ) -> None:
        hold = getattr(self, "hold", None)
        if hold is not None and not finalizing():  # dropped while held
            hold[AGENT].holds.pop(self._key, None)
            held(self, hold)

    def blockers(self, wait: Wait, /) -> Blockers:
        """Say who could end ``wait``: as for the lock of threads; anybody, if nobody saw who took it."""
        if self.hold is not None:
            return super().blockers(wait)
        lock = self.subject()
        return _ANYBODY if lock is not None and lock._locked else NOBODY

    def _soft(self, wait: Wait, hold: Hold, /) -> bool:
        """Whether somebody else may yet release it: also what a task took for another one before it ended."""
        return not hold[HOW] and (not by_with(wait) or hold[AGENT].ended)

    def _in_sight(self, _idle: set[int], /) -> bool:
        return somebody_sees(self)

    def _owner(self) -> Hold | None:
        return self.hold

    def _level(self) -> int:
        return int(self.locked())

    def locked(self) -> bool:
        """Return whether the lock is locked."""
        lock = self.subject()
        return lock is not None and bool(lock._locked)

    def took(self, hold: Hold) -> None:
        """Note the owner."""
        agent = hold[AGENT]
        self.hold = hold
        agent.holds[self._key] = hold
        self._acquisitions += 1
        if self._queue:
            watch_end(agent)

    def took_after(self, wait: LockWait, now: int) -> None:
        """Note the owner, who has waited, as one from now on."""
        agent, ref, code, lasti, _, how = wait.hold  # type: ignore[misc]
        wait.hold = (agent, ref, code, lasti, now, how)
        self.took(wait.hold)
        self._contended += 1

    def gave_back(self) -> Hold | None:
        """Note that there is no owner any more; return the hold that there was."""
        hold, self.hold = self.hold, None
        if hold is not None:
            hold[AGENT].holds.pop(self._key, None)
        return hold

    def released_by(self, agent: Agent) -> None:
        """Note who releases it: another than the owner makes it a signal."""
        hold = self.hold
        if hold is not None and hold[AGENT] is not agent and not self._signal:
            self._became_signal()

    def __copy__(self) -> None:  # type: ignore[override]
        """A copy of the program's lock starts without a record."""

    def __deepcopy__(self, memo: dict[int, Any]) -> None:  # type: ignore[override]
        """A copy of the program's lock starts without a record."""

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:  # type: ignore[override]
        return type(None), ()

    def _check(self) -> None:
        """Assert the invariants that hold between two steps of the loop; for tests."""
        lock: Any = self.subject()
        hold, queue = self.hold, list(self._queue)
        futures = [wait.future for wait in queue]
        try:
            assert len(queue) == len(set(map(id, queue))), "a waiter is in the queue twice"
            mine = self._queue if lock._waiters is self._queue else futures
            assert list(lock._waiters or ()) == mine, "asyncio's queue and ours differ"
            assert hold is None or lock._locked, "a free lock has an owner"
            assert hold is None or hold[AGENT].holds.get(self._key) is hold, (
                "the owner does not list the lock"
            )
            assert lock._locked or not queue or any(future.done() for future in futures), "nobody was woken"
            assert queue or not self._starving, "nobody waits, and the lock is in starvation mode"
            for wait in queue:
                assert wait in wait.agent.waits, "a queued waiter is not in the graph"
        except AssertionError as error:
            error.add_note(f"{lock!r} hold={hold} queue={queue} starving={self._starving}")
            raise


class OwnedRecord(Record):
    """What is known of a lock that its owner alone may release, and may take again.

    Attributes:
        count: How often the owner took it beyond the first time.
    """

    __slots__ = ("count",)

    kind = "asyncio.RLock"

    def __init__(self, lock: Any) -> None:
        super().__init__(lock)
        self.count = 0

    def blockers(self, wait: Wait, /) -> Blockers:
        """Say who could end ``wait``: the owner, and nobody else."""
        hold = self.hold
        if hold is None or hold is getattr(wait, "hold", None):
            return NOBODY
        return Blockers(ALL, (hold[AGENT],), hold)

    def _level(self) -> int:
        return 0 if self.hold is None else self.count + 1


_ANYBODY = Blockers(OPEN)


def new_hold(record: Record, agent: Agent, caller: Agent, code: CodeType, lasti: int, how: bool) -> Hold:
    """Make the hold with which the running ``agent``, or who called ``acquire()`` for it, is to own a lock."""
    if agent is not caller and agent.kind == "task":
        task = agent.task_ref()  # type: ignore[attr-defined]
        if getattr(task.get_coro(), "cr_code", None) in ACQUIRES:
            agent = caller
    return agent, record._ref, code, lasti, monotonic_ns(), how


def new_wait(record: Record, agent: Agent, future: Any, hold: Hold) -> LockWait:
    """Make the wait of the running ``agent``."""
    return LockWait(agent, record, future, hold, (hold[CODE], hold[LASTI], hold[SINCE]))


def refused_by_loop(lock: Any, record: Record, code: CodeType, lasti: int) -> None:
    """Report that a lock is bound to another loop than the running one, if that is why it could not be waited for."""
    bound = getattr(lock, "_loop", None)
    if bound is not None and bound is not _get_running_loop():
        misuse.two_loops(record, tasks.current(), site(code, lasti), None)


def watch_end(agent: Any) -> None:
    """See that those who wait for what ``agent`` holds are looked at again when it ends."""
    if agent.kind == "task" and not agent.end_watched:
        task = agent.task_ref()
        if task is not None and not task.done():
            agent.end_watched = True
            task.add_done_callback(_ended)


def _ended(task: Any) -> None:
    agent = tasks.agent_of(task)
    if agent.holds:
        detector.look_after(agent)
        error = getattr(task, "_exception", None)  # not exception(): nobody has retrieved it by this
        leftovers.note_end(agent, error)
        hooks.ended_holding(agent)
