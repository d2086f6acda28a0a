"""Whether the program has signal handlers written in Python: they run in the main thread, inside its waits.

Assumes that ``signal.getsignal`` is safe from any thread (it reads a table). Uses ``_signal``, as ``signal``
builds enums at import. Cost: one call per signal number, about 3 us in all; asked only when it decides
something.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found, unused-ignore]

_NUMBERS = tuple(range(1, _signal.NSIG))
_HARMLESS = (None, _signal.SIG_DFL, _signal.SIG_IGN, _signal.default_int_handler)


def may_run_handler() -> bool:
    """Return whether a Python signal handler other than Python's ``default_int_handler`` is installed."""
    for number in _NUMBERS:
        try:
            handler = _signal.getsignal(number)
        except ValueError:
            continue
        if handler not in _HARMLESS:
            return True
    return False
