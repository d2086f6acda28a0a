"""Agents: who can own and wait. Threads here; tasks in `lockwatch._core.tasks`, when asyncio is in use.

Guarantees:
  * One agent per thread, made the first time that the thread uses a watched lock, never keyed by
    ``get_ident()``: an ident is given to the next thread as soon as its thread is gone, and with it would go
    the dead thread's locks.
  * An agent knows that it has ended: its thread's local storage holds a sentinel whose finalizer says so.
    That also covers threads that the ``threading`` module does not know of. What else is in the local storage
    is cleared away in any order, and may run the program's code; so the agent is *dying* for a moment more.
  * Nothing here keeps a ``Thread`` object alive, or makes one.
  * After a fork only the forking thread's agent lives; the others are marked `ended` and `lost_in_fork`.

Assumed atomic, with and without the GIL: one store into or pop from `by_ident`; ``dict.copy``; ``setdefault`` in
a thread's own local dictionary (as against a signal handler that registers the same thread).

Cost: `current` is one look-up in thread-local storage; registration walks to the bottom of the stack once.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from itertools import count

from lockwatch._core.frames import thread_of_this_stack
from lockwatch._core.gone import end_mark, has_vanished, is_gone
from lockwatch._core.holds import AGENT
from lockwatch._core.originals import ThreadLocal, get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from lockwatch._core.chains import Tally
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
        ended: The thread runs nothing more of the program, but what its local storage leaves behind: see `dying`.
        end_mark: By what it can be told that the thread has been cleared away: up to 3.12 the raw lock that the
            interpreter lets go of then, later the path under which the system lists the thread (the handle of
            3.13 is done too early); None for threads that were not started by ``threading``.
        lost_in_fork: It is gone since it did not come along through a fork.
        weight: What its death costs; the lightest party of a deadlock is the victim.
        holds: Every lock that it owns, by the lock's number, in the order taken.
        waits: What it waits for, innermost last.
        joiners: Waits for its end; they are woken by it.
        chains, era: The chains of locks that it was seen to hold, and since when they count (`lockwatch._core.chains`).
        clock: Says which segments of threads exclude each other (`lockwatch._core.segments`), or None.
    """

    __slots__ = (
        "__weakref__",
        "chains",
        "clock",
        "daemon",
        "end_mark",
        "ended",
        "era",
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
        self.weight = _weights.get(thread, 0) if thread is not None and len(_weights) else 0
        self.holds: dict[int, Hold] = make_holds()
        self.waits: list[Wait] = []
        self.joiners: list[Wait] = []
        self.chains: dict[tuple[int, ...], Tally] = {}
        self.era: object = None
        self.clock: Clock | None = None
        self.thread_ref = None if thread is None else weakref.ref(thread)
        self.end_mark: Any = None
        if thread is not None and not isinstance(thread, threading._DummyThread):
            self.end_mark = end_mark(thread, native_id)

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

dying: dict[int, Agent] = {}
"""Agents that have ended, by serial, until their threads are seen to be gone: see `is_dying`."""
MOST_DYING = 16

untold: dict[int, Agent] = {}
"""Agents that have not ended, and whose idents are others' now, by serial."""

families: list[Callable[[], list[Agent]]] = []
"""Each returns the living agents of another kind than threads."""

on_end: list[Callable[[Agent], None]] = []
"""Called with an agent that has just ended, on its dying thread. Must not touch thread-local storage."""

on_dying: list[Callable[[Agent], None]] = []
"""Called with an agent that was found dying when it mattered."""


def _nothing(_agent: Agent) -> None:
    pass


make_holds: Callable[[], dict[int, Hold]] = dict
"""Makes the table of what an agent holds; the C fast path has one of its own."""

end_holds: Callable[[Agent], None] = _nothing
"""Called with an agent that has ended, before anyone else hears of it."""

_weights: weakref.WeakKeyDictionary[threading.Thread, int] = weakref.WeakKeyDictionary()
_local = ThreadLocal()
_process = os.getpid()


class _Sentinel:
    """Lives in a thread's local storage and dies with the thread.

    Nothing else may keep one alive; so it has no ``__init__``, whose frame somebody might keep.
    """

    __slots__ = ("agent",)

    agent: Agent

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not finalizing():
            _ended(self.agent)


def _ended(agent: Agent) -> None:
    if agent.ended and not agent.lost_in_fork:
        return  # that was seen before it was said
    dying[agent.serial] = agent
    agent.ended = True
    end_holds(agent)
    untold.pop(agent.serial, None)
    if by_ident.get(agent.ident) is agent:
        heir = by_ident.pop(agent.ident, None)
        if heir is not None and heir is not agent:  # told late, and the ident has just been given on
            by_ident.setdefault(agent.ident, heir)
    if os.getpid() != _process:  # the threads that a fork left behind are cleared away in the child
        agent.lost_in_fork = True
        return
    for joiner in agent.joiners.copy():
        joiner.wake()
    for callback in on_end:
        callback(agent)
    if len(dying) > MOST_DYING:
        any_dying()  # forgets those that are gone


def is_dying(agent: Agent) -> bool:
    """Whether the thread of an agent that has ended may still run destructors of what was in its local storage."""
    if agent.serial not in dying:
        return False
    if agent.ident != get_ident():
        if not _is_gone(agent):
            return True
    elif agent.native_id == threading.get_native_id():
        return False  # whoever asks as the last thing it does is not to count
    dying.pop(agent.serial, None)
    return False


def any_dying() -> bool:
    """Whether there is a thread, other than this one, that is being cleared away."""
    return bool([agent for agent in dying.copy().values() if is_dying(agent)])  # asks all: some are forgotten


def end_the_vanished() -> None:
    """Do for threads that are gone without a word what they should have done."""
    for agent in (*by_ident.copy().values(), *untold.copy().values()):
        if has_vanished(agent, by_ident.get(agent.ident)):
            _ended(agent)


def may_act_yet(agent: Agent) -> bool:
    """Whether an agent has not ended, or is dying; then those are told who look again when it is gone."""
    if not agent.ended:
        return True
    if not is_dying(agent):
        return False
    for callback in on_dying:
        callback(agent)
    return True


def _is_gone(agent: Agent) -> bool:
    return is_gone(agent, by_ident.get(agent.ident))


def _register() -> Agent:
    ident = get_ident()
    thread = None if ident in internal_idents else thread_of_this_stack(ident)
    native_id = threading.get_native_id()
    before = _agent_before(ident, native_id) if thread is None else None
    agent = before or Agent(ident, native_id, thread)
    storage = _local.__dict__
    claimed: Agent = storage.setdefault("agent", agent)
    if claimed is agent and before is None:
        last = by_ident.get(ident)
        if last is not None and last.end_mark is not None:
            untold[last.serial] = last
        by_ident[ident] = agent
        sentinel = _Sentinel()
        sentinel.agent = agent
        storage["sentinel"] = sentinel
        del sentinel
    del storage  # somebody may keep this frame, and must not keep the sentinel with it
    return claimed


def _agent_before(ident: int, native_id: int) -> Agent | None:
    """Find the agent of a thread whose local storage is being cleared away, and that uses a lock once more."""
    for agent in (by_ident.get(ident), *dying.copy().values()):
        if (
            agent is not None
            and (agent.ident, agent.native_id) == (ident, native_id)
            and agent.end_mark is not None
            and not _is_gone(agent)
        ):
            return agent
    return None


def current() -> Agent:
    """Return the calling thread's agent; the first call in a thread makes it."""
    try:
        return _local.agent  # type: ignore[no-any-return]
    except AttributeError:
        return _register()


def runs(agent: Agent) -> bool:
    """Return whether an agent is a thread that is in no wait. One that is just beginning one is not."""
    return not agent.waits and not agent.ended and agent.kind == "thread"


def living() -> list[Agent]:
    """Return the agents that can still act or be stuck: those of the living threads, less our own."""
    return [
        agent for agent in by_ident.copy().values() if not agent.ended and agent.ident not in internal_idents
    ]


def runs_loop() -> bool:
    """Return whether the calling thread runs an event loop of asyncio, that is, was called by it."""
    loaded = (
        "asyncio.events" in sys.modules
    )  # not get(): without a GIL that locks, and a fork may come between
    running = getattr(sys.modules["asyncio.events"], "_get_running_loop", None) if loaded else None
    return running is not None and running() is not None


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
    dying.clear()
    untold.clear()
    internal_idents.clear()
    _before_fork = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_remember_agents, after_in_parent=_forget_fork, after_in_child=_after_fork_in_child
    )
