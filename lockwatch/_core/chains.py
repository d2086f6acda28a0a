"""What an agent remembers of the chains of locks that it has had: which were looked at, and how often each was had.

A chain is the locks that an agent holds, in the order taken. `lockorder` looks at each once in every *era* of its
agent, as far as the allowance goes (`looks`). A new era begins where what was seen before says nothing of what comes (a
thread was started, a result taken).

Guarantees: at most `MOST_CHAINS` for each agent, and few with locks that are gone.

Assumes: only the agent itself, or whoever works for it, remembers; anybody may begin an era, by one store. No lock is
needed, with and without the GIL.
"""

from __future__ import annotations

import sys
from itertools import islice

from lockwatch._core import agents, looks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lockwatch._core.agents import Agent
    from lockwatch._core.orderedges import LockFacts

    Chain = tuple[int, ...]

FEW_CHAINS, MOST_CHAINS = 256, 4_096
"""Chains that one agent remembers: as many with locks that are gone, and in all."""

DEEPEST = 64
"""Locks in a chain that is looked at (lockdep: 48); each costs a look at every other."""

PASSED_OVER_FOR = 256
"""How often a chain that was not looked at counts as known, until it is asked for again; C counts all together."""


class Tally:
    """How often one agent had one chain of locks, in one era; about, as nobody waits to count.

    Attributes:
        locks: The locks of the chain, as far as they take part in lock order.
        era: The agent's era in which it was looked at.
        count: What was counted in Python.
        segment: In which segment it was counted in Python last; 0 for the one in which it was seen first.
        native: The same two of the twin in C, which writes them in place, eight bytes each; None if it did not count.
        passed_over: Whether the chain was not looked at.
    """

    __slots__ = ("count", "era", "locks", "native", "passed_over", "segment")

    def __init__(self, locks: tuple[LockFacts, ...] = ()) -> None:
        self.locks = locks
        self.era: object = None
        self.count = 1
        self.segment = 0
        self.native: bytearray | None = None
        self.passed_over = False

    def again(self, segment: int) -> None:
        """Count it once more."""
        self.count += 1
        self.segment = segment

    def total(self) -> int:
        """Return how often it was counted."""
        return self.count + (int.from_bytes(self.native[:8], sys.byteorder) if self.native else 0)

    def last(self) -> int:
        """Return in which segment it was counted last, if that is not the first."""
        return max(self.segment, int.from_bytes(self.native[8:], sys.byteorder) if self.native else 0)

    def is_final(self) -> bool:
        """Return whether it will not be counted again, as one of the locks is gone."""
        return any(lock.died is not None for lock in self.locks)


def known(agent: Agent, chain: Chain) -> Tally | None:
    """Return the counter of a chain that need not be looked at in the present era."""
    tally = agent.chains.get(chain)
    if tally is None or tally.era is not agent.era or (tally.passed_over and tally.count > PASSED_OVER_FOR):
        return None
    return tally


def remember(agent: Agent, chain: Chain, tally: Tally, era: object) -> None:
    """Remember a chain that was looked at in ``era``.

    When they have doubled, those with locks that are gone and those passed over are forgotten; at the limit those seen
    first.
    """
    tally.era = era
    chains = agent.chains
    before = len(chains)
    doubled = chains.get(())  # no chain of locks: its count says when they have doubled
    if before >= (FEW_CHAINS if doubled is None else doubled.count):
        for chain_before, old in chains.copy().items():
            if old.passed_over or old.is_final():
                chains.pop(chain_before, None)
        doubled = chains[()] = Tally()
        doubled.count = max(FEW_CHAINS, 2 * len(chains))
    if len(chains) >= MOST_CHAINS:
        for first in list(islice(chains.copy(), MOST_CHAINS // 4)):
            chains.pop(first, None)
    if len(chains) < before:
        _forget_native(agent)  # what is still here it learns again from here
    chains[chain] = tally


def pass_over(agent: Agent, chain: Chain) -> None:
    """Remember a chain that is not looked at now."""
    tally = Tally()
    tally.passed_over = True
    remember(agent, chain, tally, agent.era)


def new_era(agent: Agent) -> None:
    """Let every chain of locks that the agent has from now on be looked at again.

    While there is no look left, the twin in C leaves known what it knows for a while: it would only hear that it is
    passed over.
    """
    if agent.chains:
        agent.era = object()
        if looks.known.is_used_up():
            record: Any = getattr(agent.holds, "record", None)
            if record is not None:
                record.rest()
        else:
            _forget_native(agent)


def forget(agent: Agent) -> None:
    """Forget all chains that the agent has had."""
    agent.era = object()
    agent.chains = {}
    _forget_native(agent)


def forget_all() -> None:
    """Forget all chains that anybody has had, and that there were any."""
    looks.reset()
    for agent in agents.living() + agents.others():
        forget(agent)


def _forget_native(agent: Agent) -> None:
    record: Any = getattr(agent.holds, "record", None)
    if record is not None:
        record.forget_chains()
