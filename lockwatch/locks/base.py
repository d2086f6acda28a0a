"""What all our locks have in common beside the mechanism: identity, refusals, statistics, the fork protocol.

Guarantee: a lock is never copied or pickled by accident (Go's ``vet copylocks``): two copies would protect
    nothing.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from lockwatch import misuse
from lockwatch._core import agents
from lockwatch._core.fastpath import MutexBase, know_machinery
from lockwatch._core.handover import OWNED, reset
from lockwatch._core.holds import AGENT, CODE, LASTI, PARKER
from lockwatch.errors import CopyError, MisuseError
from lockwatch.locks.machinery import _known, makes_for_caller
from lockwatch.naming import lock_name, site

if TYPE_CHECKING:
    from types import CodeType

    from lockwatch._core.agents import Agent
    from lockwatch._core.holds import Hold


know_machinery(_known)


@dataclass(frozen=True, slots=True)
class LockStatistics:
    """What a lock has been through; a snapshot.

    Attributes:
        owner: The name of the owning thread, or None.
        count: How many levels the owner holds (0 when free; more than 1 only for re-entrant locks).
        waiters: How many agents wait for it.
        mode: "normal" or "starvation".
        acquisitions: How often it was taken (re-entry not counted).
        contended: How many of these had to wait.
        handoffs: How often a release handed it over to the longest waiter directly.
    """

    owner: str | None
    count: int
    waiters: int
    mode: str
    acquisitions: int
    contended: int
    handoffs: int


class Named:
    """What is named after the place where it was made."""

    __slots__ = ()

    if TYPE_CHECKING:  # slots of the class that this is mixed into

        @property
        def _name(self) -> str | None: ...
        @_name.setter
        def _name(self, name: str | None) -> None: ...
        @property
        def _created(self) -> tuple[CodeType, int] | None: ...
        @_created.setter
        def _created(self, place: tuple[CodeType, int] | None) -> None: ...

    def _made(self, depth: int, name: str | None) -> None:
        """Note the name, and where the lock was made: the first caller that is not machinery."""
        if name is not None and not isinstance(name, str):
            raise TypeError(f"the name of a lock must be a str, not {type(name).__name__}")
        self._name = name
        frame = sys._getframe(depth + 1)
        while frame.f_back is not None and makes_for_caller(frame):
            frame = frame.f_back
        self._created = (frame.f_code, frame.f_lasti)

    @property
    def name(self) -> str | None:
        """The name given to the lock, or else the one that the code gives it where it was made (``Client._lock``)."""
        if self._name is not None or self._created is None:
            return self._name
        return lock_name(*self._created)

    @property
    def lock_class(self) -> str:
        """Its lock class: all locks made at one place in the source, or given one name, are of one class."""
        if self._name is not None:
            return self._name
        return "unknown" if self._created is None else str(site(*self._created))


class Uncopied:
    """What refuses to be copied or pickled."""

    __slots__ = ()

    def _refuse_copy(self, what: str) -> NoReturn:
        misuse.copied(self, what)
        raise CopyError(
            f"cannot {what} {type(self).__name__!r} object: a copy of a lock does not protect what the lock protects. "
            "Make a new lock in the copy (define __copy__, __deepcopy__ or __getstate__ there), or share this one."
        )

    def __copy__(self) -> NoReturn:
        self._refuse_copy("copy")

    def __deepcopy__(self, memo: dict[int, Any]) -> NoReturn:
        self._refuse_copy("deep-copy")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self._refuse_copy("pickle")


class Watched(Named, Uncopied):
    """What all our locks have that is neither fast path nor policy of one of them; the fields come from elsewhere."""

    __slots__ = ()

    if TYPE_CHECKING:  # the fields of the class that this is mixed into
        _state: dict[int, Hold]
        _queue: list[Any]
        _starving: bool
        _signal: bool
        _key: int
        _acquisitions: int
        _contended: int
        _handoffs: int

        def locked(self) -> bool:  # noqa: D102
            ...

    kind = "lock"

    def _owner(self) -> Hold | None:
        return self._state.get(OWNED)

    def _level(self) -> int:
        return 1 if OWNED in self._state else 0

    def statistics(self) -> LockStatistics:
        """Return a snapshot of the lock's counters and present state.

        Nothing is locked for it, so it may be a mixed one.
        """
        hold = self._owner()
        return LockStatistics(
            None if hold is None else hold[AGENT].label(),
            self._level(),
            len(self._queue),
            "starvation" if self._starving else "normal",
            self._acquisitions,
            self._contended,
            self._handoffs,
        )

    def assert_owned(self) -> None:
        """Raise unless the calling thread holds the lock; for code that must be called with it.

        Raises:
            MisuseError: It does not.
        """
        self._assert_owner(agents.current(), owned=True)

    def assert_not_owned(self) -> None:
        """Raise if the calling thread holds the lock; for code that must be called without it.

        Raises:
            MisuseError: It does; the message says where it took it.
        """
        self._assert_owner(agents.current(), owned=False)

    def _assert_owner(self, agent: Agent, owned: bool) -> None:
        """Raise unless ``agent`` holds the lock, or does not, as it should."""
        hold = self._owner()
        if (hold is not None and hold[AGENT] is agent) is not owned:
            holder = "nobody holds it" if hold is None else self._holder(hold)
            should = "must" if owned else "must not"
            raise MisuseError(f"{self._title()} {should} be held by this {agent.kind} here, but {holder}")

    def _at_fork_reinit(self) -> None:
        """Make the lock free, whoever held it; the standard library calls this in the child after a fork."""
        reset(self)  # type: ignore[arg-type]

    def _holder(self, hold: Hold) -> str:
        """Say who owns the lock and where it was taken, for messages."""
        agent = hold[AGENT]
        who = f"{agent.kind} {agent.label()!r}{' (which has ended)' if agent.ended else ''}"
        return f"{who} took it at {site(hold[CODE], hold[LASTI])}"

    def __repr__(self) -> str:
        cls = type(self)
        state = "locked" if self.locked() else "unlocked"
        return f"<{state} {cls.__module__}.{cls.__qualname__} object{self._details()} at {id(self):#x}>"

    def _title(self) -> str:
        """Name the lock for messages."""
        name = self.name
        return f"{self.kind} made at {self.lock_class}" if name is None else f"{self.kind} {name!r}"

    def _details(self) -> str:
        hold = self._owner()
        named = f" {self._name!r}" if self._name is not None else ""
        return named if hold is None else f"{named} owner={hold[AGENT].label()!r}"

    def _check(self) -> None:
        """Assert the invariants that hold while no thread is inside the lock's code; for tests, and expensive."""
        hold = self._owner()
        queue = list(self._queue)
        try:
            assert len(queue) == len(set(map(id, queue))), "M2: a waiter is in the queue twice"
            if hold is None:
                assert not queue, "M1: the lock is free, and waiters sleep"
            else:
                assert hold[AGENT].ended or hold[AGENT].holds.get(self._key) is hold, (
                    "F2: the owner does not list the lock"
                )
                assert len(hold) <= PARKER or all(waiter.parker is not hold[PARKER] for waiter in queue), (
                    "the owner still waits"
                )
            for waiter in queue:
                assert waiter in waiter.agent.waits, "a queued waiter is not in the graph"
                assert not waiter.leaving, "M3: a waiter that left is in the queue"
        except AssertionError as error:
            error.add_note(f"{self!r} state={self._state} queue={queue} starving={self._starving}")
            raise


class WatchedLock(Watched, MutexBase):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Base of `Lock` and `RLock`: with the fields of a lock of threads."""

    __slots__ = ()
