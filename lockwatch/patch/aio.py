"""What `install()` replaces in asyncio, once that is loaded: methods of its locks and semaphores, in their classes.

So instances that exist already and subclasses have them, too. asyncio's own code goes on running, with its order
and its attributes; what is added is who owns a lock and who waits for it. Events, conditions, barriers and queues
only get to know where they were made: what a task waits for in them is read off its coroutine when somebody asks.

A condition made before keeps its lock's methods as they were then; it is given the present ones.

Guarantee: `restore` puts back what is still ours, and takes away what hangs on the program's objects.
Cost: nothing until asyncio is loaded, and one pass over all objects if it was before `install()`.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

from lockwatch.patch import postimport
from lockwatch.patch.methods import Methods

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

_replaced = Methods()
_KINDS = ("Lock", "Condition", "Semaphore", "Event", "Barrier", "Queue")


def replace() -> None:
    """Put the watched methods in place, now or when asyncio gets loaded."""
    before = "asyncio" in sys.modules
    postimport.when_loaded("asyncio", _put)
    if before:
        _renew_conditions()


def restore() -> None:
    """Put the originals back, where nobody else has replaced ours since."""
    postimport.forget("asyncio")
    if not _replaced:
        return
    _replaced.restore()
    _forget_all()
    _renew_conditions()


def _put(asyncio: ModuleType) -> None:
    _replaced.put(_targets(asyncio))


def _targets(asyncio: Any) -> list[tuple[Any, str, Any]]:
    from lockwatch.aio import order, origin, semaphores, watched
    from lockwatch.aio.primitives import Semaphore

    noted = [
        (kind, "__init__", origin.noting_init(kind.__init__, f"asyncio.{kind.__name__}"))
        for kind in (asyncio.Condition, asyncio.Event, asyncio.Barrier, asyncio.Queue)
    ]
    loop = asyncio.BaseEventLoop
    return [
        (asyncio.Lock, "__init__", watched.noting_init(asyncio.Lock.__init__)),
        (asyncio.Lock, "acquire", watched.acquire),
        (asyncio.Lock, "release", watched.release),
        (asyncio.Semaphore, "__init__", semaphores.noting_init(asyncio.Semaphore.__init__)),
        (asyncio.Semaphore, "acquire", semaphores.acquire),
        (asyncio.Semaphore, "release", semaphores.noting_release(asyncio.Semaphore.release, Semaphore)),
        *noted,
        (loop, "create_task", order.watched_create_task(loop.create_task)),
    ]


def _instances(*names: str) -> Iterator[Any]:
    """All objects of these classes of asyncio, but those of `lockwatch.aio`."""
    asyncio: Any = sys.modules["asyncio"]
    kinds = tuple(getattr(asyncio, name) for name in names)
    for thing in gc.get_objects():
        kind = type(thing)
        if issubclass(kind, kinds) and not kind.__module__.startswith("lockwatch."):
            yield thing


def _renew_conditions() -> None:
    """Have conditions call the methods that their locks have now."""
    for condition in _instances("Condition"):
        lock = condition.__dict__.get("_lock")
        for name in ("acquire", "release"):
            kept = condition.__dict__.get(name)
            if lock is not None and getattr(kept, "__self__", None) is lock:
                setattr(condition, name, getattr(lock, name))


def _forget_all() -> None:
    """Take our records off asyncio's objects; a lock that is held has no owner any more."""
    for thing in _instances(*_KINDS):
        record = thing.__dict__.pop("_lockwatch", None)
        if hasattr(record, "hold"):
            record.gave_back()
