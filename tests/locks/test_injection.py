"""An exception, a finalizer, at every line of the slow path: nothing is lost, nobody hangs, no lock is held by nobody.

A trace function acts in the thread under test, at the n-th line event inside the mutex's slow paths; n runs through all of
them until a run comes through without. After each run the lock is walked by ``_check()`` and still serves everybody.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

import lockwatch
from lockwatch._core import agents, handover, mutex, parking, settings
from lockwatch._core.fastpath import IMPLEMENTATION
from lockwatch.locks.base import WatchedLock

LIMIT = 20
"""Seconds after which a thread counts as hanging."""


class Injected(BaseException):
    """What the trace function raises."""


class Injector:
    """Acts at the n-th line event of the slow path in the thread that it is started in."""

    def __init__(self, line: int, act: Callable[[], None]) -> None:
        self.left = line
        self.act = act
        self.acted = False

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        """Trace only the module under test."""
        if frame.f_code.co_filename not in (mutex.__file__, handover.__file__):
            return None
        if event == "line" and not self.acted:
            if self.left == 0:
                self.acted = True
                self.act()
            self.left -= 1
        return self.trace

    def run(self, body: Callable[[], None]) -> None:
        """Run ``body`` under the trace function; its exceptions are expected."""
        sys.settrace(self.trace)
        try:
            body()
        except (Injected, lockwatch.DeadlockError):
            pass
        finally:
            sys.settrace(None)


def raise_it() -> None:
    """Raise the injected exception."""
    raise Injected


def go(body: Callable[[], None]) -> threading.Thread:
    """Start a thread."""
    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    return thread


def ended(*threads: threading.Thread) -> None:
    """Join threads, or fail."""
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive(), f"{thread.name} hangs; {[row.agent for row in lockwatch.waits()]}"


def until(condition: Callable[[], object]) -> None:
    """Wait until ``condition`` holds."""
    ticker = threading.Event()
    for _ in range(LIMIT * 1000):
        if condition():
            return
        ticker.wait(0.001)
    pytest.fail("the scene was not set in time")


def intact(lock: WatchedLock) -> None:
    """Assert that the lock is free, in order, and can be had by anybody."""
    lock._check()
    assert not lock.locked()
    assert not lock._queue
    assert lock.acquire(timeout=LIMIT)  # type: ignore[attr-defined]
    lock.release()  # type: ignore[attr-defined]
    assert not agents.current().waits
    assert lock._key not in agents.current().holds


def wait_and_release(lock: Any) -> None:
    """Be a waiter that gets the lock and gives it back."""
    lock.acquire()
    lock.release()


def as_waiter(make: Callable[[], Any], injector: Injector) -> None:
    """The thread under test waits between two others; the owner lets go."""
    lock = make()
    lock.acquire()
    before = go(lambda: wait_and_release(lock))
    until(lambda: len(lock._queue) == 1)
    tested = go(lambda: injector.run(lambda: wait_and_release(lock)))
    until(lambda: len(lock._queue) == 2 or injector.acted)
    after = go(lambda: wait_and_release(lock))
    until(lambda: any(waiter.agent.thread() is after for waiter in list(lock._queue)))
    lock.release()
    ended(before, tested, after)
    intact(lock)


def as_timed_waiter(make: Callable[[], Any], injector: Injector) -> None:
    """The thread under test gives up after 10 ms; the one behind it gets the lock."""
    lock = make()
    lock.acquire()

    def body() -> None:
        if lock.acquire(timeout=0.01):
            lock.release()

    tested = go(lambda: injector.run(body))
    until(lambda: lock._queue or injector.acted or not tested.is_alive())
    after = go(lambda: wait_and_release(lock))
    ended(tested)
    lock.release()
    ended(after)
    intact(lock)


def as_victim(make: Callable[[], Any], injector: Injector) -> None:
    """The thread under test closes a cycle and is its victim; the other one goes on."""
    one, two = make(), make()
    first = threading.Event()
    second = threading.Event()

    def partner() -> None:
        try:
            with one:
                first.set()
                second.wait(LIMIT)
                with two:
                    pass
        except lockwatch.DeadlockError:
            pass

    def body() -> None:
        first.wait(LIMIT)
        two.acquire()
        try:
            second.set()
            until(lambda: two._queue)
            one.acquire()
            one.release()
        finally:
            two.release()

    other = go(partner)
    tested = go(lambda: injector.run(body))
    ended(other, tested)
    intact(one)
    intact(two)


def as_releaser(make: Callable[[], Any], injector: Injector) -> None:
    """The thread under test lets go of a lock that two others wait for."""
    lock = make()
    taken = threading.Event()
    go_on = threading.Event()

    def body() -> None:
        lock.acquire()
        taken.set()
        go_on.wait(LIMIT)
        lock.release()

    tested = go(lambda: injector.run(body))
    taken.wait(LIMIT)
    others = [go(lambda: wait_and_release(lock)) for _ in range(2)]
    until(lambda: len(lock._queue) == 2)
    if not settings.starvation_threshold_ns:
        lock._starving = True  # the twin in C releases in normal mode by itself
    go_on.set()
    ended(tested, *others)
    intact(lock)


SCENES = [as_waiter, as_timed_waiter, as_victim, as_releaser]
KINDS = [lockwatch.Lock, lockwatch.RLock]


def through_all_lines(
    scene: Callable[[Callable[[], Any], Injector], None], make: Callable[[], Any], act: Any
) -> int:
    """Run ``scene`` once for each line, with ``act`` injected there; returns how many there were.

    A scene that is all in C counts as many.
    """
    line = 0
    while True:
        injector = Injector(line, act() if act is not raise_it else raise_it)
        scene(make, injector)
        if not injector.acted:
            in_c = scene is as_releaser and IMPLEMENTATION == "c" and settings.starvation_threshold_ns
            return 1000 if in_c else line
        line += 1
        assert line < 900


@pytest.fixture(params=[1_000_000_000_000, 0], ids=["normal", "starvation"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the locks in normal mode, or send them into starvation mode at the first waiter that is woken."""
    monkeypatch.setattr(settings, "starvation_threshold_ns", request.param)


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("make", KINDS, ids=["Lock", "RLock"])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_exceptions(scene: Any, make: Any) -> None:
    """An exception at any line leaves no lost wake-up, no stale waiter and no lock held by nobody."""
    assert through_all_lines(scene, make, raise_it) > 5


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_finalizers_that_wait(scene: Any) -> None:
    """A finalizer at any line that waits for another watched lock neither hangs nor corrupts anything."""

    def act() -> Callable[[], None]:
        other = lockwatch.Lock()

        def finalizer() -> None:
            def holder() -> None:
                with other:
                    taken.set()
                    until(lambda: other._queue)

            taken = threading.Event()
            thread = go(holder)
            taken.wait(LIMIT)
            with other:
                pass
            ended(thread)

        return finalizer

    assert through_all_lines(scene, lockwatch.Lock, act) > 5


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_finalizers_that_take_the_same_lock(scene: Any) -> None:
    """A finalizer at any line that takes the very lock, or tries to for 1 ms, neither hangs nor corrupts anything."""
    made: list[Any] = []

    def make() -> Any:
        made.append(lockwatch.RLock())
        return made[-1]

    def act() -> Callable[[], None]:
        made.clear()

        def finalizer() -> None:
            for lock in made:
                if lock.acquire(timeout=0.001):
                    lock.release()

        return finalizer

    assert through_all_lines(scene, make, act) > 5


