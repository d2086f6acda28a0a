"""The waits for futures: which frames of ``concurrent.futures`` wait, and for which futures.

Imported when ``concurrent.futures._base`` is loaded. Who could end a wait is in `lockwatch.locks.things`; the
links from a future to its thread and its pool are recorded by `lockwatch.locks.pools`.

Assumes the names of the local variables of ``wait`` and ``as_completed``, as from 3.11 to 3.15.
"""

from __future__ import annotations

import concurrent.futures._base as base
from functools import wraps
from typing import TYPE_CHECKING, Any

from lockwatch._core import workpath
from lockwatch.locks.things import FuturesThing, FutureThing, of_self, recognise

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def _several(frame: FrameType) -> FuturesThing:
    """Make the resource of ``futures.wait``."""
    variables = frame.f_locals
    everyone = variables.get("return_when", base.ALL_COMPLETED) == base.ALL_COMPLETED
    futures = variables.get("not_done") or variables["fs"]
    return FuturesThing(tuple(futures), None, everyone=everyone)


def _next_completed(frame: FrameType) -> FuturesThing:
    """Make the resource of ``as_completed``, which waits for any of those that are left."""
    variables = frame.f_locals
    return FuturesThing(tuple(variables.get("pending") or variables["fs"]), None, everyone=False)


def watched_result(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Future.result`` to return at once what is there; the result is stored before the state says so.

    What ran in a pool is over for whoever has its result, so it cannot deadlock with what comes now.
    """

    @wraps(original)
    def result(self: Any, timeout: float | None = None) -> Any:
        if self._state == base.FINISHED and self._exception is None:
            workpath.come_after(self)
            return self._result
        try:
            return original(self, timeout)
        finally:
            if self._state == base.FINISHED:
                workpath.come_after(self)
            self = None  # as the original does: no cycle of the exception, its traceback and the future

    return result


def watched_exception(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Future.exception``: whoever has it comes after the work, too."""

    @wraps(original)
    def exception(self: Any, timeout: float | None = None) -> Any:
        found = original(self, timeout)
        workpath.come_after(self)
        return found

    return exception


def targets() -> list[tuple[Any, str, Any]]:
    """Return what `install()` replaces here: owner, attribute, replacement."""
    future: Any = base.Future
    return [
        (future, "result", watched_result(future.result)),
        (future, "exception", watched_exception(future.exception)),
    ]


def recognise_futures() -> None:
    """Teach `lockwatch.locks.things` the waits of ``concurrent.futures``."""
    for method in (base.Future.result, base.Future.exception):
        recognise(method, of_self("Future", FutureThing, "_condition._lock"))
    recognise(base.wait, _several)
    recognise(base.as_completed, _next_completed)
