"""The program's signal handlers that are written in Python: they run in the main thread, inside its waits and our code.

Assumes that ``signal.getsignal`` is safe from any thread (it reads a table). Uses ``_signal``, as ``signal``
builds enums at import. Cost: one call per signal number, about 3 us in all; asked only when it decides
something.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found, unused-ignore]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any

_NUMBERS = tuple(range(1, _signal.NSIG))
_harmless: list[object] = [None, _signal.SIG_DFL, _signal.SIG_IGN]


def harmless(handler: object) -> None:
    """Declare a handler one that never ends a wait: our own."""
    if handler not in _harmless:
        _harmless.append(handler)


def harmful(handler: object) -> None:
    """Take back what `harmless` was told."""
    if handler in _harmless[3:]:
        _harmless.remove(handler)


def may_run_handler() -> bool:
    """Return whether a Python signal handler other than Python's own for Ctrl-C is installed."""
    return any(not (number == _signal.SIGINT and _is_ctrl_c(handler)) for number, handler in _handlers())


def pass_on(error: BaseException) -> None:
    """Raise an exception again that came out of a signal handler: it is the program's own, and no fault of ours.

    To be called where our code catches what may go wrong in it: a handler's ``raise TimeoutError`` is not to be lost
    because it struck there.
    """
    codes = {_code_of(handler) for _, handler in _handlers()} - {None}
    trace: TracebackType | None = error.__traceback__ if codes else None
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            raise error
        trace = trace.tb_next


def _handlers() -> Iterator[tuple[int, object]]:
    for number in _NUMBERS:
        try:
            handler = _signal.getsignal(number)
        except ValueError:
            continue
        if handler not in _harmless:
            yield number, handler


def _code_of(handler: Any) -> object:
    while not hasattr(handler, "__code__"):
        inner = getattr(handler, "func", None) or getattr(handler, "__func__", None)  # a partial; a method
        if inner is None:
            return getattr(vars(type(handler)).get("__call__"), "__code__", None)
        handler = inner
    return handler.__code__


def _is_ctrl_c(handler: object) -> bool:
    """Whether it is Python's own, or asyncio's: the same, but that the first Ctrl-C cancels the main task."""
    if handler is _signal.default_int_handler:
        return True
    method = getattr(handler, "func", None)
    return (
        getattr(method, "__qualname__", "") == "Runner._on_sigint" and method.__module__ == "asyncio.runners"
    )
