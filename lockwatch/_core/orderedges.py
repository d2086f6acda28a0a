"""The evidence for a lock order, and whether a cycle of such orders can become a deadlock.

An edge says that one lock was taken under another; its contexts say by whom, holding what, and when.

A cycle of edges can deadlock only if each can be given a context so that (Goodlock; Bensalem and Havelund)
  * all are of different agents,
  * no two hold a lock in common: such a gate lets only one of them in,
  * no two are ordered by start, join, submit or result (`lockwatch._core.segments`).

Guarantees: pure; keeps no lock, thread or frame alive, only code objects of the places. An edge keeps at most
`MOST` contexts, of as many agents as it can.

Cost: choosing contexts is exponential in the length of the cycle in theory; here each list is short, and
`TRIES` bounds it.
"""

from __future__ import annotations

from itertools import islice

from lockwatch._core.chains import Tally
from lockwatch._core.segments import ordered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import CodeType
    from typing import Any

    from lockwatch._core.segments import Exactness, Moment

MOST = 8
"""Contexts kept of one edge."""

TWINS = 64
"""Contexts that one stands for, of locks that are still there."""

TRIES = 5_000
"""Contexts looked at for one cycle."""

MOST_IMPLIED = 4
"""Ways kept of an edge that is implied by others whose lock is gone."""

LONGEST_WAY = 8
"""Orders in one of them."""


class LockFacts:
    """What is remembered of a lock while an edge names it.

    Attributes:
        key: The lock's number; 0 for one of another run.
        lock_class: The key of its lock class.
        kind, name, created: For reports; ``name`` only if one was given.
        died: The number that a lock made at its death would have had; None while it lives.
    """

    __slots__ = ("created", "died", "key", "kind", "lock_class", "name")

    def __init__(
        self,
        key: int,
        lock_class: LockClass,
        kind: str,
        name: str | None,
        created: tuple[CodeType, int] | None,
    ) -> None:
        self.key = key
        self.lock_class = lock_class
        self.kind = kind
        self.name = name
        self.created = created
        self.died: int | None = None

    def replaces(self, other: LockFacts) -> bool:
        """Return whether one of two locks of one class was gone before the other was made."""
        return (self.died is not None and self.died < other.key) or (
            other.died is not None and other.died < self.key
        )


class LockClass:
    """All locks made at one place, or given one name.

    Attributes:
        key: The name, or (id of the code object, instruction, kind of lock).
        created: The place, which also keeps the code object, and so its id.
        named: Whether the class is a name.
        nested: Whether one agent was seen to hold several of its locks at a time: they have an order among
            themselves, so one does not stand for another.
        alive: How many of its locks that were nested live; about.
        crowded: Whether that was ever more than one: what a factory makes has many uses.
    """

    __slots__ = ("alive", "created", "crowded", "key", "named", "nested")

    def __init__(self, key: Any, created: tuple[CodeType, int] | None, named: bool) -> None:
        self.key = key
        self.created = created
        self.named = named
        self.nested = False
        self.alive = 0
        self.crowded = False

    def born(self) -> None:
        """Note that a lock of the class is known."""
        self.alive += 1
        if self.alive > 1:
            self.crowded = True


