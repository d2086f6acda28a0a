"""Locks that are left behind: by a thread or task that has ended, or by the program, which drops them while held.

Noticed where it happens, judged and reported later by the watchdog: a lock may die in any finalizer, a thread may
still release something while its local storage is cleared away.

Guarantees: keeps no lock, thread or task alive (an agent's end is remembered by a weak reference, and a lock that was
dropped by what it was called); nothing is done for an agent that ends without a lock, nor for a lock that dies free,
but for the check of `Dropped.private`. After `close` nothing is noticed any more: the interpreter clears up.

Assumed atomic, with and without the GIL: ``deque.append`` and ``popleft``, one store into or pop from a dictionary,
``dict.copy``.
"""

from __future__ import annotations

import os
import weakref
from collections import deque

from lockwatch._core import hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any

    from lockwatch._core.agents import Agent
    from lockwatch._core.holds import Hold

_MOST = 1_000
"""Places that are remembered, and locks that wait to be judged, at most."""


class Dropped:
    """A watched lock that has died.

    Attributes:
        kind: "Lock", "RLock".
        name: The name given to it, or None.
        created: Where it was made: (code object, instruction), or None.
        agent: Who held it when it died; None if it was free, and may have been private to one call.
        code, lasti, how: Where and how it was taken last.
        acquisitions: How often it was taken.
    """

    __slots__ = ("acquisitions", "agent", "code", "created", "how", "kind", "lasti", "name")

    def __init__(
        self,
        kind: str,
        name: str | None,
        created: tuple[CodeType, int] | None,
        agent: Agent | None,
        code: CodeType | None,
        lasti: int,
        how: bool,
        acquisitions: int,
    ) -> None:
        self.kind = kind
        self.name = name
        self.created = created
        self.agent = agent
        self.code = code
        self.lasti = lasti
        self.how = how
        self.acquisitions = acquisitions


class Passing:
    """The exception that ended a thread or task.

    Attributes:
        name: Of its class.
        places: Through which code it went, innermost last: (code object, instruction).
    """

    __slots__ = ("name", "places")

    def __init__(self, error: BaseException) -> None:
        self.name = type(error).__name__
        self.places: list[tuple[CodeType, int]] = []
        trace = error.__traceback__
        while trace is not None:
            self.places.append((trace.tb_frame.f_code, trace.tb_lasti))
            trace = trace.tb_next


def _nothing() -> None:
    pass


no_more_drops: Callable[[], None] = _nothing
"""Has the C twin tell no more."""

ring: Callable[[], None] = _nothing
"""Wakes the watchdog, which calls `work_off`."""

signal_classes: dict[tuple[int, int], CodeType] = {}
"""Lock classes that are signals (`lockwatch.locks.lock`)."""

ended: dict[int, weakref.ref[Agent]] = {}
"""Agents that have ended and held something then, by serial, while they still do as far as is known."""

passing: dict[int, Passing] = {}
"""By which exception agents that hold something are ending, by serial."""

settled: dict[tuple[int, int], bool] = {}
"""Places, (id of the code object, instruction), that were looked at and are of no further interest."""

_dropped: deque[Dropped] = deque()
_gone: deque[Agent] = deque()
_closed = False


def note_end(agent: Agent, error: BaseException | None = None) -> None:
    """Remember that an agent has ended, and by which exception, if it holds something."""
    serial = agent.serial
    if not agent.holds or _closed:
        passing.pop(serial, None)
        return
    if error is not None:
        passing[serial] = Passing(error)

    def gone(_ref: object) -> None:
        ended.pop(serial, None)
        passing.pop(serial, None)

    ended[serial] = weakref.ref(agent, gone)


def note_exception(agent: Agent, error: BaseException) -> None:
    """Remember by which exception an agent is ending, if it holds something."""
    if agent.holds and not _closed:
        passing[agent.serial] = Passing(error)


def note_gone(agent: Agent) -> None:
    """Remember that a task that holds something has ended, and have that judged; called by finalizers, too."""
    if agent.serial not in ended and not _closed and len(_gone) < _MOST:
        note_end(agent)
        _gone.append(agent)
        ring()


def still_there() -> list[Agent]:
    """Return the agents that have ended and still hold something."""
    found = []
    for serial, ref in ended.copy().items():
        agent = ref()
        if agent is not None and agent.holds:
            found.append(agent)
        else:
            ended.pop(serial, None)
            passing.pop(serial, None)
    return found


def dropped(
    cls: Any,
    name: str | None,
    code: CodeType | None,
    lasti: int,
    agent: Agent | None,
    taken: CodeType | None,
    taken_lasti: int,
    how: bool,
    acquisitions: int,
) -> None:
    """Take note of a lock that has died: ``code`` and ``lasti`` say where it was made. The C twin calls it, too."""
    if _closed or len(_dropped) > _MOST:
        return
    if (id(code), lasti) in signal_classes or (agent is not None and agent.lost_in_fork):
        return
    place = (id(code), lasti) if agent is None else (id(taken), taken_lasti)
    if place in settled and (agent is None or acquisitions < 2):
        return
    created = None if code is None else (code, lasti)
    _dropped.append(Dropped(cls.kind, name, created, agent, taken, taken_lasti, how, acquisitions))
    ring()


def dropped_held(lock: Any, hold: Hold) -> None:
    """Take note of a lock that dies in its owner's hands; for the finalizers that are Python."""
    if not lock._signal:
        code, lasti = lock._created or (None, -1)
        dropped(type(lock), lock._name, code, lasti, hold[0], hold[2], hold[3], hold[5], lock._acquisitions)


def dropped_free(lock: Any) -> None:
    """Take note of a lock that dies free; for the twin in Python, which knows nothing of who took it last."""
    code, lasti = lock._created or (None, -1)
    if code is not None and lock._acquisitions and (id(code), lasti) not in settled:
        dropped(type(lock), lock._name, code, lasti, None, None, -1, True, 1)


def settle(place: tuple[CodeType, int]) -> None:
    """Have locks that were made, or taken, at a place not noticed any more."""
    if len(settled) >= _MOST:
        settled.clear()
    settled[id(place[0]), place[1]] = True


def work_off() -> None:
    """Have the locks judged that have died meanwhile, and the tasks."""
    while _gone:
        try:
            agent = _gone.popleft()
        except IndexError:
            break
        hooks.ended_holding(agent)
    while _dropped:
        try:
            one = _dropped.popleft()
        except IndexError:
            return
        hooks.dropped(one)


def waiting() -> bool:
    """Whether there is anything for `work_off`."""
    return bool(_dropped or _gone)


def close() -> None:
    """Notice nothing any more."""
    global _closed
    _closed = True
    no_more_drops()
    _dropped.clear()
    _gone.clear()


def _after_fork() -> None:
    _dropped.clear()
    _gone.clear()
    ended.clear()
    passing.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
