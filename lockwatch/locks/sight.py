"""Whether some other thread has a lock in sight, and so might release it.

A plain lock may be released by any thread, which is how it serves as a signal: one thread takes it twice,
    another releases it in
between. When such a second ``acquire()`` has lasted longer than the grace, this decides whether there is
still hope: a thread that is to release the lock has it in a variable, or in an object that one of its
    variables leads to. If no other thread has,
nobody will.

Source: the idea of Go's ``goroutineleak`` profile (a blocked goroutine is leaked if what it waits for can be
    reached from no
goroutine that may run), cut down to a bounded look: each running function's variables and what they lead to
within a few steps, and the globals of its module. So it can miss a far-fetched reference, after the grace,
and never sees one too many in a thread that has nothing to do with the lock. Modules, classes and module
dictionaries are not followed: they lead everywhere.

Assumes: with a GIL. Without one another thread's variables cannot be read safely while it runs; only globals
    are looked at.

Cost: milliseconds, once at the end of the grace and then ever more rarely; no method of a user's object is
    called.
"""

from __future__ import annotations

import gc
import sys
from types import CodeType, FrameType, ModuleType
from typing import TYPE_CHECKING

from lockwatch._core import agents

if TYPE_CHECKING:
    from lockwatch._core.agents import Agent

_DEEPEST = 4
_MOST = 5000
_NOT_FOLLOWED = (type, ModuleType, FrameType, CodeType, str, bytes, int, float)
_HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()


def in_sight(lock: object, waiter: Agent) -> bool:
    """Return whether a thread other than the waiter's has ``lock`` in its variables or near them."""
    ours = {waiter.ident, *agents.internal_idents}
    frames = sys._current_frames()
    return any(_seen_from(lock, frame) for ident, frame in frames.items() if ident not in ours)


def _seen_from(lock: object, innermost: FrameType) -> bool:
    modules: set[int] = set()
    frame: FrameType | None = innermost
    while frame is not None:
        if id(frame.f_globals) not in modules:
            modules.add(id(frame.f_globals))
            if any(value is lock for value in frame.f_globals.copy().values()):
                return True
        if (
            _HAS_GIL
            and frame.f_locals is not frame.f_globals
            and _leads_to(lock, list(frame.f_locals.values()))
        ):
            return True
        frame = frame.f_back
    return False


def _leads_to(lock: object, start: list[object]) -> bool:
    """Search the references from ``start``, breadth first, to a bounded depth and number of objects."""
    seen: set[int] = set()
    level = start
    for _ in range(_DEEPEST):
        following: list[object] = []
        for thing in level:
            if thing is lock:
                return True
            if id(thing) in seen or isinstance(thing, _NOT_FOLLOWED) or _is_module_dictionary(thing):
                continue
            seen.add(id(thing))
            following.extend(gc.get_referents(thing))
            if len(seen) + len(following) > _MOST:
                return any(other is lock for other in following)
        level = following
    return any(thing is lock for thing in level)


def _is_module_dictionary(thing: object) -> bool:
    return type(thing) is dict and "__builtins__" in thing
