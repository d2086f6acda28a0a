"""``queue.SimpleQueue`` with its waits in the graph.

The C queue blocks inside C: what it waits for cannot be seen there, nor a victim be woken. So this one, which derives
from it, leaves the items to it and keeps the waiters itself: it asks the C queue only for what is there. (Nor would it
do to let the C queue sleep for the first moment: if the time is up before it looks again, it sleeps for ever.)

Guarantees: ``put`` never blocks and may be called by a finalizer or signal handler at any point of ``get`` or
``put`` (that is what the class is for); no item and no wake-up is lost by an exception at any point.

  S1  A getter is in ``_getters`` before it looks for an item for the last time before it parks; a putter
  puts the item
      in first and looks for a getter then.
  S2  A getter that is woken is taken out of ``_getters`` after its permit is there. So one that is in there
  has not been woken,
      or its waker is still awake.
  S3  A getter that leaves wakes the next if there are items left: two putters may have woken the same one.

Assumed atomic, with and without the GIL: ``append`` and ``remove`` of a deque, reading its first element; ``put``,
``get_nowait`` and ``empty`` of the C queue.

Cost: one call of C beside the original's with the C fast path; some 0.1 us each in Python.
"""

from __future__ import annotations

import queue
import sys
from collections import deque
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Self

from lockwatch._core import agents, blocking, parking
from lockwatch._core.fastpath import specialise_queue
from lockwatch._core.timeouts import check_timeout
from lockwatch._core.waits import NOBODY, OPEN, Blockers
from lockwatch.locks.base import Named
from lockwatch.locks.machinery import is_machinery

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from lockwatch._core.agents import Agent
    from lockwatch._core.waits import Wait

original = queue.SimpleQueue
"""The C class (or the one in Python that stands in for it)."""
_put = original.put
_get_nowait = original.get_nowait
_empty = original.empty
_ANYBODY = Blockers(OPEN)


class SimpleQueue(Named, original):  # type: ignore[type-arg]
    """An unbounded queue whose waits are in the graph; else ``queue.SimpleQueue``."""

    __slots__ = ("_created", "_getters", "_name")  # pyright: ignore[reportIncompatibleMethodOverride]

    kind = "SimpleQueue"

    _created: tuple[CodeType, int] | None
    _getters: deque[Any]
    _name: str | None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make an empty queue; as with the C class, nothing depends on a subclass calling ``__init__``."""
        self: Self = super().__new__(cls, *args, **kwargs)
        self._getters = deque()
        self._made(1, None)
        return self

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put an item in. Never blocks; the other arguments are there for ``queue.Queue``'s sake."""
        try:
            _put(self, item, block, timeout)
            if self._getters:
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
        if timeout is None:
            try:
                return _get_nowait(self)
            except queue.Empty:
                if not block:
                    raise
        return self._get_slowly(block, timeout)

    def _get_slowly(self, block: bool = True, timeout: float | None = None) -> Any:
        if not block:
            return _get_nowait(self)
        timeout_ns = None
        if timeout is not None:
            if timeout < 0:
                raise ValueError("'timeout' must be a non-negative number")
            timeout_ns = check_timeout(True, timeout)
            try:
                return _get_nowait(self)
            except queue.Empty:
                pass
        frame: FrameType | None = sys._getframe(1)
        if frame is not None and frame.f_globals is globals():
            frame = frame.f_back
        return self._wait(timeout_ns, frame)

    def blockers(self, wait: Wait, /) -> Blockers:
        """Say that anybody could put something in, unless that has happened."""
        if not _empty(self) or getattr(wait, "parker", None) not in self._getters:
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
        while not _empty(self):
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

    def _wait(self, timeout_ns: int | None, frame: FrameType | None) -> Any:
        since_ns = monotonic_ns()
        getters = self._getters
        while True:
            parker = parking.new_parker()
            try:
                getters.append(parker)  # S1
                permit = (
                    not _empty(self)
                    or blocking.nap(parker, timeout_ns)
                    or blocking.block(self._published(parker, timeout_ns, since_ns, frame))
                )
                try:
                    return _get_nowait(self)
                except queue.Empty:
                    if not permit:
                        raise
            finally:
                if parker in getters:
                    self._forget(parker)
                if getters:
                    self._wake()  # S3

    def _published(
        self, parker: Any, timeout_ns: int | None, since_ns: int, frame: FrameType | None
    ) -> blocking.ParkedWait:
        idle_worker = frame is not None and frame.f_code.co_name == "_worker" and is_machinery(frame)
        while frame is not None and is_machinery(frame):
            frame = frame.f_back
        code, lasti = (None, -1) if frame is None else (frame.f_code, frame.f_lasti)
        wait = blocking.ParkedWait(agents.current(), self, parker, timeout_ns, code, lasti, since_ns=since_ns)
        wait.raises = not idle_worker  # waiting is its job: it is never to blame
        return wait


specialise_queue(SimpleQueue, original)
