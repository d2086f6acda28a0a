"""Force an interleaving: threads that run one at a time, from one named point to the next.

For the test of a race that was fixed: it brings the threads to just the places where they once collided, each time.

    from lockwatch.testing import Stepper, point

    def transfer(source, target):
        with source.lock:
            point("source locked")          # a no-op unless a Stepper drives this thread
            with target.lock:
                ...

    def test_transfers_do_not_deadlock():
        with Stepper() as step:
            there = step.thread(transfer, a, b, name="there")
            back = step.thread(transfer, b, a, name="back")
            there.run_to("source locked")
            back.run_to("source locked")
            there.run_on()
            back.run_on()                   # the block's end joins both, and raises what they raised

Points can be put into code that knows nothing of this: ``step.point_at(Account, "debit")`` makes the call of a
method a point, ``"Account.debit"``.

Guarantees: a thread made by `Stepper.thread` does nothing before it is told to. `Runner.run_to` returns when the
thread stands at the point, and raises if it cannot come there: it ended, it waits for a lock (or anything else that
lockwatch sees) without a limit, or the time is up. Between two calls no thread that stands at a point moves.
What a thread at a point waits for is known to nobody but this module: for the detector it runs, so stopping threads
can raise no deadlock.

Assumes: nothing of lockwatch need be installed; without it `Runner.run_to_block` sees only waits for lockwatch's own
locks.

Cost of `point` where nothing drives the thread: one look-up in thread-local storage.
"""

from __future__ import annotations

import threading
import time
from functools import wraps
from typing import TYPE_CHECKING, Any

from lockwatch._core import agents, parking
from lockwatch._core.originals import ThreadLocal
from lockwatch._core.waits import innermost
from lockwatch.patch.methods import Methods

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

__all__ = ["Runner", "Stepper", "SteppingError", "point"]

LIMIT = 10.0
"""Seconds that a step may take."""

_LOOK_NS = 1_000_000
_SETTLED = 5
"""How many looks in a row must show one and the same wait for a thread to count as blocked."""

_local = ThreadLocal()


class SteppingError(AssertionError):
    """A thread did not come to where the test wanted it."""


def point(name: str) -> None:
    """Stop here until told to go on, if a `Stepper` drives the calling thread; else do nothing.

    Args:
        name: What `Runner.run_to` calls this place.
    """
    runner: Runner | None = getattr(_local, "runner", None)
    if runner is not None:
        runner._arrive(name)


