"""The mutex under contention: Go's ``sync.Mutex``, for locks that have an owner.

Source: Go 1.27 ``internal/sync/mutex.go`` and ``runtime/sema.go``. What differs from Go, and why, stands at
the end.

Modes
  normal      A release frees the lock and wakes the head of the queue, which then competes with whoever comes
              along. The one that is running usually wins (*barging*): much better throughput, since no switch
              is needed between two owners.
  starvation  Entered by a waiter that has waited longer than the threshold (1 ms). A release hands the lock
              to the head of the queue without ever freeing it, in FIFO order; newcomers don't try, they queue
              at the tail. Left by a waiter that gets the lock and is the last one, or has waited no longer
              than the threshold.

State table (``_state`` is empty or holds a hold; ``_queue`` holds the waiters; ``_starving`` is the mode):

  _state  _queue   _starving  meaning                   who acts next
  ------  -------  ---------  ------------------------  ---------------------------------------------------
  empty   empty    False      free                      anyone, by compare-and-swap (fast path)
  owned   empty    False      held, nobody waits        the owner: release by a pop (fast path)
  owned   waiters  False      held, normal mode         the owner: pop, then unpark the head
  empty   waiters  False      freed, the head is awake  the head and any newcomer, by compare-and-swap
  owned   waiters  True       held, starvation mode     the owner: grants the head, stores the head's hold
  owned   waiters  True       granted: it is the hold   the granted waiter: leaves the queue and runs
                              of a GRANTED waiter
  empty   waiters  True       freed, as the head could  the head, or the one behind it; a newcomer that
                              not be granted: it is in  wins gives the lock on (M5)
                              the main thread
  any     empty    True       mode not left in time     the next waiter that gets the lock leaves it

Invariants
  M1  A waiter is in ``_queue`` before it looks at ``_state`` for the last time before it parks. Whoever takes
      the hold out of ``_state`` looks at ``_queue`` afterwards (F1). So a waiter never sleeps beside a free
      lock that nobody is awake to take.
  M2  A waiter stays in ``_queue``, at its place, while it competes; so one that is woken and loses parks
      again at the head with its clock running on (Go's LIFO re-queue), and a second release that finds it
      woken does nothing more (its permit is there already: Go's *woken* bit).
  M3  A waiter that leaves ``_queue`` without the lock passes the wake-up on that it may have swallowed.
  M4  A grant is: claim the head's verdict, unpark it, store its hold over one's own, unpark it once more. A claim
      that was not followed up (an exception came between) is completed when the release is run again. Two threads
      may release one plain lock at once: the first that signs the claim grants, the other one comes too late (M9).
      Nobody who owns a lock sleeps until a frame runs on: a signal handler may wait on top of that frame.
  M5  In starvation mode nobody overtakes: a newcomer that wins the compare-and-swap in the instant in which
      the mode changes gives the lock on. The hold that it gives on is never the one that it waits with: the
      lock may come back to it while it still does so, and it would not see the difference.
  M6  ``_starving`` is set before ``_state`` is looked at again; so either the releaser sees the mode, or the
      waiter sees the free lock.
  M7  Every clean-up can be run twice. It is run again if an exception interrupts it.
  M8  A wait whose frame is suspended, by a signal handler or finalizer of the same thread that itself comes
      to wait, *gives way*: it leaves the queue, what it had been granted goes on to the next, and it queues
      again at the head when its frame runs on. No thread waits for a frame that cannot run.
  M9  A release that finds that another thread has let go of the hold that it read is refused, as if it had come
      in the instant in which the lock was free: that lies within the call. So no release is lost without a word.

Each line below touches the shared state at most once, so that the test that walks all interleavings line by line
covers what threads can do. Assumed atomic, with and without the GIL: see `lockwatch._core.waits`, and the dictionary
operations named in `lockwatch._core.fastpath`.

Differences from Go. (1) Rule 3, spinning, is left out: under a GIL it only delays the owner; it belongs to the C twin
on free-threaded builds. (2) Go removes a waiter when it wakes it and pushes it to the front when it loses; we leave
it where it is, which is the same order (M2). (3) Go has no time-outs, victims or exceptions: they are M3 and M7. (4)
The main thread is not granted a lock while the program has signal handlers of its own, but woken together with the
next waiter: a handler could be running on top of its wait, and a lock granted to it would be held by a frame that
does not run. (5) There is no queue shared by many locks: each has its own list.

Only a waiter that runs and loses says that it starves, as in Go. Under a GIL that may be a switch interval (5 ms) late,
but a releaser that said so on its behalf (as CPython's ``PyMutex`` does) would take a thread that waits for the GIL for
one that waits for the lock: with more threads than cores, each waits longer than the threshold to run, all hand over
to threads that do not run yet, and no one is ever short enough to leave the mode. That convoy was two to ten times
slower.
"""

