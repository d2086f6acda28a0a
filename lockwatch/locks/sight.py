"""Whether some other thread has a lock in sight, and so might release it.

A plain lock may be released by any thread, which is how it serves as a signal: one thread takes it twice, another
releases it in between. When a knot with such a lock in it has stood for the grace, this decides whether there is
still hope: a thread that is to release the lock has it in a variable, or in an object that one of its variables
leads to. If no other thread that can move has, nobody will.

Source: the idea of Go's ``goroutineleak`` profile (a blocked goroutine is leaked if what it waits for can be reached
from no goroutine that may run), cut down to a bounded look: each running function's variables and its module's
globals, and what they lead to within a few steps. So it can miss a far-fetched reference, after the grace. Classes
and module dictionaries are not followed, as they lead everywhere; of modules only what they name themselves.

Assumes a GIL for the variables: without one another thread's cannot be read safely while it runs, and only globals
are looked at.

Cost: milliseconds, once at the end of the grace and then ever more rarely; no method of a user's object is called.
"""

from __future__ import annotations

import gc
import sys
from types import CodeType, FrameType, ModuleType

from lockwatch._core import agents
from lockwatch._core.frames import current_frames

_DEEPEST = 4
_DEEPEST_GLOBAL = 2
_MOST = 5000
_NOT_FOLLOWED = (type, FrameType, CodeType, str, bytes, int, float)
_HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()


def in_sight(lock: object, idle: set[int]) -> bool:
    """Return whether a thread has ``lock`` in its variables or near them.

    Args:
        lock: The lock.
        idle: Idents of threads that don't count: they cannot move again themselves.
    """
    ours = idle | agents.internal_idents
    frames = current_frames()
    return any(_seen_from(lock, frame) for ident, frame in frames.items() if ident not in ours)


def _seen_from(lock: object, innermost: FrameType) -> bool:
    modules: set[int] = set()
    frame: FrameType | None = innermost
    while frame is not None:
        if id(frame.f_globals) not in modules:
            modules.add(id(frame.f_globals))
            if _leads_to(lock, list(frame.f_globals.copy().values()), _DEEPEST_GLOBAL):
                return True
        variables = (
            list(frame.f_locals.values()) if _HAS_GIL and frame.f_locals is not frame.f_globals else []
        )
        if _leads_to(lock, variables, _DEEPEST):
            return True
        frame = frame.f_back
    return False


def _leads_to(lock: object, start: list[object], deepest: int) -> bool:
    """Search the references from ``start``, breadth first, to a bounded depth and number of objects."""
    seen: set[int] = set()
    level = start
    for _ in range(deepest):
        following: list[object] = []
        for thing in level:
            if thing is lock:
                return True
            if id(thing) in seen or _is_module_dictionary(thing):
                continue
            if isinstance(thing, ModuleType):
                if any(value is lock for value in vars(thing).copy().values()):
                    return True
                continue
            if isinstance(thing, _NOT_FOLLOWED):
                continue
            seen.add(id(thing))
            following.extend(gc.get_referents(thing))
            if len(seen) + len(following) > _MOST:
                return any(other is lock for other in following)
        level = following
    return any(thing is lock for thing in level)


def _is_module_dictionary(thing: object) -> bool:
    return type(thing) is dict and "__builtins__" in thing
