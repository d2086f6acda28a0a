"""The uncontended lock, in C or in Python: this is the only module that chooses.

The twins behave the same: `lockwatch._core.twin` is the reference, ``_fastpath.c`` the fast one. The one in C runs if
it was built (a C compiler was there when lockwatch was installed), unless ``LOCKWATCH_PURE=1`` is set, and if it
finds the call sites that ``sys._getframe()`` finds. Both use the slow path of `lockwatch._core.mutex`.

What differs, apart from the cost: the C twin does not look at the clock each time while a thread takes locks in quick
succession. A hold without a time says since when it has been looked at (`lockwatch._core.holds.NoLaterThan`), which is
no later than its agent's present wait began.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from queue import Empty
from types import MethodDescriptorType

from lockwatch._core import agents, frames, hooks, leftovers, lockorder, mutexbase
from lockwatch._core.handover import release_slow, wake_next
from lockwatch._core.holds import NoLaterThan
from lockwatch._core.mutex import Waiter, acquire_slow
from lockwatch._core.mutexbase import MutexMethods
from lockwatch._core.timeouts import check_timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from lockwatch._core.agents import Agent

    _Class = TypeVar("_Class", bound=type)


def _load() -> str:
    """Load the C twin into `_fastpath`; return why not, or an empty string."""
    global _fastpath
    if os.environ.get("LOCKWATCH_PURE", "") not in {"", "0"}:
        return "LOCKWATCH_PURE is set"
    if sys.implementation.name != "cpython":
        return f"not for {sys.implementation.name}"
    try:
        import lockwatch._core._fastpath  # noqa: F401 - taken from sys.modules below
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError):
            return "it was not built (no C compiler when lockwatch was installed?)"
        return f"it cannot be loaded: {error}"
    module: Any = sys.modules["lockwatch._core._fastpath"]
    frame = sys._getframe()
    before = frame.f_lasti
    code, lasti = module.where()
    if code is not frame.f_code or not before < lasti < frame.f_lasti:
        return "frames of this interpreter are not what it was made for"
    _fastpath = module
    return ""


__all__ = [
    "IMPLEMENTATION",
    "REASON",
    "MutexBase",
    "PlainMutex",
    "RecursiveMutex",
    "know_machinery",
    "specialise_queue",
    "specialise_turns",
    "specialised",
]

_fastpath: Any = None
REASON = _load()
"""Why the Python twin runs; empty if the C twin does."""

IMPLEMENTATION = "python" if REASON else "c"
"""Which twin runs: "c" or "python"."""


def _record_for() -> tuple[Agent, Any]:
    """Return the calling thread's agent and the C twin's record of what it holds."""
    agent = agents.current()
    record = getattr(agent.holds, "record", None)
    if record is None:  # made before this module was loaded
        agent.holds = agents.make_holds()
        record = agent.holds.record  # type: ignore[attr-defined]
    return agent, record


def _end(agent: Agent) -> None:
    """Turn what an ended agent still holds into holds that last."""
    record = getattr(agent.holds, "record", None)
    if record is not None:
        record.end()


if TYPE_CHECKING or _fastpath is None:
    from lockwatch._core.mutexbase import MutexBase
    from lockwatch._core.twin import PlainMutex, RecursiveMutex

    def specialised(cls: _Class) -> _Class:
        """Give a class of locks that is final the methods of the fast path as its own: faster in C."""
        return cls

    def specialise_turns(cls: _Class) -> _Class:
        """Give the class of semaphores' turns the methods that are faster in C."""
        return cls

    def specialise_queue(_cls: type, _original: type) -> None:
        """Give a class of simple queues the methods of the fast path, which call those of the original in C."""

    def know_machinery(_known: dict[str, bool]) -> None:
        """Take the table of the modules that make locks for their callers: name -> whether."""

else:
    from lockwatch._core.heldtable import HeldTable

    _fastpath.setup(
        _record_for,
        acquire_slow,
        release_slow,
        wake_next,
        check_timeout,
        NoLaterThan,
        lockorder.note_new,
        threading.__dict__,
        Waiter,
    )
    hooks.learn_order = hooks._learn_order  # does nothing: the twin has it learned when the slow path returns
    mutexbase.next_serial = _fastpath.next_serial
    frames.read_stacks = getattr(_fastpath, "stacks", None)
    agents.make_holds = HeldTable
    agents.end_holds = _end
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_fastpath.after_fork)

    PlainMutex = _fastpath.PlainMutex
    RecursiveMutex = _fastpath.RecursiveMutex
    specialised = _fastpath.specialise
    specialise_turns = _fastpath.specialise_turns
    know_machinery = _fastpath.set_machinery
    _fastpath.set_dropped(leftovers.dropped)
    leftovers.no_more_drops = partial(_fastpath.set_dropped, None)

    def specialise_queue(cls: type, original: Any) -> None:
        """Give a class of simple queues the methods of the fast path, which call those of the original in C."""
        if isinstance(original.put, MethodDescriptorType):
            _fastpath.specialise_queue(cls, original.put, original.get_nowait, Empty)

    class MutexBase(MutexMethods, _fastpath.Mutex):
        """What every mutex has: the methods, on top of the fields in C."""

        __slots__ = ()
