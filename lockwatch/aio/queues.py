"""``lockwatch.aio.Queue``, ``PriorityQueue``, ``LifoQueue``: asyncio's, which know where they were made.

Guarantee: the behaviour is that of asyncio, whose code runs.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

from lockwatch.aio.origin import note
from lockwatch.locks.base import Uncopied

_T = TypeVar("_T")


class Queue(Uncopied, asyncio.Queue[_T]):
    """A queue for tasks.

    Args:
        maxsize: How many items it takes; 0 for any number.
        name: What to call it in reports.
    """

    __module__ = "lockwatch.aio"

    def __init__(self, maxsize: int = 0, *, name: str | None = None) -> None:
        super().__init__(maxsize)
        note(self, "asyncio.Queue", name)


class PriorityQueue(Queue[_T], asyncio.PriorityQueue[_T]):  # type: ignore[type-var]
    """A queue whose least item comes first; else as `Queue`."""

    __module__ = "lockwatch.aio"


class LifoQueue(Queue[_T], asyncio.LifoQueue[_T]):
    """A queue whose last item comes first; else as `Queue`."""

    __module__ = "lockwatch.aio"
