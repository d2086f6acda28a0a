"""The stacks of all threads, without the trap in ``sys._current_frames``.

Up to 3.12 that function allocates while it holds a lock of the interpreter's (gh-106883): a garbage collection that
starts there, and a finalizer that lets another thread run, can stop the interpreter for ever. So no collection may
start meanwhile.

Nor can the frames of a thread be followed outwards while it runs, as it does at any moment without a GIL: what is read
then may be no frame any more, and the interpreter crashes. `stacks` has the C twin read them while all threads stand
still. (The Python twin cannot, and relies on it that a thread that sleeps is not woken in the few microseconds.)

Cost: proportional to the number of threads, and of `stacks` to that of their frames.
"""

from __future__ import annotations

import gc
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import CodeType, FrameType
    from typing import Any

_COLLECTS_ANYWHERE = sys.version_info < (3, 12)
_SAFE = sys.version_info >= (3, 13)


def current_frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread that runs Python code, by ident."""
    if _SAFE or not gc.isenabled():
        return sys._current_frames()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        gc.enable()


def thread_of_this_stack(ident: int) -> threading.Thread | None:
    """Return the calling thread's ``Thread`` (it has this ident), or None; makes none, as ``current_thread`` does.

    ``threading._active`` does not have it while it is being started, or has a dummy.
    """
    thread: threading.Thread | None = threading._active.get(ident)  # type: ignore[attr-defined]
    if thread is not None and not isinstance(thread, threading._DummyThread):
        return thread
    for starting in list(threading._limbo):  # type: ignore[attr-defined]
        if starting.ident == ident:
            return starting  # type: ignore[no-any-return]
    frame = sys._getframe(1)
    while frame.f_back is not None:
        if frame.f_code.co_name == "_bootstrap_inner" and frame.f_globals is threading.__dict__:
            candidate = frame.f_locals.get("self")
            return candidate if isinstance(candidate, threading.Thread) else thread
        frame = frame.f_back
    return thread


class Level:
    """One level of another thread's stack, with what can be known of its frame without a GIL."""

    __slots__ = ("f_code", "f_globals")

    def __init__(self, code: CodeType, variables: dict[str, Any]) -> None:
        self.f_code = code
        self.f_globals = variables


read_stacks: Callable[[], dict[int, list[tuple[CodeType, dict[str, Any]]]]] | None = None
"""Reads the stacks while all threads stand still; the C twin's, without a GIL."""


def stacks() -> dict[int, Iterable[Any]]:
    """Return what all threads run, by ident: the levels of the stack, innermost first.

    They are frames under a GIL, to be gone through in `standing_still`, and once. Else they may have no more than
    ``f_code`` and ``f_globals`` (see `Level`).
    """
    if read_stacks is None:
        return {ident: _outwards(frame) for ident, frame in current_frames().items()}
    return {
        ident: [Level(code, variables) for code, variables in stack] for ident, stack in read_stacks().items()
    }


def calls(code: CodeType, ident: int) -> int:
    """Count how often a function stands on the stack of a thread."""
    with standing_still():
        return sum(level.f_code is code for level in stacks().get(ident, ()))


def _outwards(innermost: FrameType) -> Iterator[FrameType]:
    frame: FrameType | None = innermost
    while frame is not None:
        yield frame
        frame = frame.f_back


class standing_still:  # noqa: N801 - used as a statement
    """A context in which the stacks of other threads are walked: no collection starts in the middle of a step.

    Up to 3.11 one can start wherever an object is made, and its finalizers let the other thread run on, and its
    frames go away, while the interpreter reads them. Later, collections start between two steps only.
    """

    __slots__ = ("was_enabled",)

    def __enter__(self) -> None:
        self.was_enabled = _COLLECTS_ANYWHERE and gc.isenabled()
        if self.was_enabled:
            gc.disable()

    def __exit__(self, *_error: object) -> None:
        if self.was_enabled:
            gc.enable()
