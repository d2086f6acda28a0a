"""What threads wait for beside locks, as resources of the graph, and who could end each wait.

All of ``threading``'s and ``queue``'s waits, and those of ``concurrent.futures``, come down to
``Condition.wait``. What is really waited for is read off the calling frame at that moment, when somebody is
about to sleep: nothing is paid, and nothing replaced, before (MySQL calls it materialising).

=====================  ==========================================================================================
wait                   blockers
=====================  ==========================================================================================
Condition, Event,      OPEN: anyone awake
Barrier, Queue
Semaphore              ANY agent that took a permit by ``with``, if those are all permits that there are, and
                       none ever came back but by ``with``; else OPEN
Future, running        ALL: the thread that runs it
Future, pending        ANY worker of its pool
futures.wait(), all    ALL threads that run one of them
=====================  ==========================================================================================

Assumes the frame layout of the standard library's functions named in `_BUILDERS`; a function that was
replaced by another is not recognised, and its wait is one for a condition.
"""

from __future__ import annotations

import queue
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from lockwatch._core.waits import ALL, ANY, FREE, NOBODY, OPEN, Blockers
from lockwatch.locks.machinery import is_machinery
from lockwatch.locks.queueusers import CONSUMERS, PRODUCERS, users_of
from lockwatch.locks.sight import GIVES_BACK, in_sight
from lockwatch.locks.turns import owner_by_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from lockwatch._core.agents import Agent
    from lockwatch._core.waits import Wait

_ANYBODY = Blockers(OPEN)
_COMPLETES = frozenset({"set_exception", "set_result"})
_CANCELS = _COMPLETES | {"cancel", "cancel_futures"}


class Thing:
    """A resource that anybody may be able to let go: a condition, an event, a barrier, a queue.

    Attributes:
        kind: "Condition", "Event", ...
        subject: The object itself.
        lock: The lock inside it, which knows where it was made.
        condition: The condition in whose queue the waiter stands.
        waiter: What stands there for it.
    """

    __slots__ = ("condition", "kind", "lock", "subject", "waiter")

    def __init__(self, kind: str, subject: object, lock: object) -> None:
        self.kind = kind
        self.subject = subject
        self.lock = lock
        self.condition: Any = None
        self.waiter: Any = None

    @property
    def name(self) -> str | None:
        """The name that the code gives it where it is made."""
        name: str | None = getattr(self.lock, "name", None)
        return name

    @property
    def lock_class(self) -> str:
        """Where it was made."""
        made: str = getattr(self.lock, "lock_class", "unknown")
        return made

    @property
    def _created(self) -> tuple[CodeType, int] | None:
        created: tuple[CodeType, int] | None = getattr(self.lock, "_created", None)
        return created

    def blockers(self, wait: Wait, /) -> Blockers:
        """Say that anybody could end the wait, unless that has happened."""
        return NOBODY if self._notified(wait) else self._enders(wait)

    def _notified(self, wait: Wait) -> bool:
        """Whether the waiter was notified: ``notify`` lets it go, and takes it out of the queue then."""
        del wait
        return self.waiter is None or self.waiter.notified or self.waiter not in self.condition._waiters

    def _enders(self, wait: Wait) -> Blockers:
        """Say who could notify."""
        del wait
        return _ANYBODY

    def forget_waits(self, survivor: Agent, /) -> None:
        """Nothing is kept here."""


class SemaphoreThing(Thing):
    """A semaphore. Permits taken by ``with`` come back from whoever took them; others may come from anywhere."""

    __slots__ = ()

    def _enders(self, wait: Wait) -> Blockers:
        """Name those who hold the permits, if all permits are accounted for."""
        semaphore: Any = self.subject
        if semaphore._value > 0:
            return NOBODY
        if getattr(semaphore, "_lockwatch_loose", False):
            return _ANYBODY
        holders: dict[Agent, int] = getattr(semaphore, "_lockwatch_permits", {}).copy()
        owner = owner_by_with(semaphore)
        if owner is not None:
            holders[owner] = holders.get(owner, 0) + 1
        if holders and sum(holders.values()) == getattr(semaphore, "_lockwatch_capacity", None):
            sight = partial(in_sight, semaphore, global_verbs=GIVES_BACK) if wait.hope else None
            return Blockers(ALL if len(holders) == 1 else ANY, tuple(holders), sight=sight)
        return _ANYBODY


class QueueThing(Thing):
    """A queue: who takes something out waits for its producers, who puts in or joins for its consumers.

    Attributes:
        side: Whom it waits for (`lockwatch.locks.queueusers`).
    """

    __slots__ = ("side",)

    def __init__(self, kind: str, subject: object, lock: object, side: str) -> None:
        super().__init__(kind, subject, lock)
        self.side = side

    def users(self, wait: Wait) -> tuple[Agent, ...]:
        """Name those who have been on the other side so far; for the report."""
        return users_of(self.subject, self.side, wait.agent)


class FutureThing(Thing):
    """A future of ``concurrent.futures``."""

    __slots__ = ()

    def _enders(self, wait: Wait) -> Blockers:
        """Name the thread that runs it, or the workers of the pool in whose queue it stands."""
        return future_blockers(self.subject, wait.hope)


