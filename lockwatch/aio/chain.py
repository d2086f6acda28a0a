"""The await chain of a task: the coroutines that it stands in, and what a future's callbacks lead to.

Reads only. Frames of a task whose loop runs in another thread are read only while that thread cannot run them:
without a GIL they would change under the reader.

Cost: proportional to the depth of the chain; nothing while nobody asks.

Assumes: ``cr_await``, ``gi_yieldfrom`` and ``ag_await``; that the awaitable of an asynchronous generator, which has
no such attribute, refers to its generator.
"""

from __future__ import annotations

import functools
import gc
from types import (
    AsyncGeneratorType,
    BuiltinMethodType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MethodType,
)
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_LONGEST = 1000
_RUNNABLE = (CoroutineType, GeneratorType, AsyncGeneratorType)


def frames_of(task: Any) -> list[FrameType]:
    """Return the frames of the coroutines that a task stands in, outermost first."""
    frames: list[FrameType] = []
    awaitable = task.get_coro()
    while awaitable is not None and len(frames) < _LONGEST:
        frame, following = _step(awaitable)
        if frame is not None:
            frames.append(frame)
        awaitable = following
    return frames


def _step(awaitable: Any) -> tuple[FrameType | None, Any]:
    """Return the frame of a coroutine or generator and what it awaits."""
    if isinstance(awaitable, CoroutineType):
        return awaitable.cr_frame, awaitable.cr_await
    if isinstance(awaitable, GeneratorType):
        return awaitable.gi_frame, awaitable.gi_yieldfrom
    if isinstance(awaitable, AsyncGeneratorType):
        return awaitable.ag_frame, awaitable.ag_await
    if hasattr(awaitable, "cr_await"):  # compiled by Cython
        return getattr(awaitable, "cr_frame", None), awaitable.cr_await
    if type(awaitable).__module__ != "builtins":  # asyncio's iterator over a future, or somebody's own
        return None, None
    inner = [thing for thing in gc.get_referents(awaitable) if isinstance(thing, _RUNNABLE)]
    return None, inner[0] if inner else None


def is_librarys(frame: FrameType) -> bool:
    """Whether a frame is asyncio's or ours, and not the program's."""
    return str(frame.f_globals.get("__name__")).startswith(("asyncio.", "lockwatch."))


def callbacks_of(future: Any) -> list[Any]:
    """Return the functions that are to be called when a future is done."""
    try:
        callbacks: list[Any] = list(future._callbacks or ())
        return [callback for callback, _context in callbacks]
    except (AttributeError, TypeError, ValueError):  # a future of somebody else's
        return []


def variable(function: Any, name: str) -> Any:
    """Return a variable of an inner function's surroundings, or None."""
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
    if code is None or not cells or name not in code.co_freevars:
        return None
    try:
        return cells[code.co_freevars.index(name)].cell_contents
    except ValueError:  # not set yet
        return None


def referred(callback: Any) -> Iterator[Any]:
    """Yield what a callback has in hand: the object of a method, arguments, the variables of an inner function."""
    work = [callback]
    for _ in range(_LONGEST):
        if not work:
            return
        thing = work.pop()
        if isinstance(thing, MethodType | BuiltinMethodType):
            yield thing.__self__
        elif isinstance(thing, functools.partial):
            yield from (*thing.args, *thing.keywords.values())
            work.append(thing.func)
        elif isinstance(thing, FunctionType):
            for cell in thing.__closure__ or ():
                try:
                    content = cell.cell_contents
                except ValueError:
                    continue
                yield content
                if isinstance(content, MethodType | functools.partial):
                    work.append(content)


def name_in(frames: list[FrameType], thing: object) -> str | None:
    """Return what the innermost coroutine of the program calls a thing: ``ready``, ``Kitchen.ready``; or None."""
    for frame in reversed(frames):
        if is_librarys(frame):
            continue
        variables = frame.f_locals
        for name, value in variables.items():
            if value is thing:
                return name
        for name, value in variables.items():
            for attribute, content in _attributes(value).items():
                if content is thing:
                    return f"{type(value).__name__ if name == 'self' else name}.{attribute}"
        return next((name for name, value in list(frame.f_globals.items()) if value is thing), None)
    return None


def _attributes(thing: object) -> dict[str, object]:
    """Return an object's own attributes, without calling any code of its class."""
    try:
        found: dict[str, object] = object.__getattribute__(thing, "__dict__")
        return found.copy()
    except (AttributeError, TypeError):
        return {}
