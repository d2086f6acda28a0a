"""Who has put into a queue and who has taken from it so far: named in the report of who waits for it.

They decide nothing: anybody may put something in. But where a queue stays empty, its producer has often died.

Guarantees: at most `MOST` are remembered for each side of a queue, those that came last; threads are not kept alive.

Cost: two attribute look-ups and a comparison for each ``put`` and ``get`` of a thread that was the last to do so; some
0.2 us when another one was.

Assumed atomic: one store into, or pop from, a dictionary; one attribute store. Of two threads that are the first to use
a queue, at the very same time, one may not be remembered until its next turn.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from lockwatch._core import agents
from lockwatch._core.agents import _local

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockwatch._core.agents import Agent

MOST = 8
PRODUCERS = "_lockwatch_producers"
CONSUMERS = "_lockwatch_consumers"


def watched_put(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``Queue.put`` to note who puts something in."""

    @wraps(original)
    def put(self: Any, item: Any, block: bool = True, timeout: float | None = None) -> None:
        try:
            if self._lockwatch_producer is not _local.agent:
                self._lockwatch_producer = _note(self, PRODUCERS)
        except AttributeError:
            self._lockwatch_producer = _note(self, PRODUCERS)
        original(self, item, block, timeout)

    return put


def watched_get(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Queue.get`` to note who takes something out."""

    @wraps(original)
    def get(self: Any, block: bool = True, timeout: float | None = None) -> Any:
        try:
            if self._lockwatch_consumer is not _local.agent:
                self._lockwatch_consumer = _note(self, CONSUMERS)
        except AttributeError:
            self._lockwatch_consumer = _note(self, CONSUMERS)
        return original(self, block, timeout)

    return get


def _note(queue: Any, side: str) -> Agent:
    me = agents.current()
    users: dict[Agent, None] | None = getattr(queue, side, None)
    if users is None:
        users = {}
        setattr(queue, side, users)  # an object whose `__dict__` was asked for is slower ever after
    users.pop(me, None)
    users[me] = None
    if len(users) > MOST:
        users.pop(next(iter(users.copy())), None)
    return me


def users_of(queue: Any, side: str, but: Agent) -> tuple[Agent, ...]:
    """Return the agents other than ``but`` on one side of a queue, the last ones, oldest first."""
    users: dict[Agent, None] = getattr(queue, side, {}).copy()
    return tuple(agent for agent in users if agent is not but)
