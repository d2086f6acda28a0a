"""Helpers for tests of lock order: programs in one process with orders forgotten before each, and threads one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

import lockwatch
from lockwatch import config, delivery, orders
from lockwatch._core import orderbook, segments

LIMIT = 20.0


class Stage:
    """What a test's threads do, one after the other, so that no deadlock can happen."""

    def __init__(self) -> None:
        self._begun = False

    def run(self, *bodies: Callable[[], object]) -> None:
        """Run each body in a thread of its own, in this order; all threads were started before the first runs."""
        turns = [threading.Event() for _ in bodies]
        done = [threading.Event() for _ in bodies]
        errors: list[BaseException] = []

        def work(number: int) -> None:
            turns[number].wait(LIMIT)
            try:
                bodies[number]()
            except BaseException as error:
                errors.append(error)
            done[number].set()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(len(bodies))]
        for thread in threads:
            segments.started(thread)
            thread.start()
        for turn, end in zip(turns, done, strict=True):
            turn.set()
            assert end.wait(LIMIT)
        for thread in threads:
            thread.join(LIMIT)
            segments.joined(thread)
        if errors:
            raise errors[0]

    def found(self) -> list[lockwatch.Finding]:
        """The findings of lock order so far."""
        orderbook.work_off()
        return [one for one in lockwatch.recorded_findings() if one.kind == "lock-order"]


def nest(*locks: object) -> Callable[[], None]:
    """A body that takes the locks, one under the other."""

    def body() -> None:
        taken = []
        for lock in locks:
            lock.acquire()  # type: ignore[attr-defined]
            taken.append(lock)
        for lock in reversed(taken):
            lock.release()  # type: ignore[attr-defined]

    return body


@pytest.fixture
def stage() -> Iterator[Stage]:
    """The stage, with nothing learned so far and the defaults in force."""
    before = config.explicit()
    config.reset({"order": "warn"})
    orders.forget_declared()
    delivery.clear()
    yield Stage()
    config.reset(before)
    orders.forget_declared()
    delivery.clear()
