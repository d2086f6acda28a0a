"""How much lock order may cost: which chains of locks are worth a look, and how many looks there are.

A look takes 50 to 100 us for each lock held, and a program can have a new chain with each acquire: locks of new
objects, one pool's work after the other. Each *class* of chains (which classes of locks, in which order) is looked at
`FREE` times whatever it costs, and once more for each of `AGENTS` agents; all others take from an allowance, and are
passed over when it is used up. So what a program does is seen; what it does to its ten thousandth object, perhaps.
(Linux lockdep looks at classes alone; the allowance is what is left here for the orders of single locks.)

Guarantees: some 0.5 % of one core for chains of known classes, and 2 % for those of new ones (there are few, unless
each lock has a name of its own), once the first thousands are used up. Nothing is reported because of a chain that was
passed over.

Assumes: nothing. Threads that take from an allowance at once may get one look for two, or two for one.

Cost: about 2 us, for chains that are not known.
"""

from __future__ import annotations

from time import monotonic_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FREE = 32
"""Looks at each class of chains that are always taken."""

AGENTS = 8
"""Agents of which one look at each class of chains is taken; as many as an order keeps evidence of."""

CLASSES = 10_000
"""Classes of chains that are counted; then counting begins anew."""


class Allowance:
    """A token bucket.

    Args:
        most: How many looks it holds; full at first.
        per_second: How many are added each second.
    """

    __slots__ = ("_filled_ns", "_left", "most", "per_second")

    def __init__(self, most: int, per_second: int) -> None:
        self.most = most
        self.per_second = per_second
        self._left = 0.0
        self._filled_ns = 0  # long ago

    def refill(self) -> None:
        """Make it full."""
        self._filled_ns = 0

    def take(self, looks: int = 1) -> bool:
        """Take some looks, if there is one at least (more than there are count as all); return whether there was."""
        now = monotonic_ns()
        left = self._at(now)
        self._filled_ns = now
        self._left = max(0.0, left - looks) if left >= 1 else left
        return left >= 1

    def is_used_up(self) -> bool:
        """Return whether there is none to take now."""
        return self._at(monotonic_ns()) < 1

    def _at(self, now_ns: int) -> float:
        if not self._filled_ns:
            return self.most
        return min(self.most, self._left + (now_ns - self._filled_ns) * self.per_second / 1e9)


known = Allowance(2_000, 50)
"""For chains whose class is known."""

new = Allowance(20_000, 200)
"""For the first looks at each class."""


class _Seen:
    """The looks at one class of chains."""

    __slots__ = ("agents", "count")

    def __init__(self) -> None:
        self.count = 0
        self.agents: set[int] = set()


_seen: dict[tuple[Any, ...], _Seen] = {}


def wanted(agent: int, classes: tuple[Any, ...]) -> bool:
    """Return whether to look at a chain now, and count that.

    Args:
        agent: The number of the agent that has it.
        classes: The classes of its locks, in the order taken.
    """
    seen = _seen.get(classes)
    if seen is None:
        if len(_seen) >= CLASSES:
            _seen.clear()
        seen = _seen.setdefault(classes, _Seen())
    first = len(seen.agents) < AGENTS and agent not in seen.agents
    held = len(classes) - 1
    if not ((first or seen.count < FREE) and new.take(held)) and not known.take(held):
        return False
    seen.count += 1
    if first:
        seen.agents.add(agent)
    return True


def reset() -> None:
    """Count anew, as if nothing had been seen."""
    _seen.clear()
