"""Small programs for the simulated mutex: what threads do, and what may happen to them.

An operation is a function of the world and the thread that returns steps, like the generator functions that the
mutex was rewritten into. It tells the world when an acquire has ended and when a critical section does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.mutex.simulation import Steps
    from tests.mutex.world import Thread, World

    Operation = Callable[[World, Thread], Steps]

NEVER = 10**9
"""A starvation threshold that is not reached; -1 is one that any wait has exceeded."""

PLAIN = "PlainMutex"
RECURSIVE = "RecursiveMutex"


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """Threads and what may happen to them.

    Attributes:
        threads: For each thread its operations. Threads with one and the same list are interchangeable.
        locks: For each lock its kind.
        threshold: The starvation threshold.
        ticks: How often the clock may advance, at any moment; by more than a threshold of 0.
        interrupts: How many exceptions may come, at any step of an acquire or a release; one for each thread.
        handlers: By thread, an operation that may run once on top of it, at any step of an acquire or a release.
        main: The number of the thread that is the main one, or -1.
        handlers_installed: Whether the main thread has signal handlers of the program's own.
        preemptions: At most so many switches away from a thread that could go on; None for no bound.
        foreign_release: Whether a lock is released by a thread that did not take it.
        may_deadlock: Whether a deadlock that the detector sees is a good end.
        mode_is_left: Whether the lock has to be in normal mode in the end. (With time-outs and interrupts a releaser may
            change the mode for a waiter that has just left; the next one that gets the lock changes it back.)
        fine: Whether exceptions and handlers may come at local statements, too.
    """

    threads: Sequence[Sequence[Operation]]
    locks: Sequence[str] = (PLAIN,)
    threshold: int = NEVER
    ticks: int = 0
    interrupts: int = 0
    handlers: Mapping[int, Operation] = field(default_factory=dict)
    main: int = -1
    handlers_installed: bool = False
    preemptions: int | None = None
    foreign_release: bool = False
    may_deadlock: bool = False
    mode_is_left: bool = False
    fine: bool = False

    def role(self, number: int) -> int:
        """Return the number of the first thread that is interchangeable with this one."""
        return next(other for other in range(number + 1) if self._traits(other) == self._traits(number))

    def _traits(self, number: int) -> tuple[object, ...]:
        return self.threads[number], self.handlers.get(number), number == self.main


def pair(
    *arguments: Any,
    lock: int = 0,
    how: str = "acquire",
    inside: Operation | None = None,
    until_wanted: bool = False,
    release: bool = True,
) -> Operation:
    """Take a lock and release it.

    Args:
        *arguments: Of ``acquire``.
        lock: Its number.
        how: "acquire" or "with".
        inside: What is done inside.
        until_wanted: Hold it until somebody waits for it, or everybody else is through.
        release: Whether to release it; if not, another thread does, perhaps before this one looks again.
    """

    def run(world: World, thread: Thread) -> Steps:
        mutex = world.locks[lock]
        thread.busy = "acquire"
        try:
            got = yield from mutex.__enter__() if how == "with" else mutex.acquire(*arguments)
        except world.interrupt:
            got = False
        thread.busy = ""
        if not release:
            return
        world.acquired(thread, mutex, got)
        if not got:
            return
        if inside is not None:
            yield from inside(world, thread)
        if until_wanted:
            yield world.until(lambda: bool(mutex._queue) or world.alone(thread))
        yield from _release(world, thread, mutex, how)

    return run


def _release(world: World, thread: Thread, mutex: Any, how: str) -> Steps:
    """Release; the critical section lasts until the first step of that."""
    before = mutex._state.get(0), getattr(mutex, "_count", 0)
    number = world.locks.index(mutex)
    depth = thread.within.count(number)
    thread.busy = "release"
    steps = mutex.__exit__(None, None, None) if how == "with" else mutex.release()
    try:
        yield next(steps)
        world.releasing(thread, mutex)
        yield from steps
    except world.interrupt:
        thread.busy = ""
        if thread.within.count(number) == depth:
            world.releasing(thread, mutex)
        if (mutex._state.get(0), getattr(mutex, "_count", 0)) == before:
            yield from mutex.release()  # it came before the release had read what it is to release
    thread.busy = ""


def release_when_owned_by(owner: int, lock: int = 0) -> Operation:
    """Release a lock that another thread has acquired, as soon as the lock says so."""

    def run(world: World, thread: Thread) -> Steps:
        mutex = world.locks[lock]
        agent = world.threads[owner].agent
        yield world.until(lambda: bool(mutex._state) and mutex._state[0][0] is agent)
        yield from mutex.release()

    return run


def after(other: int, operation: Operation) -> Operation:
    """Do something when another thread is through."""

    def run(world: World, thread: Thread) -> Steps:
        yield world.until(lambda: not world.threads[other].stack)
        yield from operation(world, thread)

    return run


def release_once(lock: int = 0) -> Operation:
    """Release a lock when somebody owns it, and try again if another thread was quicker."""

    def run(world: World, thread: Thread) -> Steps:
        mutex = world.locks[lock]
        while True:
            yield world.until(lambda: bool(mutex._state))
            try:
                return (yield from mutex.release())
            except RuntimeError:
                pass

    return run
