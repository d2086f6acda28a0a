"""Whether the program has signal handlers written in Python: they run in the main thread, inside its waits.

Assumes that ``signal.getsignal`` is safe from any thread (it reads a table). Uses ``_signal``, as ``signal``
builds enums at import. Cost: one call per signal number, about 3 us in all; asked only when it decides
something.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found, unused-ignore]

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
    for number in _NUMBERS:
        try:
            handler = _signal.getsignal(number)
        except ValueError:
            continue
        if handler not in _harmless and not (number == _signal.SIGINT and _is_ctrl_c(handler)):
            return True
    return False


def _is_ctrl_c(handler: object) -> bool:
    """Whether it is Python's own, or asyncio's: the same, but that the first Ctrl-C cancels the main task."""
    if handler is _signal.default_int_handler:
        return True
    method = getattr(handler, "func", None)
    return (
        getattr(method, "__qualname__", "") == "Runner._on_sigint" and method.__module__ == "asyncio.runners"
    )