class Context:
    """One time that an agent took a lock while it held another.

    Attributes:
        agent: The agent's number; 0 for an order that was declared or comes from another run.
        label, kind: What it was called.
        ident, native_id, daemon: Of the thread.
        gates: The locks (or their classes) that it held then, or whoever started it held for it.
        owned: For each of them, which ownership of it that was: two threads that were started under one and the
            same do not exclude each other by it.
        moment: The segment it was in last; None for one that may be at any time. Of segments of one agent that
            differ in nothing but that, the last one is the least ordered.
        episode: The test that it was part of, if any: who acts and what came first says nothing about two tests,
            which show what the program does, not when.
        outer, inner: The two locks.
        held_at, taken_at: Where it had taken the first, and took the second: (code object, instruction).
        held_how: Whether it took the first by ``with``.
        since_ns: When it took the second, on the monotonic clock.
        stack: The frames that took the second, innermost first.
        tally: How often it was done; counted by all who do the same.
        twins: The tallies of others that this one stands for, and that may still be counted.
        exact: Its clock's (`Clock <lockwatch._core.segments>`), which it does not keep.
    """

    __slots__ = (
        "_last",
        "_moment",
        "agent",
        "daemon",
        "episode",
        "exact",
        "gates",
        "held_at",
        "held_how",
        "ident",
        "inner",
        "kind",
        "label",
        "native_id",
        "outer",
        "owned",
        "since_ns",
        "stack",
        "taken_at",
        "tally",
        "twins",
    )

    def __init__(
        self,
        *,
        agent: int,
        label: str,
        outer: LockFacts,
        inner: LockFacts,
        owned: Mapping[Any, object] | None = None,
        moment: Moment | None = None,
        episode: str | None = None,
        exact: Exactness | None = None,
        kind: str = "thread",
        ident: int = 0,
        native_id: int = 0,
        daemon: bool | None = None,
        held_at: tuple[CodeType, int] | None = None,
        taken_at: tuple[CodeType, int] | None = None,
        held_how: bool = False,
        since_ns: int = 0,
        stack: tuple[tuple[CodeType, int], ...] = (),
        tally: Tally | None = None,
    ) -> None:
        self.agent, self.label, self.kind = agent, label, kind
        self.ident, self.native_id, self.daemon = ident, native_id, daemon
        self.owned = owned if owned is not None else {}
        self.gates, self._moment = frozenset(self.owned), moment
        self.outer, self.inner = outer, inner
        self.episode, self.exact = episode, exact
        self.held_at, self.taken_at, self.held_how = held_at, taken_at, held_how
        self.since_ns, self.stack = since_ns, stack
        self.tally = Tally() if tally is None else tally
        self.twins: tuple[Tally, ...] = ()
        self._last = 0

    def stand_for(self, other: Context) -> None:
        """Take in another one that says no more, with all that will be counted for it."""
        mine, others = self._moment, other._moment
        if mine is None or others is None:
            return
        if mine[0] != others[0] or mine[2] is not others[2] or self.gates != other.gates:
            other.drop()
            return
        twins = [*self.twins, other.tally, *other.twins]
        if len(twins) > TWINS:
            over = [tally.last() for tally in twins if tally.is_final()]
            self._last = max([self._last, *over])
            twins = [tally for tally in twins if not tally.is_final()]
        if len(twins) > TWINS:
            other.drop()
            return
        self._last = max(self._last, other._last)
        self.twins = tuple(twins)

    def drop(self) -> None:
        """Have its agent's chains looked at in every segment: what it stands for is not recorded, or dangerous."""
        if self.exact is not None:
            self.exact.look_closely()

    @property
    def moment(self) -> Moment | None:
        """See the class: whoever knows the chain writes down in which segment it was had, and nothing else."""
        moment = self._moment
        if moment is None:
            return None
        last = max([self._last, self.tally.last(), *[tally.last() for tally in self.twins]])
        return moment if last <= moment[1] else (moment[0], last, moment[2])

    def excludes(self, other: Context, *, timeless: bool = False) -> bool:
        """Return whether the two cannot be at the same time in the places where they would block each other.

        With ``timeless``, in whatever segments they are.
        """
        apart = None not in (self.episode, other.episode) and self.episode != other.episode
        if self.agent == other.agent and self.agent and not apart:
            return True
        for gate in self.gates & other.gates:
            if self.owned[gate] != other.owned[gate] or self.owned[gate] is None:
                return True
        if apart or timeless:
            return False
        mine, others = self.moment, other.moment
        return mine is not None and others is not None and ordered(mine, others)


