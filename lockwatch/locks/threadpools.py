"""``multiprocessing.pool.ThreadPool``: who runs what, for those who wait for its results.

Guarantees: nothing is replaced and nothing paid before somebody waits for a result. Which worker runs which job is read
off the workers' frames then.

=================================  =================================================================================
wait                               blockers
=================================  =================================================================================
``get()``, ``wait()``, ``map()``   ALL workers that run a part of it; if none does, and no result is on its way, ANY
                                   worker of the pool
``next()`` of ``imap()``           ALL: the worker that runs the item; else OPEN
``next()`` of ``imap_unordered()`` OPEN
=================================  =================================================================================

A result cannot be cancelled or set by hand, and ``terminate()`` does not complete any.

Assumes: the local variables ``job``, ``i`` and ``result`` of ``multiprocessing.pool.worker``, as from 3.11 to 3.15; a
GIL, as another thread's variables cannot be read safely without one; and 3.13 (PEP 667), as before that reading them
writes into the frame, and 3.12.1 was seen to crash. Where that is not so all of it is OPEN.
"""

from __future__ import annotations

import multiprocessing.pool as pool_module
import sys
from typing import TYPE_CHECKING, Any, Final

from lockwatch._core.frames import current_frames, standing_still
from lockwatch._core.originals import HAS_GIL
from lockwatch._core.waits import ALL, ANY, NOBODY, OPEN, Blockers
from lockwatch.locks.joins import agent_of
from lockwatch.locks.things import Thing, of_self, recognise

if TYPE_CHECKING:
    from lockwatch._core.agents import Agent
    from lockwatch._core.waits import Wait

_ANYBODY: Final = Blockers(OPEN)
_READS_WORKERS: bool = sys.version_info >= (3, 13) and HAS_GIL
"""Whether what other threads do can be read off their variables."""


class ResultThing(Thing):
    """The result of ``apply_async()`` or ``map_async()``: all parts of it are needed."""

    __slots__ = ()

    def _enders(self, wait: Wait) -> Blockers:
        """Name the workers that run a part, or else all of them."""
        del wait
        result: Any = self.subject
        pool = result._pool
        if pool is None or result.ready():
            return NOBODY
        doing = _doing(pool)
        if not doing:
            return _ANYBODY
        runners = tuple(worker for worker, (job, _) in doing.items() if job == result._job)
        if runners:
            return Blockers(ALL, runners)
        if not _all_delivered(pool):
            return _ANYBODY
        return NOBODY if result.ready() else Blockers(ANY, tuple(doing))  # first that, then this: see below


class ItemThing(Thing):
    """The next item of ``imap()``."""

    __slots__ = ()

    def _enders(self, wait: Wait) -> Blockers:
        """Name the worker that runs the item, if one does."""
        del wait
        items: Any = self.subject
        pool, wanted = items._pool, (items._job, items._index)
        if pool is None or isinstance(items, pool_module.IMapUnorderedIterator):
            return _ANYBODY
        runners = tuple(worker for worker, part in _doing(pool).items() if part == wanted)
        return Blockers(ALL, runners) if runners else _ANYBODY


def _doing(pool: Any) -> dict[Agent, tuple[Any, Any]]:
    """Return which part of which job each worker of a pool of threads runs; nothing if not all are known."""
    if not _READS_WORKERS or not issubclass(type(pool), pool_module.ThreadPool):
        return {}
    threads = list(pool._pool)
    if len(threads) != pool._processes:
        return {}
    doing: dict[Agent, tuple[Any, Any]] = {}
    with standing_still():
        frames = current_frames()
        for thread in threads:
            worker, frame = agent_of(thread), frames.get(thread.ident)
            while frame is not None and frame.f_code is not pool_module.worker.__code__:  # type: ignore[attr-defined]
                frame = frame.f_back
            if worker is None or frame is None:
                return {}
            variables = frame.f_locals
            done = variables.get("result") is not None
            doing[worker] = (None, None) if done else (variables.get("job"), variables.get("i"))
    return doing


def _all_delivered(pool: Any) -> bool:
    """Whether no result of a worker is on its way to those who wait: what was done before this is ready after it."""
    handler = agent_of(pool._result_handler)
    wait = None if handler is None else handler.innermost()
    return wait is not None and wait.resource is pool._outqueue and wait.resource.blockers(wait).rule is OPEN


def recognise_results() -> None:
    """Teach `lockwatch.locks.things` the waits for results."""
    recognise(pool_module.ApplyResult.wait, of_self("AsyncResult", ResultThing, "_event._cond._lock"))
    recognise(pool_module.IMapIterator.next, of_self("imap", ItemThing, "_cond._lock"))
