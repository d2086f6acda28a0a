"""Go's ``sync.Mutex`` for tasks: `lockwatch._core.mutex` without its races, since one thread runs all of a loop.

Modes
  normal      A release frees the lock and wakes the head of the queue, which then competes with whoever runs
              before it. The running task usually wins (*barging*): it goes on without a turn of the loop.
  starvation  Entered by a waiter that has waited longer than the threshold (1 ms), and by a release that finds
              that the head, past it, was woken and has not had its turn yet. A release hands the lock to the
              head without ever freeing it; newcomers don't try, they queue at the tail. Left by a waiter that
              gets the lock and is the last one, or has waited no longer than the threshold.

State table (``_locked`` and ``_waiters`` are asyncio's; the queue holds the waits, ``_waiters`` their futures):

  locked  queue    starving  meaning
  ------  -------  --------  ------------------------------------------------------------------------
  no      empty    no        free
  yes     empty    no        held, nobody waits
  yes     waiters  no        held, normal mode; the head may have been woken already
  no      waiters  no        freed, somebody in the queue is awake: whoever runs first takes it
  yes     waiters  yes       held, starvation mode; or handed over: the hold is a waiter's in the queue
  no      waiters  yes       freed, as all who wait are being cancelled

Invariants
  T1  A waiter stays in the queue, at its place, until it has the lock or leaves: so one that was woken and loses
      waits on at the head, its clock running on, with a new future.
  T2  While the lock is free and somebody waits, one waiter that is not being cancelled is awake.
  T3  A waiter that leaves without the lock passes on the wake-up, or the lock, that it was given (cancellation
      arrives at the await, also after the wake-up).
  T4  ``_locked`` and the hold change without an await between.

Source, and what differs from Go: see `lockwatch._core.mutex`.
"""

from __future__ import annotations

from collections import deque
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from lockwatch._core import blocking, settings, tasks
from lockwatch._core.holds import AGENT
from lockwatch._core.waits import GRANTED, INTERRUPTED, VERDICT
from lockwatch.aio import order
from lockwatch.aio.record import ACQUIRES, Record, new_hold, new_wait, refused_by_loop, watch_end

if TYPE_CHECKING:
    from types import CodeType

    from lockwatch._core.agents import Agent
    from lockwatch._core.holds import Hold
    from lockwatch.aio.record import LockWait


def may_take(lock: Any, record: Record) -> bool:
    """Whether a newcomer may take the lock now: it is free, and nobody starves for it."""
    return not lock._locked and not (record._starving and record._queue)


async def acquire(lock: Any, record: Record, caller: Agent, code: CodeType, lasti: int, how: bool) -> bool:
    """Take a lock, waiting for it if need be. Arguments, result and errors as of `lockwatch.aio.driven.acquire`."""
    me = tasks.current()
    hold = new_hold(record, me, caller, code, lasti, how)
    if may_take(lock, record):
        lock._locked = True
        record.took(hold)
        if settings.order and len(hold[AGENT].holds) > 1:
            order.learn(hold[AGENT], record, hold, lambda: release(lock, record))
        return True
    try:
        future = lock._get_loop().create_future()
    except RuntimeError:
        refused_by_loop(lock, record, code, lasti)
        raise
    if lock._waiters is None:
        lock._waiters = deque()
    wait = new_wait(record, me, future, hold)
    record._queue.append(wait)  # type: ignore[arg-type]
    lock._waiters.append(future)
    record.watch_owner()
    try:
        wait.begin()
        blocking.raise_if_victim(wait)
        while True:
            await wait.future
            if wait.slot:
                blocking.raise_if_victim(wait)
            if record.hold is wait.hold or not lock._locked:
                break
            if not record._starving and _starves(wait):
                record._starving = True
            _wait_on(lock, wait)
    except BaseException:
        _leave(lock, record, wait)
        raise
    _unqueue(lock, record, wait)
    if record._starving and (not record._queue or not _starves(wait)):
        record._starving = False
    lock._locked = True
    record.took_after(wait)
    if settings.order and len(hold[AGENT].holds) > 1:
        order.learn(hold[AGENT], record, hold, lambda: release(lock, record))
    return True


ACQUIRES.add(acquire.__code__)


def release(lock: Any, record: Record) -> None:
    """Let go of a lock that is locked: hand it over in starvation mode, else free it and wake the head."""
    queue: Any = record._queue
    if not queue:
        record.gave_back()
        lock._locked = False
        return
    head = queue[0]
    woken = head.future.done() and not head.future.cancelled()
    if woken and not record._starving and _starves(head):
        record._starving = True
    if record._starving:
        for wait in queue:
            if wait.future.cancelled() or wait.slot.setdefault(VERDICT, GRANTED) is not GRANTED:
                continue  # it is being cancelled, or is a victim: it will leave
            _hand_over(record, wait.hold)
            _wake(wait)
            return
    record.gave_back()
    lock._locked = False
    _wake_head(record)


def _hand_over(record: Record, hold: Hold) -> None:
    record.gave_back()
    record.hold = hold
    hold[AGENT].holds[record._key] = hold
    record._handoffs += 1
    watch_end(hold[AGENT])


def _starves(wait: LockWait) -> bool:
    return monotonic_ns() - wait.since_ns > settings.starvation_threshold_ns


def _wake(wait: LockWait) -> None:
    if not wait.future.done():
        try:
            wait.future.set_result(True)
        except RuntimeError:
            pass  # the loop has been closed, and its tasks are being thrown away


def _wake_head(record: Record) -> None:
    """Wake the first who is not being cancelled; one that is awake already is enough (T2)."""
    for wait in record._queue:
        if not wait.future.cancelled():  # type: ignore[attr-defined]
            _wake(wait)  # type: ignore[arg-type]
            return


def _wait_on(lock: Any, wait: LockWait) -> None:
    """Give a waiter that was woken and lost a new future, at its place (T1)."""
    future = lock._get_loop().create_future()
    lock._waiters[lock._waiters.index(wait.future)] = future
    wait.future = future


def _unqueue(lock: Any, record: Record, wait: LockWait) -> None:
    record._queue.remove(wait)  # type: ignore[arg-type]
    lock._waiters.remove(wait.future)
    wait.end()


def _leave(lock: Any, record: Record, wait: LockWait) -> None:
    """Leave without the lock (T3)."""
    wait.slot.setdefault(VERDICT, INTERRUPTED)
    _unqueue(lock, record, wait)
    if not record._queue:
        record._starving = False
    if record.hold is wait.hold:
        release(lock, record)
    elif not lock._locked:
        _wake_head(record)
