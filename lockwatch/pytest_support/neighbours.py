"""Other tools in the process: what of them must not count as able to end a test's wait, or must not be said twice.

* execnet's threads (pytest-xdist's workers) bring tests to the worker and never let a test go: they do not count
  while one runs. Between tests they do: the worker waits for them.
* pytest's ``faulthandler_timeout`` keeps a C thread, pytest-timeout a timer or a signal handler: none lets a test go
  but by ending it.
* The error of a thread that was a victim: pytest would warn of it, in whichever test runs by then. It has failed
  its test already.

Guarantee: without these tools nothing is done. Cost: two listings of ``/proc/self/task`` for each test where
``faulthandler_timeout`` is set.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from lockwatch._core import agents, reduction, signals
from lockwatch._core.frames import current_frames
from lockwatch._core.originals import get_ident
from lockwatch.errors import LockwatchError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


class CarrierThreads:
    """The threads that bring tests to a worker.

    Made when the worker is configured: of the threads that are there by then, all but the calling one.
    """

    def __init__(self) -> None:
        self._idents = set(current_frames()) - agents.internal_idents - {get_ident()}

    def __enter__(self) -> None:
        agents.internal_idents.update(self._idents)

    def __exit__(self, *_error: object) -> None:
        agents.internal_idents.difference_update(self._idents)


class NativeTimers:
    """The C thread that pytest's ``faulthandler_timeout`` starts for each test."""

    def __init__(self, config: pytest.Config) -> None:
        try:
            self._on = float(config.getini("faulthandler_timeout") or 0) > 0
        except (TypeError, ValueError):
            self._on = False
        self._before: set[int] = set()

    def before(self) -> None:
        """Note which threads there are before pytest starts its own."""
        if self._on:
            self._before = _natives()

    def after(self) -> None:
        """Note the one that it has started."""
        if self._on:
            ours = {thread.native_id for thread in threading.enumerate()}
            reduction.harmless_natives.update(_natives() - self._before - ours)

    def over(self) -> None:
        """Forget it: the number may be another thread's soon."""
        reduction.harmless_natives.clear()


def _natives() -> set[int]:
    try:
        return {int(name) for name in os.listdir("/proc/self/task")}
    except OSError:
        return set()


class TimeoutTimer:
    """What pytest-timeout has set for the test that runs."""

    def __init__(self) -> None:
        self._handler: Any = None
        self._ident: int | None = None

    def set(self) -> None:
        """Find the handler or the thread."""
        handler = signal.getsignal(signal.SIGALRM) if hasattr(signal, "SIGALRM") else None
        if getattr(handler, "__module__", "") == "pytest_timeout":
            self._handler = handler
            signals.harmless(handler)
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer) and thread.name.startswith("pytest_timeout"):
                self._ident = thread.ident
                agents.internal_idents.add(thread.ident or 0)

    def cancelled(self) -> None:
        """Forget them."""
        signals.harmful(self._handler)
        agents.internal_idents.discard(self._ident or 0)
        self._handler = self._ident = None


class _Filter:
    """Stands before ``threading.excepthook``: swallows the errors that lockwatch raised in threads."""

    def __init__(self, hook: Callable[[Any], object]) -> None:
        self.hook = hook

    def __call__(self, arguments: Any, /) -> None:
        error = arguments.exc_value
        if not (isinstance(error, LockwatchError) and error.finding is not None):
            self.hook(arguments)


class told_once:  # noqa: N801 - used as a statement
    """A block in which an error that lockwatch raised in a thread is not told again by the thread's end.

    Blocks nest: an inner one does something only if the hook was replaced since the outer one began.
    """

    def __init__(self) -> None:
        self._mine: _Filter | None = None

    def __enter__(self) -> None:
        if not isinstance(threading.excepthook, _Filter):
            threading.excepthook = self._mine = _Filter(threading.excepthook)

    def __exit__(self, *_error: object) -> None:
        if self._mine is not None and threading.excepthook is self._mine:
            threading.excepthook = self._mine.hook
        self._mine = None
