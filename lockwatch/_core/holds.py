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
    # `with`[, parker])
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


class NoLaterThan(int):
    """A ``SINCE`` of the C twin where it did not look at the clock: the lock was taken no later than this."""

    __slots__ = ()


def is_waiters(hold: Hold | None, parker: object) -> bool:
    """Whether ``hold`` is the one that the waiter with this parker got (its tuple may have been renewed since)."""
    return hold is not None and len(hold) > PARKER and hold[PARKER] is parker
