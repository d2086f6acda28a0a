"""CPython's own lock tests, unmodified, on our classes (``test.lock_tests`` ships with the interpreters).

``test.test_threading`` binds the same suites to the classes of ``threading``; that these pass with ``install()`` is
part of ``test_under_install.py``.
"""

from __future__ import annotations

import sys
import threading
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import lockwatch

lock_tests: Any = pytest.importorskip(
    "test.lock_tests", reason="this interpreter ships no test package (Debian: libpython3.x-testsuite)"
)


class TestLock(lock_tests.LockTests):
    locktype = staticmethod(lockwatch.Lock)


class TestRLock(lock_tests.RLockTests):
    locktype = staticmethod(lockwatch.RLock)


class TestEvent(lock_tests.EventTests):
    eventtype = staticmethod(lockwatch.Event)


class TestCondition(lock_tests.ConditionTests):
    condtype = staticmethod(lockwatch.Condition)


class TestConditionAsRLock(lock_tests.RLockTests):
    """Condition passes acquire() and release() on; test_threading binds the suite to it in the same way."""

    locktype = staticmethod(lockwatch.Condition)

    def test_constructor_noargs(self) -> None:
        """Condition takes a lock (the test is in 3.15's suite)."""
        self.skipTest("Condition allows positional arguments")

    def test_recursion_count(self) -> None:
        """Condition has no ``_recursion_count``."""
        self.skipTest("Condition does not expose _recursion_count()")


class TestSemaphore(lock_tests.SemaphoreTests):
    semtype = staticmethod(lockwatch.Semaphore)


class TestBoundedSemaphore(lock_tests.BoundedSemaphoreTests):
    semtype = staticmethod(lockwatch.BoundedSemaphore)


class TestBarrier(lock_tests.BarrierTests):
    barriertype = staticmethod(lockwatch.Barrier)


@pytest.mark.parametrize("kind", [threading.Condition, lockwatch.Condition], ids=["threading", "lockwatch"])
def test_strange_timeouts(kind: Any) -> None:
    """What ``Condition.wait`` makes of time-outs that are too large, no numbers, or NaN: not in CPython's tests."""
    condition = kind()
    with condition:
        for too_large in (1e10, float("inf"), threading.TIMEOUT_MAX * 2):
            with pytest.raises(OverflowError):
                condition.wait(too_large)
        # From 3.15 on, whatever float() takes from a number will do.
        for no_number in ("1",) if sys.version_info >= (3, 15) else ("1", Fraction(1, 2), Decimal("0.5")):
            with pytest.raises(TypeError):
                condition.wait(no_number)
        for timeout in (0, -1, -1e10, float("-inf"), False):
            assert not condition.wait(timeout)
        if sys.version_info < (3, 14):  # an error since some 3.14.x, where CPython's tests say so
            assert not condition.wait(float("nan"))
        assert not condition._waiters
        assert condition._is_owned()
