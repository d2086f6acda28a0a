"""CPython's own lock tests, unmodified, on our classes (``test.lock_tests`` ships with the interpreters).

``test.test_threading`` binds the same suites to the classes of ``threading``; that these pass with ``install()`` is
part of ``test_under_install.py``.
"""

from __future__ import annotations

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
