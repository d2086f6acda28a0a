"""What a signal handler raises while our code runs is the program's; what our code itself raises never gets there."""

from __future__ import annotations

import _thread
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import lockwatch
from lockwatch import delivery
from lockwatch._core import detector, lockorder, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(not hasattr(signal, "raise_signal"), reason="needs raise_signal")


_LOOK = lockorder.look  # replaced while other tests than those of lock order run


class Alarm(TimeoutError):
    """What the program's handler raises."""


class _Object:
    def __call__(self, *_: object) -> None:
        raise Alarm

    method = __call__


def _function(*_: object) -> None:
    raise Alarm


def _with_argument(_more: object, *_: object) -> None:
    raise Alarm


HANDLERS: dict[str, Any] = {
    "function": _function,
    "method": _Object().method,
    "partial": partial(_with_argument, 1),
    "object": _Object(),
}


@pytest.fixture(params=HANDLERS)
def strike(request: pytest.FixtureRequest) -> Iterator[Callable[..., object]]:
    """Makes the program's signal handler run, and raise, when it is called."""
    before = signal.signal(signal.SIGUSR1, HANDLERS[request.param])
    yield lambda *_: signal.raise_signal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def _nested() -> None:
    one, two = lockwatch.Lock(), lockwatch.Lock()
    try:
        with one, two:
            pass
    finally:
        assert not one.locked()
        assert not two.locked()


def test_while_an_order_is_learned(monkeypatch: pytest.MonkeyPatch, strike: Callable[..., object]) -> None:
    """The exception gets to the program, nothing is left locked, and lock order stays on."""
    monkeypatch.setattr(lockorder, "look", _LOOK)
    monkeypatch.setattr(settings, "order", True)
    monkeypatch.setattr(lockorder, "episode", strike)
    with pytest.raises(Alarm):
        _nested()
    assert settings.order
    assert not delivery.recorded_findings()


def test_an_error_of_ours_while_an_order_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """It switches lock order off, with one word, and the program goes on."""

    def fail() -> None:
        raise Alarm

    monkeypatch.setattr(delivery, "_failed", {})
    monkeypatch.setattr(lockorder, "look", _LOOK)
    monkeypatch.setattr(settings, "order", True)
    monkeypatch.setattr(lockorder, "episode", fail)
    _nested()
    assert not settings.order
    assert [finding.kind for finding in delivery.recorded_findings()] == ["internal"]


def test_while_a_deadlock_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, strike: Callable[..., object]
) -> None:
    """The exception ends the wait, the lock is not taken, and nobody queues for it any more."""
    lock = lockwatch.Lock()
    _take_in_a_thread(lock)
    monkeypatch.setattr(detector, "check", strike)
    with pytest.raises(Alarm):
        lock.acquire()
    assert not lock._queue
    assert not delivery.recorded_findings()


def test_an_error_of_ours_while_a_deadlock_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once, and the wait goes on without the detector."""
    lock = lockwatch.Lock()
    _take_in_a_thread(lock)

    def fail(*_: object) -> None:
        lock.release()  # as another thread would
        raise Alarm

    monkeypatch.setattr(delivery, "_failed", {})
    monkeypatch.setattr(detector, "check", fail)
    assert lock.acquire()
    lock.release()
    assert [finding.kind for finding in delivery.recorded_findings()] == ["internal"]


def _take_in_a_thread(lock: Any) -> None:
    taken = _thread.allocate_lock()
    taken.acquire()

    def take() -> None:
        lock.acquire()
        taken.release()

    _thread.start_new_thread(take, ())
    taken.acquire()