class Edge:
    """An order of two locks, or lock classes: the second was taken under the first.

    Attributes:
        contexts: Some of the times, first seen first.
        implied: Where the locks in between are gone: for some of the ways how each of their orders was seen.
        refused: Whether it contradicts the order known before, and so is not in the graph.
    """

    __slots__ = ("contexts", "implied", "refused", "tallies")

    def __init__(self) -> None:
        self.contexts: list[Context] = []
        self.implied: list[tuple[Context, ...]] = []
        self.refused = False
        self.tallies: dict[int, Tally] = {}

    def count(self) -> int:
        """Return how often it was seen; about, as nothing is locked for it."""
        return sum(tally.total() for tally in self.tallies.values())

    def ways(self) -> list[tuple[Context, ...]]:
        """Return what can be chosen for this edge in a cycle: one context, or one for each order that implied it."""
        return [(context,) for context in self.contexts] + self.implied

    def through(self, other: Edge) -> list[tuple[Context, ...]]:
        """Return the ways from this edge's first lock to the second of ``other``, which begins where this one ends.

        Only those whose contexts can all be at the same time: no others can be a part of a deadlock.
        """
        found = (
            (*before, *after)
            for before in self.ways()[:MOST_IMPLIED]
            for after in other.ways()[:MOST_IMPLIED]
            if len(before) + len(after) <= LONGEST_WAY
            and not any(one.excludes(two) for one in before for two in after)
        )
        return list(islice(found, MOST_IMPLIED))

    def learn(self, context: Context) -> bool:
        """Add a context, unless one says the same; return whether it was added."""
        if len(self.tallies) < MOST:
            self.tallies[id(context.tally)] = context.tally
        same = []
        moment = context.moment
        for known in self.contexts:
            if (known.agent, known.episode) == (
                context.agent,
                context.episode,
            ) and known.gates <= context.gates:
                since = known.moment
                if since is None or (moment is not None and since[:2] == moment[:2]):
                    known.stand_for(context)
                    return False
                same.append(known)
        if len(same) > 1:
            self.contexts.remove(same[-1])  # of one agent the first time and the last one
            context.stand_for(same[-1])
        elif len(self.contexts) >= MOST:
            self.contexts.pop(MOST // 2).drop()
        self.contexts.append(context)
        return True


def choose(edges: Sequence[Edge], fixed: Context, *, timeless: bool = False) -> list[Context] | None:
    """Choose a context for each edge of a cycle so that all can be at the same time.

    Args:
        edges: The edges, in the cycle's order; the first one's context is ``fixed``.
        fixed: The context that is new.
        timeless: Whether to leave the segments out of account.

    Returns:
        One context for each edge, more for one that is implied; or None if there is no such choice (or none was
        found in time).
    """
    chosen = [fixed]
    tries = TRIES

    def extend(number: int) -> bool:
        nonlocal tries
        if number == len(edges):
            return True
        for way in edges[number].ways():
            tries -= 1
            if tries < 0:
                return False
            if not any(context.excludes(other, timeless=timeless) for context in way for other in chosen):
                chosen.extend(way)
                if extend(number + 1):
                    return True
                del chosen[-len(way) :]
        return False

    return chosen if extend(1) else None


def stands_for_locks(contexts: Sequence[Context]) -> bool:
    """Return whether a cycle of lock classes would also be one of locks.

    The lock that one party holds and the lock of that class that another wants must be able to be the same
    one: they are; or they have one name; or the one was gone before the other came, and so it was with all
    locks of the class; or the pairs were made alike, as two attributes are that one class makes for each of its
    objects. Locks of a class that were seen nested have an order of their own: none stands for another.
    """
    alike = sum(context.inner.key - context.outer.key for context in contexts) == 0 and all(
        context.outer.created is not None
        and context.inner.created is not None
        and context.outer.created[0] is context.inner.created[0]
        and context.outer.created[1] != context.inner.created[1]  # one place that makes both is a factory
        for context in contexts
    )
    for context, other in zip(contexts, [*contexts[1:], contexts[0]], strict=True):
        wanted, held = context.inner, other.outer
        if wanted.key == held.key and wanted.key:
            continue
        if not (wanted.key and held.key):
            continue  # of another run, or declared
        lock_class = wanted.lock_class
        if wanted.replaces(held) and (lock_class.named or not lock_class.crowded):
            continue
        if lock_class.nested:
            return False
        if not (lock_class.named or alike):
            return False
    return True
