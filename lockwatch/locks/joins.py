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
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from lockwatch._core import agents, detector, leftovers, ontop, parking, segments
from lockwatch._core.blocking import ParkedWait, block, nap, raise_if_victim
from lockwatch._core.originals import get_ident
from lockwatch._core.waits import ALL, NOBODY, Blockers, Wait, innermost, publish, withdraw
from lockwatch.locks.exitwait import Exit
from lockwatch.locks.machinery import is_machinery

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from lockwatch._core.agents import Agent


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
        """Name the thread. The main thread counts as ended when it waits for the others at interpreter exit."""
        if self.agent.ended:
            return NOBODY
        last = innermost(self.agent) if self.agent.main else None
        if last is not None and last.resource.__class__ is Exit:
            return NOBODY
        return Blockers(ALL, (self.agent,), self.agent)

    def forget_waits(self, survivor: Agent, /) -> None:
        """Nothing is kept here but the joiners, which are in the agent that is gone."""


def agent_of(thread: threading.Thread) -> Agent | None:
    """Return the agent of a thread that runs, if it has one."""
    agent = agents.by_ident.get(thread.ident or 0)
    return agent if agent is not None and agent.thread() is thread else None


def watched_join(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``Thread.join``."""

    def join(self: threading.Thread, timeout: float | None = None) -> None:
        # While the interpreter is finalized no other thread runs, or ends: from 3.14 on the original refuses to wait.
        agent = agent_of(self) if timeout is None and not sys.is_finalizing() else None
        if agent is None or agent.ended or agent is agents.current():
            original(self, timeout)
        elif self is threading.main_thread():
            _wait_in(original, self, agent)
        else:
            _wait_for_end(agent)
            original(self)
        if segments.ATTRIBUTE in self.__dict__ and not self.is_alive():
            segments.joined(self)

    return join


def watched_start(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``Thread.start``: what was done before it cannot deadlock with what the thread does.

    The exception that ends the thread is noted, too, if the thread holds a lock then.
    """

    def start(self: threading.Thread) -> None:
        segments.started(self)
        told: Any = getattr(self, _TELLS, None)
        if told is not None and self.ident is None:
            setattr(self, _TELLS, _noting(told))
        original(self)

    return start


def _noting(invoke: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    """Wrap what ``Thread`` does with an exception that nobody caught: ``threading.excepthook`` may be the program's."""

    def invoke_excepthook(thread: threading.Thread) -> None:
        agent = agents.by_ident.get(get_ident())
        if agent is not None and agent.holds:
            error = sys.exc_info()[1]
            if error is not None:
                leftovers.note_exception(agent, error)
            del error
        invoke(thread)

    return invoke_excepthook


_TELLS = "_invoke_excepthook"


def _caller() -> tuple[CodeType | None, int]:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and is_machinery(frame):
        frame = frame.f_back
    return (None, -1) if frame is None else (frame.f_code, frame.f_lasti)


@ontop.waits_in
def _wait_in(original: Callable[..., None], thread: threading.Thread, agent: Agent) -> None:
    """Join the main thread, which ends for its joiners long before its local storage does: in the original.

    There the wait cannot be woken, so it is a victim only of what it finds itself.
    """
    wait = Wait(agents.current(), ThreadEnd(agent), monotonic_ns(), None, *_caller())
    publish(wait)
    try:
        detector.block(wait)
        wait.raises = False  # first this, then the look: see detector._tell
        raise_if_victim(wait)
        original(thread)
    finally:
        withdraw(wait)


def _wait_for_end(agent: Agent) -> None:
    wait = ParkedWait(agents.current(), ThreadEnd(agent), parking.new_parker(), None, *_caller())
    agent.joiners.append(wait)  # first announce, then look whether it has ended meanwhile
    try:
        if not agent.ended and not nap(wait.parker, None):
            block(wait)
    finally:
        if wait in agent.joiners:
            agent.joiners.remove(wait)
