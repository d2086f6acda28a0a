"""asyncio's own methods, kept before anybody replaces them, and the frames that call them.

Assumes: imported before `lockwatch.patch.aio` replaces anything (which imports this module first).

Cost: `caller` is one dictionary look-up per frame of machinery between the lock and the program.
"""

from __future__ import annotations

import asyncio
import asyncio.locks
from typing import TYPE_CHECKING, Any

from lockwatch.locks.machinery import is_machinery

if TYPE_CHECKING:
    from types import FrameType

lock_acquire: Any = asyncio.Lock.acquire
lock_release: Any = asyncio.Lock.release
semaphore_acquire: Any = asyncio.Semaphore.acquire
semaphore_release: Any = asyncio.Semaphore.release
bounded_release: Any = asyncio.BoundedSemaphore.release

_mixin: Any = asyncio.locks._ContextManagerMixin
AENTER, AEXIT = _mixin.__aenter__.__code__, _mixin.__aexit__.__code__
"""What ``async with`` runs when it begins and ends, for locks, conditions and semaphores."""


def caller(frame: FrameType) -> tuple[FrameType, bool]:
    """Return the frame of the program that called, and whether by ``async with``.

    Args:
        frame: The frame that called the lock's method.
    """
    within = False
    while is_machinery(frame) and frame.f_back is not None:
        within = within or frame.f_code is AENTER
        frame = frame.f_back
    return frame, within
