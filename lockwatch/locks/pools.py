"""The pools of ``concurrent.futures.thread``: who runs a future, and who could.

Two links are recorded as they come about, one attribute each: which thread runs a work item, and from which
pool a future came. Everything else is read off the future and the pool when somebody blocks
(`lockwatch.locks.things`).

Assumes the arguments of ``_WorkItem.__init__``, ``_WorkItem.run`` with the future in ``self.future``, and
``ThreadPoolExecutor._threads``, as from 3.11 to 3.15.
"""

from __future__ import annotations

import concurrent.futures.thread as pool_module
import sys
import weakref
from functools import wraps
from typing import TYPE_CHECKING, Any

from lockwatch._core import settings, workpath
from lockwatch.locks.joins import agent_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockwatch._core.agents import Agent

_NO_CONTEXT: Any = object()
"""What ``_WorkItem.run`` is not given before 3.14."""


def watched_run(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``_WorkItem.run`` to note who runs the future."""

    @wraps(original)
    def run(self: Any, context: Any = _NO_CONTEXT) -> None:
        future = self.future
        future._lockwatch_runner = workpath.thread_agent()
        try:
            submitted = self._lockwatch_submitted
        except AttributeError:  # made before `install()`
            submitted = None
        work = None
        if submitted is not None:
            work = future._lockwatch_clock = workpath.begin_work(submitted)
        try:
            if context is _NO_CONTEXT:
                original(self)
            else:
                original(self, context)
        finally:
            if work is not None:
                future._lockwatch_clock = workpath.end_work(work)

    return run


def watched_item(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``_WorkItem.__init__`` to note what happened before the submit: it cannot deadlock with the work.

    It takes the very arguments of the original: objects whose ``__init__`` has ``*arguments`` are slow to make.
    """
    if sys.version_info >= (3, 14):

        @wraps(original)
        def __init__(self: Any, future: Any, task: Any) -> None:  # noqa: N807 - stands in for one
            original(self, future, task)
            self._lockwatch_submitted = workpath.submit_work() if settings.order else None

    else:

        @wraps(original)
        def __init__(self: Any, future: Any, fn: Any, args: Any, kwargs: Any) -> None:  # noqa: N807
            original(self, future, fn, args, kwargs)
            self._lockwatch_submitted = workpath.submit_work() if settings.order else None

    return __init__


def watched_submit(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``ThreadPoolExecutor.submit`` to note whose future it is."""

    @wraps(original)
    def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        usual = len(args) == 1 and not kwargs  # for that there is a call that CPython makes fast
        future = original(self, fn, args[0]) if usual else original(self, fn, *args, **kwargs)
        try:
            workers = self._lockwatch_workers
        except AttributeError:
            workers = self._lockwatch_workers = _Workers(self)
        future._lockwatch_workers = workers
        return future

    return submit


class _Workers:
    """Answers who the workers of a pool are, without keeping the pool alive."""

    __slots__ = ("pool",)

    def __init__(self, pool: Any) -> None:
        self.pool = weakref.ref(pool)

    def __call__(self) -> tuple[Agent, ...] | None:
        """Return the agents of all workers, or None if one has none or the pool may start another."""
        pool = self.pool()
        if pool is None:
            return None
        threads = list(pool._threads.copy())
        if len(threads) < pool._max_workers and not pool._shutdown:
            return None
        workers = [agent_of(thread) for thread in threads]
        return None if None in workers else tuple(worker for worker in workers if worker is not None)


def targets() -> list[tuple[Any, str, Any]]:
    """Return what `install()` replaces here: owner, attribute, replacement."""
    item: Any = pool_module._WorkItem
    executor: Any = pool_module.ThreadPoolExecutor
    return [
        (item, "__init__", watched_item(item.__init__)),
        (item, "run", watched_run(item.run)),
        (executor, "submit", watched_submit(executor.submit)),
    ]
