"""The waits that `install()` puts into the graph beside those for locks: methods of the standard library's classes.

One table of (owner, attribute, replacement), for each module that has such methods; a module that is not
loaded yet is looked after by `lockwatch.patch.postimport` when it is. Methods are replaced in their classes,
so instances that exist already and subclasses have them, too.

Why not wrapt: its wrappers cost some 0.3 us a call, more than ``Condition.wait`` of a notified condition
does, and importing it (80 ms) loads asyncio and logging before they can be patched.

Guarantee: `restore` puts back what is still ours.
"""

from __future__ import annotations

import queue
import threading
from functools import wraps
from typing import TYPE_CHECKING, Any

from lockwatch.locks import condition, importlock, joins, primitives, queueusers
from lockwatch.patch import classes, postimport
from lockwatch.patch.methods import Methods

if TYPE_CHECKING:
    from types import ModuleType

_replaced = Methods()


def replace() -> None:
    """Put the watched waits in place."""
    _replaced.put(_targets())
    _replaced.put(importlock.targets())
    postimport.when_loaded("concurrent.futures._base", _futures)
    postimport.when_loaded("concurrent.futures.thread", _pools)
    postimport.when_loaded("multiprocessing.pool", _thread_pools)
    postimport.when_loaded("asyncio", _event_loops)


def restore() -> None:
    """Put the originals back, where nobody else has replaced ours since."""
    postimport.forget("concurrent.futures._base")
    postimport.forget("concurrent.futures.thread")
    postimport.forget("multiprocessing.pool")
    postimport.forget("asyncio")
    _replaced.restore()


def _targets() -> list[tuple[Any, str, Any]]:
    thread: Any = threading.Thread
    semaphore: Any = threading.Semaphore
    bounded: Any = threading.BoundedSemaphore
    fifo: Any = queue.Queue
    return [
        (threading.Condition, "wait", wraps(threading.Condition.wait)(condition.wait)),
        (threading.Event, "wait", primitives.watched_event_wait(threading.Event.wait)),
        (thread, "join", wraps(thread.join)(joins.watched_join(thread.join))),
        (thread, "start", wraps(thread.start)(joins.watched_start(thread.start))),
        (semaphore, "__init__", wraps(semaphore.__init__)(primitives.note_capacity(semaphore.__init__))),
        (semaphore, "__enter__", primitives.enter_semaphore),
        (semaphore, "acquire", primitives.watched_acquire(semaphore.acquire)),
        (semaphore, "__exit__", primitives.exit_semaphore),
        (semaphore, "release", primitives.watched_release(semaphore.release)),
        (bounded, "release", primitives.watched_release(bounded.release)),
        (queue, "SimpleQueue", classes.SimpleQueue),
        (fifo, "put", queueusers.watched_put(fifo.put)),
        (fifo, "get", queueusers.watched_get(fifo.get)),
    ]


def _futures(_module: ModuleType) -> None:
    from lockwatch.locks import futures

    futures.recognise_futures()
    _replaced.put(futures.targets())


def _pools(_module: ModuleType) -> None:
    from lockwatch.locks import pools

    _replaced.put(pools.targets())


def _thread_pools(_module: ModuleType) -> None:
    from lockwatch.locks import threadpools

    threadpools.recognise_results()


def _event_loops(_module: ModuleType) -> None:
    from lockwatch import remarks
    from lockwatch.aio import cancels, loops

    del cancels, remarks  # they put themselves in place
    _replaced.put(loops.targets())
