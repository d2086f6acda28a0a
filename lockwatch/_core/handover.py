"""The releasing side of the mutex: hand-off in starvation mode, or free and wake. The rules are those of `mutex`.

Guarantees: M1, M3 to M6 and M9 there, as far as they are about releases. Assumptions as there, too.
"""

from __future__ import annotations

from time import monotonic_ns, sleep

from lockwatch._core import agents, parking, settings
from lockwatch._core.holds import AGENT, PARKER
from lockwatch._core.signals import may_run_handler
from lockwatch._core.waits import GRANTED, SUSPENDED, VERDICT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lockwatch._core.holds import Hold
    from lockwatch._core.mutex import Waiter
    from lockwatch._core.mutexbase import MutexBase

OWNED = 0
"""The key under which ``_state`` keeps the owner's hold."""

_GRANTER = 1
"""The key under which a waiter's slot, beside the verdict, keeps who grants, and the hold that it gives up (M4)."""


def release_slow(lock: MutexBase, hold: Hold) -> None:
    """Let go of ``lock``, which was held by ``hold``, and serve its queue.

    In starvation mode the caller gives up its time slice, so that the new owner runs at once (Go issue 33747).

    Raises:
        MisuseError: Another thread was quicker (M9; what `hooks.misuse` makes of it).
    """
    if not give_up(lock, hold):
        lock._refuse_release(None)


def give_up(lock: MutexBase, hold: Hold) -> bool:
    """Do as `release_slow`, but return whether the hold was let go here.

    If ``hold`` is the lock's hold no longer, only the next waiter is woken.
    """
    try:
        done = pass_on(lock, hold)
    except BaseException:
        pass_on(lock, hold)  # M7
        raise
    if lock._starving:
        sleep(0)
    return done


def pass_on(lock: MutexBase, hold: Any) -> bool:
    """Grant the head in starvation mode, else free the lock; then wake. Does only the rest if run again.

    Returns:
        Whether something was let go; False if another thread was quicker (M9).
    """
    state = lock._state
    queue = lock._queue
    done = False
    while lock._starving and state.get(OWNED) is hold:
        heads = queue[:1]
        if not heads or not _grantable(heads[0]):
            break
        head = heads[0]
        me = agents.current()
        if head.hold is hold and head.agent is me:
            unqueue(lock, head)  # our own, whose clean-up was cut off: it does not wait any more
            continue
        verdict = head.slot.setdefault(VERDICT, GRANTED)
        if verdict is not GRANTED:
            unqueue(lock, head)  # it times out, or is a victim: it is awake, and leaving
            if verdict is SUSPENDED:
                parking.unpark(head.parker)  # M8: it may have queued again meanwhile
            continue
        granter, given = head.slot.setdefault(_GRANTER, (me, hold))
        if given is not hold:
            head.slot[_GRANTER] = (me, hold)  # an earlier claim, that was cut off and came to nothing
        elif granter is not me:
            return False  # M9
        lock._handoffs += 1
        parking.unpark(head.parker)  # M4
        state[OWNED] = head.hold
        done = True
    if state.get(OWNED) is hold:
        freed = state.pop(OWNED, None)
        done = freed is not None
        if freed is not None and freed is not hold:
            freed[AGENT].holds.pop(lock._key, None)  # another thread was quicker: this is the next owner's
    wake_next(lock)
    return done


def _grantable(waiter: Waiter) -> bool:
    return not (waiter.agent.main and may_run_handler())


def wake_next(lock: MutexBase) -> None:
    """Wake whoever is to move next: the one that was granted the lock, or, if it is free, the head.

    The main thread may be running a signal handler on top of its wait; so the one behind it is woken, too.
    """
    now = lock._state.get(OWNED)
    if now is not None:
        if len(now) > PARKER:
            parking.unpark(now[PARKER])
        return
    for waiter in lock._queue[:2]:
        parking.unpark(waiter.parker)
        if not waiter.agent.main:
            return


def may_keep(lock: MutexBase, hold: Hold) -> bool:
    """Say whether a newcomer that has just won the lock beside a queue may keep it: not in starvation mode (M5)."""
    if not lock._starving:
        return True
    give_up(lock, hold)
    return False


def reset(lock: MutexBase) -> None:
    """Make the lock free and forget its waiters, for ``_at_fork_reinit``."""
    hold = lock._state.pop(OWNED, None)
    if hold is not None:
        hold[AGENT].holds.pop(lock._key, None)
    lock._queue.clear()
    lock._starving = False


def unqueue(lock: MutexBase, waiter: Waiter) -> None:
    try:
        lock._queue.remove(waiter)
    except ValueError:
        pass


def starves(waiter: Waiter) -> bool:
    return monotonic_ns() - waiter.since_ns > settings.starvation_threshold_ns
