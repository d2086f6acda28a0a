"""The hold: one agent's ownership of one lock, from acquire to release.

A hold is a plain tuple, because it is made on the fast path and *is* the value that the compare-and-swap
stores: whoever reads a lock's state sees the owner, the place and the time together, never half of them
    (DESIGN section 3, "one
compare-and-swap and a few stores"). A tuple made for one acquisition is never used for another, so the
identity of the tuple is the hold's serial number: the same object seen twice means that nobody released the
lock in between (no ABA).

The lock stands in it as a weak reference: an agent's table of holds must not keep a lock alive that the
    program dropped.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    # (agent, weak reference to the lock, code object, index of the instruction, monotonic ns, True for
    # `with`[, parker, [monotonic ns]])
    Hold: TypeAlias = tuple[Any, ...]
else:
    Hold = tuple

AGENT = 0
LOCK = 1
CODE = 2
LASTI = 3
SINCE = 4
HOW = 5
PARKER = 6
"""Only in holds that came out of the slow path: the parker of the waiter that got the lock."""
TAKEN = 7
"""Only in these: a list with the time at which the waiter got the lock (``SINCE`` is when it began to wait), or 0."""


class NoLaterThan(int):
    """A ``SINCE`` of the C twin where it did not look at the clock: the lock was taken no later than this."""

    __slots__ = ()


def is_waiters(hold: Hold | None, parker: object) -> bool:
    """Whether ``hold`` is the one that the waiter with this parker got."""
    return hold is not None and len(hold) > PARKER and hold[PARKER] is parker


def taken_ns(hold: Hold) -> int:
    """Return when the lock was taken, on the monotonic clock, in nanoseconds."""
    since: int = hold[SINCE]
    return since if len(hold) <= TAKEN else hold[TAKEN][0] or since