class FuturesThing(Thing):
    """Several futures at once: ``futures.wait()`` and ``as_completed()``."""

    __slots__ = ("everyone",)

    def __init__(self, futures: object, lock: object, *, everyone: bool) -> None:
        super().__init__("futures", futures, lock)
        self.everyone = everyone

    def _enders(self, wait: Wait) -> Blockers:
        """Combine the futures' answers: all must end, or any one of them."""
        answers = [future_blockers(future, wait.hope) for future in list(self.subject)]  # type: ignore[call-overload]
        if all(answer.rule is FREE for answer in answers):
            return NOBODY
        if self.everyone:
            runners = [agent for answer in answers if answer.rule is ALL for agent in answer.agents]
            if runners:
                return Blockers(ALL, tuple(dict.fromkeys(runners)), sight=_any_sight(answers))
            pending = [answer for answer in answers if answer.rule is ANY]
            return pending[0] if pending else _ANYBODY
        if any(answer.rule is FREE for answer in answers):
            return NOBODY
        if any(answer.rule is OPEN for answer in answers):
            return _ANYBODY
        enders = dict.fromkeys(agent for answer in answers for agent in answer.agents)
        return Blockers(ANY, tuple(enders), sight=_any_sight(answers)) if enders else NOBODY


def _any_sight(answers: list[Blockers]) -> Callable[[set[int]], bool] | None:
    """Combine soft answers: one future that somebody else ends may be enough."""
    sights = [answer.sight for answer in answers if answer.sight is not None]
    return (lambda idle: any(sight(idle) for sight in sights)) if sights else None


def future_blockers(future: Any, hope: bool) -> Blockers:
    """Say who could end a wait for one future; with ``hope``, that somebody else may cancel or complete it."""
    state = future._state
    if state in ("FINISHED", "CANCELLED", "CANCELLED_AND_NOTIFIED"):
        return NOBODY
    runner: Agent | None = getattr(future, "_lockwatch_runner", None)
    if runner is not None:
        return Blockers(ALL, (runner,), sight=partial(in_sight, future, verbs=_COMPLETES) if hope else None)
    workers: Callable[[], tuple[Agent, ...] | None] | None = getattr(future, "_lockwatch_workers", None)
    if state == "PENDING" and workers is not None:
        agents_ = workers()
        if agents_:
            return Blockers(ANY, agents_, sight=partial(_may_be_cancelled, future, workers) if hope else None)
    return elsewhere(future) or _ANYBODY


def _unknown(_future: Any) -> Blockers | None:
    return None


elsewhere: Callable[[Any], Blockers | None] = _unknown
"""Says who could complete a future that no pool made, if that is known: a task, for `run_coroutine_threadsafe`."""


def _may_be_cancelled(future: Any, workers: Any, idle: set[int]) -> bool:
    """Whether somebody sees the future, or its pool, and cancels futures or pools."""
    things = (future, workers.pool())
    return any(in_sight(thing, idle, verbs=_CANCELS) for thing in things if thing is not None)


def of_self(
    kind: str, make: Callable[[str, object, object], Thing] = Thing, lock: str = "_cond._lock"
) -> Callable[[FrameType], Thing]:
    """Make a builder for methods whose ``self`` is the thing."""
    path = lock.split(".")

    def build(frame: FrameType) -> Thing:
        subject = inner = frame.f_locals["self"]
        for attribute in path:
            inner = getattr(inner, attribute, None)
        return make(kind, subject, inner)

    return build


_BUILDERS: dict[int, tuple[CodeType, Callable[[FrameType], Thing]]] = {}
"""By the id of the code object of a function that calls ``Condition.wait``: what it waits for."""


def recognise(function: Any, build: Callable[[FrameType], Thing]) -> None:
    """Have waits inside ``function`` be waits for what ``build`` makes of its frame."""
    code = getattr(function, "__code__", None)
    if code is not None:
        _BUILDERS[id(code)] = (code, build)


def thing_of(condition: Any, frame: FrameType | None) -> tuple[Thing, FrameType | None]:
    """Say what a call of ``Condition.wait`` waits for.

    Args:
        condition: The condition.
        frame: The frame that called ``wait``.

    Returns:
        The resource, and the frame of the program that waits: the first that is not machinery, if there is one.
    """
    thing: Thing | None = None
    caller = frame
    while caller is not None and is_machinery(caller):
        known = _BUILDERS.get(id(caller.f_code))
        if known is not None:
            frame = caller
            try:
                thing = known[1](caller)
            except (AttributeError, KeyError, TypeError):  # a version that keeps it elsewhere
                thing = None
        caller = caller.f_back
    if thing is None:
        thing = Thing("Condition", condition, getattr(condition, "_lock", None))
    thing.condition = condition
    return thing, caller or frame


recognise(threading.Event.wait, of_self("Event"))
recognise(threading.Semaphore.acquire, of_self("Semaphore", SemaphoreThing))
recognise(threading.Barrier._wait, of_self("Barrier"))  # type: ignore[attr-defined]
recognise(threading.Barrier._enter, of_self("Barrier"))  # type: ignore[attr-defined]
for _method, _side in (
    (queue.Queue.get, PRODUCERS),
    (queue.Queue.put, CONSUMERS),
    (queue.Queue.join, CONSUMERS),
):
    recognise(_method, of_self("Queue", partial(QueueThing, side=_side), lock="mutex"))
