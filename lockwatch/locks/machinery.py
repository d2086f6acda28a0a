"""Which frames are machinery: modules of the standard library that make locks and wait on behalf of their callers.

A lock made inside ``queue.Queue()`` is best named after the line that made the queue, and a wait inside
``Queue.get`` happens, for the program, on the line that called it. Cost: one dictionary look-up per frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

_MODULES = frozenset(
    {
        "asyncio.locks",
        "asyncio.queues",
        "asyncio.tasks",
        "concurrent.futures._base",
        "concurrent.futures.thread",
        "logging",
        "multiprocessing.pool",
        "multiprocessing.queues",
        "queue",
        "threading",
    }
)
_OURS = ("lockwatch.locks.", "lockwatch.aio.")

_MOST = 10_000
_known: dict[str, bool] = {}
"""By module name: whether it is machinery."""


def makes_for_caller(frame: FrameType) -> bool:
    """Whether what the frame makes is its caller's; what a module makes when it is imported is its own."""
    return is_machinery(frame) and frame.f_code.co_name != "<module>"


def is_machinery(frame: FrameType) -> bool:
    """Whether a frame is machinery, or one of lockwatch's locks."""
    module: Any = frame.f_globals.get("__name__")
    try:
        return _known[module]
    except (KeyError, TypeError):
        answer = module in _MODULES or str(module).startswith(_OURS)
        if isinstance(module, str) and len(_known) < _MOST:
            _known[module] = answer
        return answer
