"""The uncontended lock of tasks in Python: what ``async with`` costs while nobody waits.

The reference for the behaviour of the twin in C (``_fastpath_tasks.h``); `lockwatch._core.taskpath` chooses. What a
lock does when somebody waits is `lockwatch.aio`'s: `TaskLock._enter_slowly` and `TaskLock._exit_slowly`.

Guarantees:
  * ``__aenter__`` and ``__aexit__`` return something to await that is done, and no coroutine, when there is nothing
    to wait for; the loop is not touched.
  * Between the look at the lock and the last store there is no call of Python code. So whoever reads the fields in
    another thread sees a lock that is held or free, and at most its owner a moment late.

Assumes: one loop's thread changes a lock, as asyncio demands; other threads read. Assumed atomic: one attribute
store, one dictionary store.

Cost: entering one look-up of the running task, a frame, a clock, a tuple and two stores; leaving the two stores.
"""

from __future__ import annotations

import asyncio
import os
import sys
from time import monotonic_ns
from types import coroutine
from typing import TYPE_CHECKING, Any
from weakref import ref

from lockwatch._core import settings, tasks
from lockwatch._core.mutexbase import MutexMethods, next_serial
from lockwatch._core.originals import ThreadLocal, get_ident

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator
    from types import CodeType, TracebackType

    from lockwatch._core.agents import Agent
    from lockwatch._core.holds import Hold

_getframe = sys._getframe
_running_loop: Any = asyncio._get_running_loop
_current_task: Any = asyncio.current_task
_current_tasks: Any = getattr(asyncio.tasks, "_current_tasks", None)
_OLD = sys.version_info < (3, 12)
"""Whether ``current_task`` is a Python function, and the running loop costs a system call; the table does not."""
_here = ThreadLocal()
"""Of each thread: a weak reference to the loop that ran in it last, and the thread's number."""


def _look() -> Agent:
    """Return the agent that runs, and note the loop that does."""
    loop = _running_loop()
    if _OLD and hasattr(loop, "_thread_id"):
        _here.loop = ref(loop), get_ident()
    return tasks.current()


def current_agent() -> Agent:
    """Return the agent of the task that runs in this thread, or, outside of tasks, the thread's."""
    try:
        if _OLD:
            loop, ident = _here.loop
            loop = loop()
            return _current_tasks[loop]._lockwatch_agent if loop._thread_id == ident else _look()
        return _current_task()._lockwatch_agent  # type: ignore[no-any-return]
    except (AttributeError, KeyError, RuntimeError):
        return _look()


if _OLD and hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_here.__dict__.clear)  # where the loop does not run, though it says so


@coroutine
def _nothing() -> Generator[Any, Any, None]:
    return
    yield


READY: Any = _nothing()
"""What to await when there is nothing to wait for: a generator that has ended, which returns None each time.

The interpreter takes a generator as it is, where another object is first asked for its iterator.
"""
for _ in READY:
    pass


class TaskRecord(MutexMethods):
    """What is known of a lock of tasks: the fields.

    Attributes:
        hold: Its owner's, or None.
        _queue: The waits for it, in the order in which they get the lock.
        _key, _ref, _starving, _signal, _acquisitions, _contended, _handoffs, _created, _name: As of
            `lockwatch._core.mutexbase.MutexBase`.
    """

    __slots__ = (
        "__weakref__",
        "_acquisitions",
        "_contended",
        "_created",
        "_handoffs",
        "_key",
        "_name",
        "_queue",
        "_ref",
        "_signal",
        "_starving",
        "hold",
    )

    def __init__(self) -> None:
        self.hold: Hold | None = None
        self._queue: list[Any] = []
        self._key = next_serial()
        self._ref = ref(self)
        self._starving = self._signal = False
        self._acquisitions = self._contended = self._handoffs = 0
        self._created: tuple[CodeType, int] | None = None
        self._name: str | None = None


class TaskLock:
    """What ``async with`` calls.

    Attributes:
        _locked, _waiters: As of ``asyncio.Lock``.
        _lockwatch: What is known of the lock.
        _strict: Whether its waiters get it in strict order, so that nobody may take it while somebody waits.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        _locked: bool
        _waiters: Any
        _lockwatch: Any
        _strict: bool

    def _enter_slowly(self, hold: Hold, /) -> Awaitable[None]:
        """Take the lock, or wait for it: somebody has it or waits. ``hold`` says who called, where and when."""
        raise NotImplementedError

    def _learn_order(self) -> None:
        """Have the order of the locks that the owner holds now learned; released again if that raises."""
        raise NotImplementedError

    def _exit_slowly(self) -> None:
        """Let go of the lock: somebody waits, or it is not known who has it, or nobody has."""
        raise NotImplementedError

    def __aenter__(self) -> Awaitable[None]:
        try:
            if _OLD:
                loop, ident = _here.loop
                loop = loop()
                me = _current_tasks[loop]._lockwatch_agent if loop._thread_id == ident else _look()
            else:
                me = _current_task()._lockwatch_agent
        except (AttributeError, KeyError, RuntimeError):
            me = _look()
        frame = _getframe(1)
        record = self._lockwatch
        hold = (me, record._ref, frame.f_code, frame.f_lasti, monotonic_ns(), True)
        if self._locked or self._waiters:
            return self._enter_slowly(hold)
        holds = me.holds
        if holds:
            return self._enter_nested(hold)
        record.hold = holds[record._key] = hold
        self._locked = True  # type: ignore[misc] # a field
        record._acquisitions += 1
        return READY  # type: ignore[no-any-return]

    def _enter_nested(self, hold: Hold) -> Awaitable[None]:
        """Take the lock, which is free, for an agent that holds others."""
        record = self._lockwatch
        record.hold = hold[0].holds[record._key] = hold
        self._locked = True  # type: ignore[misc]
        record._acquisitions += 1
        if settings.order:
            self._learn_order()
        return READY  # type: ignore[no-any-return]

    def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> Awaitable[None]:
        record = self._lockwatch
        hold = record.hold
        if hold is None or self._waiters:
            self._exit_slowly()
            return READY  # type: ignore[no-any-return]
        record.hold = None
        try:
            del hold[0].holds[record._key]
        except KeyError:
            pass  # somebody has forgotten it
        self._locked = False  # type: ignore[misc]
        return READY  # type: ignore[no-any-return]
