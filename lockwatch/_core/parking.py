"""Put one waiter to sleep and wake it: the only place where threads (and, later, tasks) differ.

A parker is a raw lock that is held while there is no permit, as in LockSupport of java.util.concurrent:
`unpark` makes the one permit available (a second one is lost, not added up), `park` takes it or sleeps until
it comes. Each wait has a parker of its own, since a signal handler may run, and wait, inside the wait that it
interrupted.

Assumed atomic, with and without the GIL: ``acquire`` and ``release`` of a raw lock. `unpark` is one such
    call, so an
exception or a re-entering handler finds it done or not done, never half done.
"""

from __future__ import annotations

from lockwatch._core.originals import TIMEOUT_MAX, allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable

_LONGEST_NS = int(TIMEOUT_MAX) * 1_000_000_000


LONG_NS = 1_000_000_000
"""From when on (nanoseconds) a wait is a long one."""


def _nothing() -> None:
    pass


on_long_wait: Callable[[], None] = _nothing
"""Called by a thread that has slept for `LONG_NS`, before it sleeps on; starts the watchdog."""


def new_parker() -> LockType:
    """Return a parker without a permit."""
    parker = allocate_lock()
    parker.acquire()
    return parker


def park(parker: LockType, timeout_ns: int | None) -> bool:
    """Sleep until there is a permit and take it; at most ``timeout_ns`` nanoseconds (None: for ever).

    Signals interrupt it in the main thread as they do ``threading.Lock.acquire``: their handlers run, and
    what a handler raises comes out of here.

    Returns:
        True if the permit was taken, False if the time was up.
    """
    if timeout_ns is None:
        return parker.acquire(True, LONG_NS / 1e9) or _sleep_on(parker)
    if timeout_ns <= 0:
        return parker.acquire(False)
    if timeout_ns > LONG_NS:
        return parker.acquire(True, LONG_NS / 1e9) or _sleep_on(
            parker, min(timeout_ns, _LONGEST_NS) - LONG_NS
        )
    return parker.acquire(True, timeout_ns / 1e9)


def _sleep_on(parker: LockType, timeout_ns: int | None = None) -> bool:
    """Go on with a wait that has become a long one."""
    on_long_wait()
    return parker.acquire() if timeout_ns is None else parker.acquire(True, timeout_ns / 1e9)


def unpark(parker: LockType) -> None:
    """Make the permit available. Does nothing if it is there already."""
    try:
        parker.release()
    except RuntimeError:
        pass
