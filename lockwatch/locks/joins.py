"""``Thread.join`` as a wait for that thread's agent.

The C level join cannot be woken for a victim, so the waiting is done on a parker that the thread's end wakes
(`lockwatch._core.agents`: the sentinel in its local storage); what little is left of the thread then, the
original join waits for. No polling.

A thread that never used a watched lock has no agent: its join is left as it is, and counts as able to end.
(Under `install()` every thread that is started uses one: its own "started" event.)
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from lockwatch._core import agents, blocking, parking
from lockwatch._core.waits import ALL, NOBODY, Blockers
from lockwatch.locks.machinery import is_machinery

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockwatch._core.agents import Agent
    from lockwatch._core.waits import Wait


class ThreadEnd:
    """The end of a thread, as a resource: only that thread can bring it about."""

    __slots__ = ("agent",)

    kind = "end of thread"
    lock_class = "end of thread"

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    @property
    def name(self) -> str:
        """The thread's name."""
        return self.agent.label()

    def blockers(self, _wait: Wait, /) -> Blockers:
        """Name the thread."""
        return NOBODY if self.agent.ended else Blockers(ALL, (self.agent,), self.agent)

    def forget_waits(self, survivor: Agent, /) -> None:
        """Nothing is kept here but the joiners, which are in the agent that is gone."""


def agent_of(thread: threading.Thread) -> Agent | None:
    """Return the agent of a thread that runs, if it has one."""
    agent = agents.by_ident.get(thread.ident or 0)
    return agent if agent is not None and agent.thread() is thread else None


def watched_join(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``Thread.join``."""

    def join(self: threading.Thread, timeout: float | None = None) -> None:
        if timeout is None and self is not threading.main_thread():
            agent = agent_of(self)
            if agent is not None and not agent.ended and agent is not agents.current():
                _wait_for_end(agent)
        original(self, timeout)

    return join


def _wait_for_end(agent: Agent) -> None:
    frame: Any = sys._getframe(2)
    while frame is not None and is_machinery(frame):
        frame = frame.f_back
    code, lasti = (None, -1) if frame is None else (frame.f_code, frame.f_lasti)
    wait = blocking.ParkedWait(agents.current(), ThreadEnd(agent), parking.new_parker(), None, code, lasti)
    agent.joiners.append(wait)  # first announce, then look whether it has ended meanwhile
    try:
        if not agent.ended:
            blocking.block(wait)
    finally:
        if wait in agent.joiners:
            agent.joiners.remove(wait)
