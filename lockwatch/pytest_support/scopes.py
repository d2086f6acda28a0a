"""Which test a thread belongs to, and which test a finding.

A thread belongs to the test that started it, or to that of the thread that did: noted at ``Thread.start``. What a
fixture of a wider scope than one test starts belongs to no test. A finding belongs to the test that runs; where
several run at once (runners that give each test a thread), to the one whose thread made it or takes part in it.

Assumed atomic, with and without the GIL: one store into or pop from a dictionary, ``dict.copy``, ``deque.append``,
one attribute store.

Cost: two dictionary look-ups for each thread that is started.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from functools import wraps
from typing import TYPE_CHECKING, Any

from lockwatch._core import lockorder
from lockwatch._core.originals import get_ident
from lockwatch.patch.methods import Methods

if TYPE_CHECKING:
    from collections.abc import Callable
    from weakref import ref

    import pytest

    from lockwatch.findings import Finding
    from lockwatch.pytest_support.settings import Settings

_ATTRIBUTE = "_lockwatch_test"


class Scope:
    """One run of one test, from its setup to the end of its teardown.

    Attributes:
        nodeid: the test.
        item: pytest's object for it.
        settings: what holds for it.
        ident, pid: the thread and the process that run it.
        phase: ``setup``, ``call`` or ``teardown``; "" before and after.
        inbox: findings that nobody has looked at yet; any thread may append.
        judged: findings that count, with the hook's word: failures and others.
        remarks: what else is to be said in the test's report.
        held: what its thread held before, by number.
        known_tasks: the tasks that were there before, or belong to a wider fixture.
        debugged: whether somebody was in the debugger: time means nothing then.
    """

    def __init__(self, item: pytest.Item, settings: Settings) -> None:
        self.nodeid = item.nodeid
        self.item = item
        self.settings = settings
        self.ident = get_ident()
        self.pid = os.getpid()
        self.phase = ""
        self.inbox: deque[Finding] = deque()
        self.judged: list[Finding] = []
        self.remarks: list[str] = []
        self.held: dict[int, Any] = {}
        self.known_tasks: set[ref[Any]] = set()
        self.debugged = False


running: dict[int, Scope] = {}
"""The tests that run, by the thread that runs each."""

_wide: set[int] = set()
"""Threads that are setting up a fixture of a wider scope than one test."""

_replaced = Methods()


def begin() -> None:
    """Note from now on which test starts which thread."""
    thread: Any = threading.Thread
    _replaced.put([(thread, "start", _watched_start(thread.start))])
    lockorder.episode = _nodeid


def end() -> None:
    """Note nothing any more."""
    _replaced.restore()
    lockorder.episode = lockorder._no_episode
    running.clear()


def _watched_start(original: Callable[[Any], None]) -> Callable[[Any], None]:
    @wraps(original)
    def start(self: Any) -> None:
        self._lockwatch_test = current()
        original(self)

    return start


def _nodeid() -> str | None:
    scope = current()
    return None if scope is None else scope.nodeid


def current() -> Scope | None:
    """Return the test that the calling thread works for, or None."""
    ident = get_ident()
    if ident in _wide:
        return None
    return running.get(ident) or of_ident(ident)


def of_ident(ident: int) -> Scope | None:
    """Return the test that a thread belongs to; its own thread, or one that was started for it."""
    scope = running.get(ident)
    if scope is not None:
        return scope
    thread = threading._active.get(ident)  # type: ignore[attr-defined]
    return None if thread is None else of_thread(thread)


def of_thread(thread: threading.Thread) -> Scope | None:
    """Return the test that a thread was started for."""
    return getattr(thread, _ATTRIBUTE, None)


def of_finding(finding: Finding) -> Scope | None:
    """Return the test that a finding belongs to, made just now by the calling thread; None while none runs."""
    tests = list(running.copy().values())
    if len(tests) <= 1:
        return tests[0] if tests else None
    mine = of_ident(get_ident())
    if mine in tests:
        return mine
    for party in finding.parties:
        scope = None if party.ident is None else of_ident(party.ident)
        if scope in tests:
            return scope
    return tests[0]


def threads_of(scope: Scope) -> list[threading.Thread]:
    """Return the threads of a test that are alive, beside the one that runs it."""
    return [
        thread
        for thread in list(threading._active.copy().values())  # type: ignore[attr-defined]
        if of_thread(thread) is scope and thread.is_alive() and thread.ident != scope.ident
    ]


class wider:  # noqa: N801 - used as a statement
    """A block in which the calling thread sets up a fixture that outlives the test."""

    __slots__ = ("ident", "outermost")

    def __enter__(self) -> None:
        self.ident = get_ident()
        self.outermost = self.ident not in _wide
        _wide.add(self.ident)

    def __exit__(self, *_error: object) -> None:
        if self.outermost:
            _wide.discard(self.ident)