def test_the_harness_sees_a_lost_wake_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a waiter that leaves did not pass the wake-up on (M3), the test above would fail."""
    monkeypatch.setattr(settings, "starvation_threshold_ns", 1_000_000_000_000)
    leave = mutex._leave

    def leave_quietly(lock: Any, waiter: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(mutex, "wake_next", lambda lock: None)
            leave(lock, waiter)

    lock = lockwatch.Lock()
    lock.acquire()
    monkeypatch.setattr(mutex, "_leave", leave_quietly)
    woken = threading.Event()
    park = parking.park

    def interrupted_when_woken(parker: Any, timeout_ns: int | None) -> bool:
        permit = park(parker, timeout_ns)
        if threading.current_thread() is first:
            woken.set()
            raise Injected
        return bool(permit)

    monkeypatch.setattr(parking, "park", interrupted_when_woken)

    def waits() -> None:
        try:
            wait_and_release(lock)
        except Injected:
            pass

    first = threading.Thread(target=waits, daemon=True)
    first.start()
    until(lambda: len(lock._queue) == 1)
    second = go(lambda: wait_and_release(lock))
    until(lambda: len(lock._queue) == 2)
    lock.release()
    ended(first)
    assert woken.is_set()
    with pytest.raises(AssertionError, match="M1"):
        lock._check()
    monkeypatch.undo()
    handover.wake_next(lock)
    ended(second)
