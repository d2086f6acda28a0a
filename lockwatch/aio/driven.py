"""asyncio's own coroutines, run step by step, so that what they wait for stands in the graph meanwhile.

Nothing of asyncio's order or clean-up is done anew: its ``acquire`` runs, whatever the version, and its future is
passed on to the loop. This is the way of everything under `install()`, and of ``fairness="fifo"``.

Guarantee: an exception that comes in at the await (a cancellation, a victim's error) goes to asyncio's coroutine,
which cleans up as it always does.

Cost: without waiting one generator more; with it a `TaskWait`, and one look along the chain of owners.
"""

from __future__ import annotations

from time import monotonic_ns
from types import coroutine
from typing import TYPE_CHECKING, Any

from lockwatch._core import blocking
from lockwatch._core.taskpath import current_agent
from lockwatch._core.waits import GRANTED, VERDICT
from lockwatch.aio import order, stock
from lockwatch.aio.record import ACQUIRES, Record, new_hold, new_wait, refused_by_loop

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from types import CodeType

    from lockwatch._core.agents import Agent
    from lockwatch._core.holds import Hold
    from lockwatch.aio.record import LockWait


async def acquire(lock: Any, record: Record, caller: Agent, code: CodeType, lasti: int, how: bool) -> Any:
    """Take a lock as asyncio does, in its strict order.

    Args:
        lock: The lock.
        record: What is known of it.
        caller: Who called ``acquire()``.
        code: The code that called it.
        lasti: The instruction there.
        how: Whether by ``async with``.

    Returns:
        What asyncio's own ``acquire`` returns: True.

    Raises:
        DeadlockError: Waiting would never end, and this task is the victim.
    """
    me = current_agent()
    hold = new_hold(record, me, caller, code, lasti, how)
    steps = stock.lock_acquire(lock)
    try:
        future = steps.send(None)
    except StopIteration as done:
        record.took(hold)
        order.learn(lock, record, hold, release)
        return done.value
    except RuntimeError:
        refused_by_loop(lock, record, code, lasti)
        raise
    wait = new_wait(record, me, future, hold)
    record._queue.append(wait)
    try:
        taken = await drive(steps, future, wait)
    finally:
        record._queue.remove(wait)
    record.took_after(wait, monotonic_ns())
    order.learn(lock, record, hold, release)
    return taken


async def enter(lock: Any, record: Record, hold: Hold) -> None:
    """Take a lock for ``async with``; ``hold`` says who called, where and when."""
    agent, _, code, lasti, _, how = hold
    await acquire(lock, record, agent, code, lasti, how)


ACQUIRES.update((acquire.__code__, enter.__code__))


@coroutine
def drive(steps: Coroutine[Any, Any, Any], future: Any, wait: LockWait) -> Generator[Any, Any, Any]:
    """Run the rest of a coroutine that awaits ``future``, with ``wait`` in the graph.

    Returns:
        What the coroutine returns.
    """
    try:
        try:
            wait.begin(future.get_loop())
            blocking.raise_if_victim(wait)
        except BaseException as error:
            future = steps.throw(error)
        while True:
            wait.future = future
            try:
                sent = yield future
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as error:
                future = steps.throw(error)
            else:
                wait.slot.setdefault(VERDICT, GRANTED)
                future = steps.send(sent)
    except StopIteration as done:
        return done.value
    finally:
        wait.end()


def release(lock: Any, record: Record) -> None:
    """Let go of a lock as asyncio does.

    Raises:
        RuntimeError: It is not locked.
    """
    if lock._locked:
        record.released_by(current_agent())
        record.gave_back()
    stock.lock_release(lock)
