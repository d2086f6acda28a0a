"""Go's ``sync.Mutex`` for tasks: `lockwatch._core.mutex` without its races, since one thread runs all of a loop.

Modes
  normal      A release frees the lock and wakes the head of the queue, which then competes with whoever runs
              before it. The running task usually wins (*barging*): it goes on without a turn of the loop.
  starvation  Entered by a waiter that has waited longer than the threshold (1 ms), and by a release that finds
              that the head, past it, was woken and has not had its turn yet. A release hands the lock to the
              head without ever freeing it; newcomers don't try, they queue at the tail. Left by a waiter that
              gets the lock and is the last one, or has waited no longer than the threshold.

State table (``_locked`` is asyncio's; the queue holds the waits, and stands for asyncio's ``_waiters``):

  locked  queue    starving  meaning
  ------  -------  --------  ------------------------------------------------------------------------
  no      empty    no        free
  yes     empty    no        held, nobody waits
  yes     waiters  no        held, normal mode; the head may have been woken already
  no      waiters  no        freed, somebody in the queue is awake: whoever runs first takes it
  yes     waiters  yes       held, starvation mode
  no      waiters  yes       freed, as all who wait are being cancelled

Invariants
  T1  A waiter stays in the queue, at its place, until it has the lock or leaves: so one that was woken and loses
      waits on at the head, its clock running on, with a new future. One to which the lock is handed over has it from
      that moment on, also before it runs.
  T2  While the lock is free and somebody waits, one waiter that is not being cancelled is awake.
  T3  A waiter that leaves without the lock passes on the wake-up, or the lock, that it was given (cancellation
      arrives at the await, also after the wake-up).
  T4  ``_locked`` and the hold change without an await between.

Source, and what differs from Go: see `lockwatch._core.mutex`.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from lockwatch._core import blocking, settings
from lockwatch._core.holds import AGENT, CODE, HOW, LASTI
from lockwatch._core.taskpath import current_agent, know_waits
from lockwatch._core.waits import GRANTED, INTERRUPTED, VERDICT, _serials, publish
from lockwatch.aio import order
from lockwatch.aio.record import ACQUIRES, LockWait, new_hold, refused_by_loop, watch_end

if TYPE_CHECKING:
    from types import CodeType

    from lockwatch._core.agents import Agent
    from lockwatch._core.holds import Hold
    from lockwatch.aio.record import Record


def may_take(lock: Any, record: Record) -> bool:
    """Whether a newcomer may take the lock now: it is free, and nobody starves for it."""
    return not lock._locked and not (record._starving and record._queue)


async def acquire(lock: Any, record: Record, caller: Agent, code: CodeType, lasti: int, how: bool) -> bool:
    """Take a lock, waiting for it if need be. Arguments, result and errors as of `lockwatch.aio.driven.acquire`."""
    hold = new_hold(record, current_agent(), caller, code, lasti, how)
    if may_take(lock, record):
        lock._locked = True
        record.took(hold)
        order.learn(lock, record, hold, release)
    else:
        await wait_for(lock, record, hold)
    return True


async def wait_for(lock: Any, record: Record, hold: Hold) -> None:
    """Wait for a lock that a newcomer may not take, and take it; ``hold`` says who called, where and when.

    The C fast path has this, `release` and what they call a second time.
    """
    me = current_agent()
    if me is not hold[AGENT]:
        hold = new_hold(record, me, hold[AGENT], hold[CODE], hold[LASTI], hold[HOW])
    if may_take(lock, record):  # it was locked when this was called, and is no more
        lock._locked = True
        record.took(hold)
        order.learn(lock, record, hold, release)
        return
    loop = me.loop_ref() if me.kind == "task" else None  # type: ignore[attr-defined]
    if loop is None or lock._loop is not loop:
        try:
            loop = lock._get_loop()
        except RuntimeError:
            refused_by_loop(lock, record, hold[CODE], hold[LASTI])
            raise
    future = loop.create_future()
    wait = LockWait(me, record, future, hold, hold[CODE:HOW])
    record._queue.append(wait)
    try:
        wait.begin(loop)
        if wait.slot:
            blocking.raise_if_victim(wait)
        await future
    except BaseException:
        leave(lock, record, wait)
        raise
    if record.hold is wait.hold:
        order.learn(lock, record, wait.hold, release)  # type: ignore[arg-type]
    else:
        await go_on(lock, record, wait)


async def go_on(lock: Any, record: Record, wait: LockWait) -> None:
    """Go on with a wait that was woken and has not been given the lock: take it, or wait again."""
    try:
        while record.hold is not wait.hold:
            if wait.slot:
                blocking.raise_if_victim(wait)
                if wait not in record._queue:
                    _come_back(record, wait)  # it was handed over, and then released by somebody else
            if not lock._locked:
                lock._locked = True
                _own(record, wait, monotonic_ns())
                break
            if not record._starving and _starves(wait, monotonic_ns()):
                record._starving = True
            wait.future = lock._get_loop().create_future()  # T1
            await wait.future
    except BaseException:
        leave(lock, record, wait)
        raise
    order.learn(lock, record, wait.hold, release)  # type: ignore[arg-type]


ACQUIRES.update((acquire.__code__, wait_for.__code__))


def release(lock: Any, record: Record) -> None:
    """Let go of a lock that is locked: hand it over in starvation mode, else free it and wake the head."""
    queue = record._queue
    hold = record.hold
    if hold is not None:
        record.hold = None
        hold[AGENT].holds.pop(record._key, None)
    if queue:
        now = monotonic_ns()
        if not record._starving:
            head = queue[0]
            if head.future.done() and not head.future.cancelled() and _starves(head, now):
                record._starving = True
        if record._starving:
            for wait in queue:
                future = wait.future
                if not future.cancelled() and wait.slot.setdefault(VERDICT, GRANTED) is GRANTED:
                    _own(record, wait, now)
                    record._handoffs += 1
                    if not future.done():
                        _wake(future)
                    return
                # else it is being cancelled, or is a victim: it will leave
    lock._locked = False
    _wake_head(record)


def _own(record: Record, wait: LockWait, now: int) -> None:
    """Make who has waited the owner of a lock, which is locked: everything is done for it that there is to do."""
    queue = record._queue
    if queue[0] is wait:
        del queue[0]
    else:
        queue.remove(wait)
    wait.end()
    if record._starving and (not queue or now - wait.since_ns <= settings.starvation_threshold_ns):
        record._starving = False
    agent, ref, code, lasti, _, how = wait.hold  # type: ignore[misc]
    record.hold = wait.hold = agent.holds[record._key] = (agent, ref, code, lasti, now, how)
    record._acquisitions += 1
    record._contended += 1
    if queue and not (agent.kind == "task" and agent.end_watched):
        watch_end(agent)


def _starves(wait: LockWait, now: int) -> bool:
    return now - wait.since_ns > settings.starvation_threshold_ns


def _wake(future: Any) -> None:
    try:
        future.set_result(True)
    except RuntimeError:
        pass  # the loop has been closed, and its tasks are being thrown away


def _wake_head(record: Record) -> None:
    """Wake the first who is not being cancelled; one that is awake already is enough (T2)."""
    for wait in record._queue:
        if not wait.future.cancelled():
            if not wait.future.done():
                _wake(wait.future)
            return


def _come_back(record: Record, wait: LockWait) -> None:
    """Queue a waiter again, as the first (T1)."""
    wait.begin_again()
    record._queue.insert(0, wait)
    if wait.agent.kind == "task":
        publish(wait)


def leave(lock: Any, record: Record, wait: LockWait) -> None:
    """Leave without the lock (T3)."""
    if record.hold is wait.hold:
        release(lock, record)
        return
    wait.slot.setdefault(VERDICT, INTERRUPTED)
    if wait in record._queue:
        record._queue.remove(wait)
    wait.end()
    if not record._queue:
        record._starving = False
    if not lock._locked:
        _wake_head(record)


know_waits(
    LockWait(None, None, None, None, (None, -1, 0)),  # type: ignore[arg-type]
    _serials,
    GRANTED,
    wait_for,
    go_on,
    leave,
    watch_end,
    blocking.raise_if_victim,
)
