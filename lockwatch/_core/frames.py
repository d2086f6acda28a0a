"""The stacks of all threads, without the trap in ``sys._current_frames``.

Up to 3.12 that function allocates while it holds a lock of the interpreter's (gh-106883): a garbage collection that
starts there, and a finalizer that lets another thread run, can stop the interpreter for ever. So no collection may
start meanwhile.

Cost: proportional to the number of threads.
"""

from __future__ import annotations

import gc
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

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
