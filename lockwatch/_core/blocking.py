"""Blocking on anything that is not a mutex: publish the wait, look for deadlocks, park, read the verdict.

The same way as through `lockwatch._core.mutex`, for waits whose end is a single wake-up: a notified
condition, a thread that ends. What ends the wait leaves the permit with its parker; a verdict tells a victim
from that.

Guarantees: a wait with a deadline never raises; the wait is out of the graph when the call ends, however it ends.

Assumed atomic: see `lockwatch._core.waits` and `lockwatch._core.parking`.
"""

from __future__ import annotations

from time import monotonic_ns

from lockwatch._core import agents, detector, hooks, ontop, parking
from lockwatch._core.waits import TIMED_OUT, VERDICT, Victim, Wait, publish, withdraw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from types import CodeType

    from lockwatch._core.agents import Agent
    from lockwatch._core.waits import Resource

_NOT_READY_NS = 1_000_000

NAP_NS = 5_000_000
"""How long a wait may last (nanoseconds) before it is published.

A timer that is due before the kernel's next tick (4 ms mostly) would cost as much as all else here.
"""


class ParkedWait(Wait):
    """A wait that a parker sleeps for.

    Attributes:
        parker: What it sleeps on; whoever ends the wait unparks it.
    """

    __slots__ = ("parker",)

    def __init__(
        self,
        agent: Agent,
        resource: Resource,
        parker: LockType,
        timeout_ns: int | None = None,
        code: CodeType | None = None,
        lasti: int = -1,
        *,
        since_ns: int = 0,
    ) -> None:
        since = since_ns or monotonic_ns()
        super().__init__(
            agent, resource, since, None if timeout_ns is None else since + timeout_ns, code, lasti
        )
        self.parker = parker

    def wake(self) -> None:
        """Wake the thread."""
        parking.unpark(self.parker)


def nap(parker: LockType, timeout_ns: int | None) -> bool:
    """Sleep a moment for the permit, before anything is published: most waits are over by then.

    Not in a signal handler or finalizer on top of a wait, which has to give way first.

    Returns:
        True if the permit was taken; False if it has not come so far.
    """
    if agents.current().waits:
        return False
    if timeout_ns is None or timeout_ns > NAP_NS:
        return parker.acquire(True, NAP_NS / 1e9)
    return parking.park(parker, timeout_ns)


@ontop.waits_in
def block(wait: ParkedWait) -> bool:
    """Sleep until ``wait`` is ended by its permit.

    Returns:
        True when the permit came, False when the deadline did.

    Raises:
        DeadlockError: The agent is the victim of a deadlock (what `hooks.error` makes of it).
        BaseException: Whatever a signal handler raised.
    """
    for suspended in wait.agent.waits[::-1]:
        suspended.give_way()  # this runs in a signal handler or finalizer on top of it
    publish(wait)
    try:
        detector.block(wait)
        while True:
            raise_if_victim(wait)
            permit = parking.park(wait.parker, _time_left(wait))
            raise_if_victim(wait)
            if permit:
                return True
            if wait.deadline_ns is not None and monotonic_ns() >= wait.deadline_ns:
                wait.slot.setdefault(VERDICT, TIMED_OUT)
                return False
            wait.recheck_ns = None
            detector.block(wait)
    finally:
        withdraw(wait)


def raise_if_victim(wait: Wait) -> None:
    """Raise the error if ``wait`` was chosen to end a deadlock."""
    verdict = wait.slot.get(VERDICT)
    if isinstance(verdict, Victim):
        while not verdict.ready:
            parking.park(parking.new_parker(), _NOT_READY_NS)
        if not verdict.revoked:
            withdraw(wait)
            raise hooks.error(verdict.finding)


def _time_left(wait: Wait) -> int | None:
    until = wait.recheck_ns if wait.deadline_ns is None else wait.deadline_ns
    return None if until is None else max(0, until - monotonic_ns())
