"""Agents: who can own and wait. Threads here; tasks in `lockwatch._core.tasks`, when asyncio is in use.

Guarantees:
  * One agent per thread, made the first time that the thread uses a watched lock, never keyed by
    ``get_ident()``: an ident is given to the next thread as soon as its thread is gone, and with it would go
    the dead thread's locks.
  * An agent knows that it has ended: its thread's local storage holds a sentinel whose finalizer says so.
    That also covers threads that the ``threading`` module does not know of.
  * Nothing here keeps a ``Thread`` object alive, or makes one (``threading.current_thread()`` would).
  * After a fork only the forking thread's agent lives; the others are marked `ended` and `lost_in_fork`.

Assumed atomic, with and without the GIL: one store into or pop from `by_ident`; ``dict.copy``; ``setdefault``
    in a thread's
own local dictionary (as against a signal handler that registers the same thread).

Cost: `current` is one look-up in thread-local storage; registration walks to the bottom of the stack once per
    thread.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from itertools import count

from lockwatch._core.holds import AGENT
from lockwatch._core.originals import ThreadLocal, get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from lockwatch._core.holds import Hold
    from lockwatch._core.segments import Clock
    from lockwatch._core.waits import Wait

_serials = count(1)


class Agent:
    """A thread as an owner and waiter of locks.

    Attributes:
        serial: Its number, never given twice in one process.
        kind: "thread".
        ident, native_id: Of the thread. ``ident`` is recycled when the thread has ended.
        name: The thread's name when the agent was made; `label` gives today's.
        daemon: Whether the thread is one; None where ``threading`` does not know it.
        main: Whether it is the main thread: the only one that runs signal handlers.
        ended: The thread is gone. An agent that has ended never acts again.
        lost_in_fork: It is gone since it did not come along through a fork.
        weight: What its death costs; the lightest party of a deadlock is the victim.
        holds: Every lock that it owns, by the lock's number, in the order taken.
        waits: What it waits for, innermost last.
        joiners: Waits for its end; they are woken by it.
        chains: The chains of locks that it was seen to hold in this segment (`lockwatch._core.lockorder`).
        clock: Says which segments of threads exclude each other (`lockwatch._core.segments`), or None.
    """

    __slots__ = (
        "__weakref__",
        "chains",
        "clock",
        "daemon",
        "ended",
        "holds",
        "ident",
        "joiners",
        "kind",
        "lost_in_fork",
        "main",
        "name",
        "native_id",
        "serial",
        "thread_ref",
        "waits",
        "weight",
    )

    def __init__(self, ident: int, native_id: int, thread: threading.Thread | None) -> None:
        self.serial = next(_serials)
        self.kind = "thread"
        self.ident = ident
        self.native_id = native_id
        self.name: str = getattr(thread, "_name", None) or f"thread {ident}"
        self.daemon: bool | None = None if thread is None else bool(getattr(thread, "_daemonic", False))
        self.main = thread is not None and thread is threading.main_thread()
        self.ended = False
        self.lost_in_fork = False
        self.weight = _weights.get(thread, 0) if thread is not None else 0
        self.holds: dict[int, Hold] = {}
        self.waits: list[Wait] = []
        self.joiners: list[Wait] = []
        self.chains: dict[tuple[int, ...], list[int]] = {}
        self.clock: Clock | None = None
        self.thread_ref = None if thread is None else weakref.ref(thread)

    def thread(self) -> threading.Thread | None:
        """Return the ``Thread`` object, if there is one and it is still alive as an object."""
        if self.thread_ref is not None:
            return self.thread_ref()
        return None

    def innermost(self) -> Wait | None:
        """Return what it waits for right now, or None."""
        try:
            return self.waits[-1]
        except IndexError:
            return None

    def runner(self) -> Agent | None:
        """Return the thread that a task runs in; None for a thread."""
        return None

    def coroutine_frames(self) -> list[FrameType]:
        """Return the frames of the coroutines that a task stands in, outermost first; none for a thread."""
        return []

    def label(self) -> str:
        """Return the thread's name as it is now, as far as it is known."""
        thread = self.thread()
        return (getattr(thread, "_name", None) if thread is not None else None) or self.name

    def __repr__(self) -> str:
        return f"<Agent {self.serial} {self.label()!r}{' ended' if self.ended else ''}>"


by_ident: dict[int, Agent] = {}
"""The agents of the living threads."""

lost: dict[int, Agent] = {}
"""In the child after a fork: the agents of the threads that did not come along, by the idents they had."""

internal_idents: set[int] = set()
"""Threads of our own: they are not part of the program and don't count as awake."""

