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