from __future__ import annotations

from time import monotonic_ns

from lockwatch._core import agents, detector, hooks, parking, settings
from lockwatch._core.handover import OWNED, pass_on, starves, unqueue, wake_next
from lockwatch._core.holds import AGENT, CODE, LASTI, PARKER, SINCE, TAKEN, is_waiters
from lockwatch._core.waits import (
    GRANTED,
    INTERRUPTED,
    SUSPENDED,
    TIMED_OUT,
    VERDICT,
    Victim,
    Wait,
    publish,
    withdraw,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lockwatch._core.agents import Agent
    from lockwatch._core.holds import Hold
    from lockwatch._core.mutexbase import MutexBase

_FOLLOW_UP_NS = 1_000_000
"""How long to sleep at most before looking again whether a grant that was begun has been completed (M4)."""


class Waiter(Wait):
    """One agent's wait for one mutex.

    Attributes:
        hold: What it stores as its hold when it gets the lock.
        parker: What it sleeps on; also tells its holds from others'.
        awake: It was woken by the twin in C, and has not looked at the lock since; so a release need not wake it.
        leaving: Its clean-up has begun.
        notice_ns: When it is worth a word that it blocks an event loop, or None.
    """

    __slots__ = ("awake", "hold", "leaving", "notice_ns", "parker")

    def __init__(self, lock: MutexBase, hold: Hold, deadline_ns: int | None) -> None:
        Wait.__init__(self, hold[AGENT], lock, hold[SINCE], deadline_ns, hold[CODE], hold[LASTI])
        self.parker = parking.new_parker()
        self.hold: Hold = (*hold, self.parker, [0])
        self.awake = self.leaving = False
        limit = settings.loop_block_ns
        self.notice_ns = self.since_ns + limit if limit is not None and agents.runs_loop() else None

    def wake(self) -> None:
        """Wake the thread."""
        parking.unpark(self.parker)

    def is_worth_a_look(self) -> bool:
        """Say no if the owner is in no wait: then it will release the lock, as far as can be told."""
        lock: MutexBase = self.resource  # type: ignore[assignment]
        hold = None if lock._is_signal() else lock._state.get(OWNED)
        return (
            hold is None or not agents.runs(hold[AGENT]) or hold[AGENT] is not agents.responsible(self, hold)
        )

    def give_way(self) -> None:
        """Leave the queue and pass on what was granted, while the waiting frame is suspended (M8).

        The permit that is left makes the frame look again, and queue again, as soon as it runs on.
        """
        lock: MutexBase = self.resource  # type: ignore[assignment]
        if self.slot.setdefault(VERDICT, SUSPENDED) is GRANTED:
            _follow_up(lock, self)
        unqueue(lock, self)
        now = lock._state.get(OWNED)
        if is_waiters(now, self.parker):
            pass_on(lock, now)
        else:
            wake_next(lock)
        if not self.leaving:
            self.slot = {VERDICT: SUSPENDED}
        parking.unpark(self.parker)


def acquire_slow(lock: MutexBase, hold: Hold, timeout_ns: int | None) -> bool:
    """Take ``lock`` for the agent of ``hold``, waiting for it if need be.

    Args:
        lock: The lock, which the agent does not own (or which is not re-entrant).
        hold: Who takes it, where, how and since when.
        timeout_ns: For how long to try, in nanoseconds; None for ever.

    Returns:
        True if the agent owns the lock, False if the time was up.

    Raises:
        DeadlockError: The agent is the victim of a deadlock (what `hooks.error` makes of it).
        BaseException: Whatever a signal handler raised; the lock is not taken then, and no waiter is left
            behind (M3, M7).
    """
    me: Agent = hold[AGENT]
    waiter = Waiter(lock, hold, None if timeout_ns is None else hold[SINCE] + timeout_ns)
    try:
        try:
            for suspended in me.waits[::-1]:
                suspended.give_way()
            return _wait_turn(lock, waiter)
        except BaseException:
            _leave(lock, waiter)
            raise
    except BaseException:
        _leave(lock, waiter)  # M7: the first one may have been interrupted
        raise


def _wait_turn(lock: MutexBase, waiter: Waiter) -> bool:
    """Queue, compete, park, until the lock is ours or the time is up; raises in a victim."""
    state = lock._state
    queue = lock._queue
    parker = waiter.parker
    woken = look = False
    publish(waiter)
    while True:
        verdict = waiter.slot.get(VERDICT)
        if verdict is SUSPENDED:
            waiter.begin_again()
            look = False  # the thread was awake meanwhile: for the others this is a new wait
        if waiter not in queue:
            if woken:
                queue.insert(0, waiter)
            else:
                queue.append(waiter)  # M1: first queue, then look
        if woken or not lock._starving or _in_turn(queue, waiter):
            waiter.awake = False  # first this, then the look: who frees the lock later wakes us
            now = state.setdefault(OWNED, waiter.hold)
            if is_waiters(now, parker):
                if woken or not lock._starving or waiter.slot or _in_turn(queue, waiter):
                    unqueue(lock, waiter)
                    withdraw(waiter)
                    if waiter.slot.get(VERDICT) is not SUSPENDED or is_waiters(state.get(OWNED), parker):
                        return _own(lock, waiter)
                    publish(waiter)  # M8: it was given on
                else:
                    waiter.hold = (*now[:PARKER], parker, [0])  # another one: we may be granted it on the way
                    pass_on(lock, now)  # M5
                continue
        if woken and not lock._starving and starves(waiter):
            lock._starving = True  # M6: first the mode, then look again
            continue
        if not look:
            look = True
            detector.block(waiter)
        elif waiter.recheck_ns is not None and monotonic_ns() >= waiter.recheck_ns:
            waiter.recheck_ns = None
            detector.block(waiter)
        verdict = waiter.slot.get(VERDICT)
        if isinstance(verdict, Victim):
            _lose(lock, waiter, verdict)
        if waiter.notice_ns is not None and monotonic_ns() >= waiter.notice_ns:
            waiter.notice_ns = None
            hooks.loop_blocked(waiter)
        timeout_ns = _FOLLOW_UP_NS if verdict is GRANTED else _time_left(waiter)
        permit = parking.park(parker, timeout_ns)
        woken = True
        verdict = waiter.slot.get(VERDICT)
        if isinstance(verdict, Victim):
            _lose(lock, waiter, verdict)
        if not permit and waiter.deadline_ns is not None and monotonic_ns() >= waiter.deadline_ns:
            verdict = waiter.slot.setdefault(VERDICT, TIMED_OUT)
            if verdict is not GRANTED and verdict is not SUSPENDED:
                _leave(lock, waiter)
                return False


def _in_turn(queue: list[Waiter], waiter: Waiter) -> bool:
    """Say whether ``waiter`` may try in starvation mode: at the head, or behind the main thread and its handlers."""
    heads = queue[:2]
    return waiter in heads and (heads[0] is waiter or heads[0].agent.main)


def _time_left(waiter: Waiter) -> int | None:
    """Return for how many nanoseconds to park: until the deadline or the next look, whichever is first."""
    until = waiter.deadline_ns
    for look_ns in (waiter.recheck_ns, waiter.notice_ns):
        if look_ns is not None and (until is None or look_ns < until):
            until = look_ns
    return None if until is None else max(0, until - monotonic_ns())


def _own(lock: MutexBase, waiter: Waiter) -> bool:
    """Leave the queue as the owner. Another agent may release the lock at any moment, so its state is not written."""
    hold = waiter.hold
    agent, since = hold[AGENT], hold[SINCE]
    unqueue(lock, waiter)
    now = monotonic_ns()
    if lock._starving and (now - since <= settings.starvation_threshold_ns or not lock._queue):
        lock._starving = False
    hold[TAKEN][0] = now
    agent.holds[lock._key] = hold
    lock._acquisitions += 1
    lock._contended += 1
    if not is_waiters(lock._state.get(OWNED), waiter.parker):
        agent.holds.pop(lock._key, None)  # who released it looked before the entry was there
    elif settings.order and len(agent.holds) > 1 and waiter.deadline_ns is None:
        hooks.learn_order(agent, lock, hold)
    return True


def _lose(lock: MutexBase, waiter: Waiter, verdict: Victim) -> None:
    """Leave as the victim of a deadlock."""
    while not verdict.ready:
        parking.park(waiter.parker, _FOLLOW_UP_NS)
    _leave(lock, waiter)
    raise hooks.error(verdict.finding)


def _follow_up(lock: MutexBase, waiter: Waiter) -> None:
    """Wait until a grant that another thread has begun is complete (M4): a matter of two instructions there."""
    while not waiter.leaving and not is_waiters(lock._state.get(OWNED), waiter.parker):
        parking.park(waiter.parker, _FOLLOW_UP_NS)


def _leave(lock: MutexBase, waiter: Waiter) -> None:
    """Leave without the lock: out of the queue, out of the graph, wake-up and ownership passed on (M3, M7)."""
    if waiter.slot.setdefault(VERDICT, INTERRUPTED) is GRANTED:
        _follow_up(lock, waiter)
    waiter.leaving = True
    unqueue(lock, waiter)
    withdraw(waiter)
    now = lock._state.get(OWNED)
    if is_waiters(now, waiter.parker):
        if waiter.agent.holds.get(lock._key) is waiter.hold:
            waiter.agent.holds.pop(lock._key, None)
        pass_on(lock, now)
        return
    if not lock._queue:
        lock._starving = False
    wake_next(lock)
