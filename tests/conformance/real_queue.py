"""``test.test_queue``, bound to the ``queue`` module that programs use.

CPython's suite tests fresh copies of the module, whose ``SimpleQueue`` is never replaced.
"""

import queue
import unittest
from typing import Any

from test import test_queue

suite: Any = test_queue
SimpleQueue: Any = queue.SimpleQueue


class QueueTest(suite.QueueTest, unittest.TestCase):
    queue = queue


class LifoQueueTest(suite.LifoQueueTest, unittest.TestCase):
    queue = queue


class PriorityQueueTest(suite.PriorityQueueTest, unittest.TestCase):
    queue = queue


class FailingQueueTest(suite.FailingQueueTest, unittest.TestCase):
    queue = queue


class SimpleQueueTest(suite.BaseSimpleQueueTest, unittest.TestCase):
    queue = queue
    type2test = SimpleQueue
    test_reentrancy = suite.CSimpleQueueTest.test_reentrancy

    def test_subclass_without_init(self) -> None:
        """The C class makes its storage in ``__new__``."""

        class Mine(SimpleQueue):
            def __init__(self, *, extra: str) -> None:
                self.extra = extra

        mine = Mine(extra="x")
        mine.put(1)
        self.assertEqual((mine.get(), mine.extra), (1, "x"))

    def test_refusals(self) -> None:
        """Values that are refused before anything is looked for in the queue."""
        one = SimpleQueue()
        one.put(1)
        for timeout, error in ((1e10, OverflowError), (-1, ValueError), ("1", TypeError)):
            with self.assertRaises(error):  # noqa: PT027
                one.get(True, timeout)
        self.assertEqual(one.get(False, -1), 1)
        with self.assertRaises(TypeError):  # noqa: PT027
            SimpleQueue(1)