ending_idents: set[int] = set()
"""Threads that are running the callbacks of `on_end` right now: they do nothing else any more."""

families: list[Callable[[], list[Agent]]] = []
"""Each returns the living agents of another kind than threads."""

on_end: list[Callable[[Agent], None]] = []
"""Called with an agent that has just ended, on its dying thread. Must not touch thread-local storage."""

_weights: weakref.WeakKeyDictionary[threading.Thread, int] = weakref.WeakKeyDictionary()
_local = ThreadLocal()
_process = os.getpid()


class _Sentinel:
    """Lives in a thread's local storage and dies with the thread."""

    __slots__ = ("agent",)

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not finalizing():
            _ended(self.agent)


def _ended(agent: Agent) -> None:
    agent.ended = True
    if by_ident.get(agent.ident) is agent:
        by_ident.pop(agent.ident, None)
    if os.getpid() != _process:  # the threads that a fork left behind are cleared away in the child
        agent.lost_in_fork = True
        return
    for joiner in agent.joiners.copy():
        joiner.wake()
    ending_idents.add(agent.ident)
    try:
        for callback in on_end:
            callback(agent)
    finally:
        ending_idents.discard(agent.ident)


def _thread_of_this_stack(ident: int) -> threading.Thread | None:
    """Find the current ``Thread`` without making one: it is not in ``threading._active`` while it starts."""
    thread = threading._active.get(ident)  # type: ignore[attr-defined]
    if thread is not None:
        return thread  # type: ignore[no-any-return]
    frame = sys._getframe(1)
    while frame.f_back is not None:
        if frame.f_code.co_name == "_bootstrap_inner" and frame.f_globals is threading.__dict__:
            candidate = frame.f_locals.get("self")
            return candidate if isinstance(candidate, threading.Thread) else None
        frame = frame.f_back
    return None


def _register() -> Agent:
    ident = get_ident()
    thread = None if ident in internal_idents else _thread_of_this_stack(ident)
    agent = Agent(ident, threading.get_native_id(), thread)
    storage = _local.__dict__
    claimed: Agent = storage.setdefault("agent", agent)
    if claimed is agent:
        by_ident[ident] = agent
        storage["sentinel"] = _Sentinel(agent)
    return claimed


def current() -> Agent:
    """Return the calling thread's agent; the first call in a thread makes it."""
    try:
        return _local.agent  # type: ignore[no-any-return]
    except AttributeError:
        return _register()


def living() -> list[Agent]:
    """Return the agents that can still act or be stuck: those of the living threads, less our own."""
    return [
        agent for agent in by_ident.copy().values() if not agent.ended and agent.ident not in internal_idents
    ]


acting: Callable[[], Agent] = current
"""Returns the agent that acts: the task that runs, where one does, else the thread's."""


def _owner(_wait: Wait, hold: Hold) -> Agent:
    agent: Agent = hold[AGENT]
    return agent


responsible: Callable[[Wait, Hold], Agent] = _owner
"""Says who is to release a lock that somebody waits for: its owner, or a task that holds it in its thread's name."""


def others() -> list[Agent]:
    """Return the living agents that are no threads: tasks."""
    return [agent for family in families for agent in family() if not agent.ended]


def mark_internal() -> None:
    """Declare the calling thread one of lockwatch's own."""
    internal_idents.add(get_ident())


def set_thread_weight(thread: threading.Thread, weight: int) -> None:
    """Set the deadlock weight of a thread that may not have started yet."""
    _weights[thread] = weight
    for agent in living():
        if agent.thread() is thread:
            agent.weight = weight


_before_fork: dict[int, Agent] = {}


def _remember_agents() -> None:
    global _before_fork
    _before_fork = by_ident.copy()


def _forget_fork() -> None:
    global _before_fork
    _before_fork = {}


def _after_fork_in_child() -> None:
    """Keep the forking thread; the others are gone, their waits with them, what they held stays held for ever."""
    global _process, _before_fork
    _process = os.getpid()
    me = current()
    me.native_id = threading.get_native_id()
    me.main = True  # CPython makes the forking thread the main one
    for agent in _before_fork.values():
        if agent is me:
            continue
        agent.ended = agent.lost_in_fork = True
        lost[agent.ident] = agent
        for wait in agent.waits:
            wait.resource.forget_waits(me)
        agent.waits.clear()
    by_ident.clear()
    by_ident[me.ident] = me
    internal_idents.clear()
    _before_fork = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_remember_agents, after_in_parent=_forget_fork, after_in_child=_after_fork_in_child
    )
