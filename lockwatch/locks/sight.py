"""Whether some other thread has a lock, a semaphore or a future in sight, and so might let those go who wait for it.

A plain lock may be released by any thread, which is how it serves as a signal: one thread takes it twice, another
releases it in between. A permit can come back from another thread, a future can be cancelled. When a knot with such
a thing in it has stood for the grace, this decides whether there is still hope: a thread that is to do that has the
thing in a variable, or in an object that one of its variables leads to. If no other thread that can move has, nobody
will.

Source: the idea of Go's ``goroutineleak`` profile (a blocked goroutine is leaked if what it waits for can be reached
from no goroutine that may run), cut down to a bounded look: each running function's variables, its module's globals,
what its ``Thread`` object was given, and what they lead to within a few steps. So it can miss a far-fetched
reference, after the grace. Of classes only the attributes are looked at, of modules what they name themselves.

Verbs narrow that down for things that hardly anybody lets go in that way: a thread that sees the thing only counts
if its code, or that of the modules that it runs in, calls something by one of these names.

Assumes a GIL for the variables: without one another thread's cannot be read safely while it runs, and only globals
and ``Thread`` objects are looked at.

Cost: milliseconds, once at the end of the grace and then ever more rarely; no method of a user's object is called.
"""

from __future__ import annotations

import gc
import sys
import threading
from types import CodeType, FrameType, GeneratorType, ModuleType
from typing import TYPE_CHECKING, Any

from lockwatch._core import agents
from lockwatch._core.frames import stacks, standing_still
from lockwatch._core.originals import HAS_GIL
from lockwatch.locks.machinery import is_machinery
from lockwatch.locks.verbs import mentions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

GIVES_BACK = frozenset({"__exit__", "close", "pop_all", "release"})
"""What a thread says that lets go of a lock, or of what has one."""

_DEEPEST = 4
_DEEPEST_GLOBAL = 3
_MOST = 10_000
_AT_ONCE = 500
"""For how many objects to ask what they refer to in one call: without a GIL each stops all threads."""
_NOT_FOLLOWED = (type, FrameType, CodeType, str, bytes, int, float)


def in_sight(
    lock: object,
    idle: set[int],
    *,
    verbs: frozenset[str] = frozenset(),
    global_verbs: frozenset[str] = frozenset(),
) -> bool:
    """Return whether a thread has ``lock`` in its variables or near them.

    Args:
        lock: The lock, or what else it is.
        idle: Idents of threads that don't count: they cannot move again themselves.
        verbs: What a thread must call for its sight to count; empty if all count.
        global_verbs: The same for threads that see it in the globals of a module only.
    """
    return _seen(lambda thing: thing is lock, idle, verbs, global_verbs or verbs)


def suspended_in_sight(code: CodeType, idle: set[int]) -> bool:
    """Return whether a thread has a suspended generator of this code in its variables or near them."""
    return _seen(
        lambda thing: type(thing) is GeneratorType and thing.gi_code is code and not thing.gi_running,
        idle,
        frozenset(),
        frozenset(),
    )


def _seen(
    wanted: Callable[[Any], bool], idle: set[int], verbs: frozenset[str], global_verbs: frozenset[str]
) -> bool:
    ours = idle | agents.internal_idents
    with standing_still():
        return any(
            _seen_from(wanted, ident, list(stack), verbs, global_verbs)
            for ident, stack in stacks().items()
            if ident not in ours
        )


def _seen_from(
    wanted: Callable[[Any], bool],
    ident: int,
    stack: list[FrameType],
    verbs: frozenset[str],
    global_verbs: frozenset[str],
) -> bool:
    thread = threading._active.get(ident)  # type: ignore[attr-defined]
    close = [thread] if thread is not None else []
    modules: dict[int, dict[str, Any]] = {}
    for frame in stack:
        if not is_machinery(frame):
            modules[id(frame.f_globals)] = frame.f_globals
        if HAS_GIL and frame.f_locals is not frame.f_globals:
            close += frame.f_locals.values()
    seen_close = _leads_to(wanted, [*close, *_class_attributes(map(type, close))], _DEEPEST)
    if seen_close and (not verbs or mentions(verbs, stack, modules.values(), thread)):
        return True
    for variables in modules.values():
        values = list(variables.copy().values())
        classes = (value for value in values if isinstance(value, type))
        if _leads_to(wanted, [*values, *_class_attributes(classes)], _DEEPEST_GLOBAL):
            return not global_verbs or mentions(global_verbs, stack, modules.values(), thread)
    return False


def _class_attributes(classes: Iterable[type]) -> list[object]:
    """Return what the program's own classes have as attributes."""
    found: list[object] = []
    for cls in set(classes):
        if str(cls.__module__).partition(".")[0] not in sys.stdlib_module_names:
            found += list(vars(cls).copy().values())
    return found


def _leads_to(wanted: Callable[[Any], bool], start: list[object], deepest: int) -> bool:
    """Search the references from ``start``, breadth first, to a bounded depth and number of objects."""
    seen: set[int] = set()
    level = start
    for _ in range(deepest):
        followed: list[object] = []
        for thing in level:
            if wanted(thing):
                return True
            if id(thing) in seen or _is_module_dictionary(thing):
                continue
            if isinstance(thing, ModuleType):
                if any(wanted(value) for value in vars(thing).copy().values()):
                    return True
                continue
            if isinstance(thing, _NOT_FOLLOWED):
                continue
            seen.add(id(thing))
            followed.append(thing)
        following: list[object] = []
        for first in range(0, len(followed), _AT_ONCE):
            following.extend(gc.get_referents(*followed[first : first + _AT_ONCE]))
            if len(seen) + len(following) > _MOST:
                return any(wanted(other) for other in following)
        level = following
    return any(wanted(thing) for thing in level)


def _is_module_dictionary(thing: object) -> bool:
    return type(thing) is dict and "__builtins__" in thing
