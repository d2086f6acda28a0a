"""``queue.SimpleQueue`` with its waits in the graph.

The C queue blocks inside C: what it waits for cannot be seen there, nor a victim be woken. So this one keeps
its items and its waiters itself; ``isinstance`` and the rest of the contract are those of the C class, which
it derives from.

Guarantees: ``put`` never blocks and may be called by a finalizer or signal handler at any point of ``get`` or
``put`` (that is what the class is for); no item and no wake-up is lost by an exception at any point.

  S1  A getter is in ``_getters`` before it looks for an item for the last time before it parks; a putter
  appends the item
      first and looks for a getter then.
  S2  A getter that is woken is taken out of ``_getters`` after its permit is there. So one that is in there
  has not been woken,
      or its waker is still awake.
  S3  A getter that leaves wakes the next if there are items left: two putters may have woken the same one.

Assumed atomic, with and without the GIL: ``append``, ``popleft`` and ``remove`` of a deque, reading its first
element.

Cost: ``put`` and ``get`` are Python, some 0.3 us each.
"""

from __future__ import annotations

import queue
import sys
from collections import deque
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Self

from lockwatch._core import agents, blocking, parking
from lockwatch._core.timeouts import check_timeout
from lockwatch._core.waits import NOBODY, OPEN, Blockers
from lockwatch.locks.machinery import is_machinery

if TYPE_CHECKING:
    from types import FrameType

    from lockwatch._core.agents import Agent
    from lockwatch._core.waits import Wait

original = queue.SimpleQueue
"""The C class (or the one in Python that stands in for it)."""
_ANYBODY = Blockers(OPEN)


class SimpleQueue(original):  # type: ignore[type-arg]
    """An unbounded queue whose waits are in the graph; else ``queue.SimpleQueue``."""

    kind = "SimpleQueue"
    name = None
    lock_class = "SimpleQueue"

    _items: deque[Any]
    _getters: deque[Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make an empty queue; as with the C class, nothing depends on a subclass calling ``__init__``."""
        self: Self = super().__new__(cls, *args, **kwargs)
        self._items = deque()
        self._getters = deque()
        return self

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put an item in. Never blocks; the other arguments are there for ``queue.Queue``'s sake."""
        del block, timeout
        try:
            self._items.append(item)
            self._wake()
        except BaseException:
            self._wake()
            raise

    def put_nowait(self, item: Any) -> None:
        """Put an item in."""
        self.put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the next item, waiting for one if need be.

        Args:
            block: False to take one only if it is there.
            timeout: How long to wait, in seconds; None for ever.

        Raises:
            queue.Empty: There was none (in time).
            ValueError, OverflowError, TypeError: A time-out that is negative, too large, or no number.
            DeadlockError: Nobody is left who could put one in, and this thread is the victim. Not with a time-out.
        """
        timeout_ns = None
        if block and timeout is not None:
            if timeout < 0:
                raise ValueError("'timeout' must be a non-negative number")
            timeout_ns = check_timeout(True, timeout)
        try:
            return self._items.popleft()
        except IndexError:
            if not block:
                raise queue.Empty from None
        return self._wait(None if timeout_ns is None else monotonic_ns() + timeout_ns, sys._getframe(1))

    def get_nowait(self) -> Any:
        """Take the next item if there is one; else raise queue.Empty."""
        return self.get(False)

    def qsize(self) -> int:
        """Return how many items are in."""
        return len(self._items)

    def empty(self) -> bool:
        """Return whether no item is in."""
        return not self._items

    def blockers(self, wait: Wait, /) -> Blockers:
        """Say that anybody could put something in, unless that has happened."""
        if self._items or getattr(wait, "parker", None) not in self._getters:
            return NOBODY
        return _ANYBODY

    def forget_waits(self, survivor: Agent, /) -> None:
        """Drop the getters of threads that did not come along through a fork."""
        ours = [getattr(wait, "parker", None) for wait in survivor.waits]
        for parker in self._getters.copy():
            if parker not in ours:
                self._forget(parker)

    def _wake(self) -> None:
        """Wake the first getter, if there is an item for it."""
        while self._items:
            try:
                parker = self._getters[0]
            except IndexError:
                return
            parking.unpark(parker)
            if self._forget(parker):
                return

    def _forget(self, parker: Any) -> bool:
        try:
            self._getters.remove(parker)
        except ValueError:
            return False
        return True

    def _wait(self, deadline_ns: int | None, frame: FrameType | None) -> Any:
        idle_worker = frame is not None and frame.f_code.co_name == "_worker" and is_machinery(frame)
        while frame is not None and is_machinery(frame):
            frame = frame.f_back
        code, lasti = (None, -1) if frame is None else (frame.f_code, frame.f_lasti)
        me = agents.current()
        while True:
            parker = parking.new_parker()
            timeout_ns = None if deadline_ns is None else max(0, deadline_ns - monotonic_ns())
            wait = blocking.ParkedWait(me, self, parker, timeout_ns, code, lasti)
            wait.raises = not idle_worker  # waiting is its job: it is never to blame
            try:
                self._getters.append(parker)  # S1
                permit = bool(self._items) or blocking.block(wait)
                try:
                    return self._items.popleft()
                except IndexError:
                    if not permit:
                        raise queue.Empty from None
            finally:
                self._forget(parker)
                self._wake()  # S3