class Runner:
    """One thread under control; made by `Stepper.thread`.

    Attributes:
        name: The thread's name.
        at: The point where it stands; None before it has come to one, and while it runs.
        result: What its function returned.
        error: What its function raised.
    """

    def __init__(self, name: str, work: Callable[[], object], limit: float) -> None:
        self.name = name
        self.at: str | None = None
        self.result: object = None
        self.error: BaseException | None = None
        self._work = work
        self._limit = limit
        self._free = False
        self._stands = True
        self._done = False
        self._target: str | None = None
        self._came_there = True
        self._go = parking.new_parker()
        self._came = parking.new_parker()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def run_to(self, name: str) -> Runner:
        """Let the thread run until it stands at a point; points on the way are passed.

        After a step that failed, since the thread was blocked or late, the same one waits on for it.

        Args:
            name: The point.

        Returns:
            Itself.

        Raises:
            SteppingError: It ended before, is blocked, or the time is up.
        """
        if self._came_there or self._free or self._target != name:
            self._release(name)
        self._await(f"come to {name!r}")
        self._came_there = True
        if self.at != name:
            ending = "" if self.error is None else f" by {type(self.error).__name__}: {self.error}"
            raise SteppingError(f"thread {self.name!r} has ended{ending}, and did not come to {name!r}")
        return self

    def run_to_block(self) -> Runner:
        """Let the thread run, past all points, until it waits for something without a limit.

        Returns:
            Itself.

        Raises:
            SteppingError: It ended without waiting, or the time is up.
        """
        self._release(None, free=True)
        if not self._await("block", may_block=True):
            raise SteppingError(f"thread {self.name!r} has ended, and did not block")
        return self

    def run_on(self) -> Runner:
        """Let the thread run, past all points, and do not wait for it."""
        self._release(None, free=True)
        return self

    def join(self) -> object:
        """Let the thread run to its end.

        Returns:
            What its function returned.

        Raises:
            SteppingError: It is blocked, or the time is up.
            BaseException: What its function raised.
        """
        self._release(None, free=True)
        self._await("end")
        if self.error is not None:
            raise self.error
        return self.result

    @property
    def is_blocked(self) -> bool:
        """Whether it waits, without a limit, for something that lockwatch sees."""
        return self._blocked_in() is not None

    @property
    def ended(self) -> bool:
        """Whether its function has returned or raised."""
        return self._done

    def _blocked_in(self) -> Any:
        agent = agents.by_ident.get(self._thread.ident or 0)
        wait = None if agent is None or agent.thread() is not self._thread else innermost(agent)
        return None if wait is None or wait.deadline_ns is not None or wait.slot else wait

    def _release(self, target: str | None, *, free: bool = False) -> None:
        stands = self._stands
        self._stands = False  # first this: with the next line it may come to the new point
        self._target, self._free, self.at, self._came_there = target, free, None, False
        if stands:
            parking.unpark(self._go)

    def _await(self, what: str, *, may_block: bool = False) -> bool:
        """Wait until the thread stands at its point or has ended; return False if it has ended."""
        until = time.monotonic() + self._limit
        seen: Any = None
        looks = 0
        while not parking.park(self._came, _LOOK_NS):
            if not self._thread.is_alive():
                return self.at is not None
            wait = self._blocked_in()
            looks = looks + 1 if wait is not None and wait is seen else 0
            seen = wait
            if looks >= _SETTLED and may_block:
                return True
            if time.monotonic() >= until:
                stuck = (
                    "" if wait is None else f"; it waits for {getattr(wait.resource, 'kind', 'something')}"
                )
                raise SteppingError(f"thread {self.name!r} did not {what} in {self._limit:g} s{stuck}")
        return self.at is not None

    def _run(self) -> None:
        _local.runner = self
        parking.park(self._go, None)
        try:
            self.result = self._work()
        except BaseException as error:
            self.error = error
        finally:
            self._done = True
            parking.unpark(self._came)

    def _arrive(self, name: str) -> None:
        if self._free or name != self._target:
            return
        self._stands, self.at = True, name
        parking.unpark(self._came)
        parking.park(self._go, None)


class Stepper:
    """Drives threads from point to point; a context manager, whose end lets all of them run to their ends.

    Args:
        limit: Seconds that a step may take.
    """

    def __init__(self, *, limit: float = LIMIT) -> None:
        self._limit = limit
        self._runners: list[Runner] = []
        self._points = Methods()

    def thread(
        self, function: Callable[..., object], *args: object, name: str | None = None, **kwargs: object
    ) -> Runner:
        """Make a thread that waits to be told to run.

        Args:
            function: What it is to call.
            args: With what.
            name: Its name; by default that of the function.
            kwargs: With what.
        """
        called: str = name or str(getattr(function, "__name__", "stepped"))
        runner = Runner(called, lambda: function(*args, **kwargs), self._limit)
        self._runners.append(runner)
        return runner

    def point_at(self, owner: Any, attribute: str, *, after: bool = False) -> str:
        """Make the call of a function a point, until the block ends.

        Args:
            owner: The class or module that has it.
            attribute: Its name there.
            after: Whether to stop when it has returned, instead of before it is called.

        Returns:
            The point's name: ``"Account.debit"``, or ``"after Account.debit"``.
        """
        owner_name = getattr(owner, "__qualname__", None) or getattr(owner, "__name__", "?")
        name = f"{'after ' if after else ''}{owner_name}.{attribute}"
        original = owner.__dict__[attribute]

        @wraps(original)
        def stopping(*args: Any, **kwargs: Any) -> Any:
            if not after:
                point(name)
            result = original(*args, **kwargs)
            if after:
                point(name)
            return result

        self._points.put([(owner, attribute, stopping)])
        return name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._points.restore()
        for runner in self._runners:
            runner.run_on()
        for runner in self._runners:
            if kind is None:
                runner.join()
            else:
                runner._thread.join(1.0)
