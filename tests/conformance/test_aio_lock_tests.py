"""CPython's own tests of asyncio's locks and queues, unmodified, on the classes of ``lockwatch.aio``.

They run with both kinds of fairness. `BY_DESIGN` names those that ask for asyncio's strict order, which
``fairness="go"`` does not keep. Under `install()` the same suites are part of ``test_under_install.py``.
"""

from __future__ import annotations

import asyncio
import importlib.util
import unittest
from typing import Any, cast

import pytest

from lockwatch import aio
from lockwatch._core import settings

NAMES = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "LifoQueue",
    "Lock",
    "PriorityQueue",
    "Queue",
    "Semaphore",
]

BY_DESIGN = {"LockTests.test_acquire": "a newcomer that runs before the waiter that was woken takes the lock"}
"""Test -> why it cannot pass with ``fairness="go"``."""


class Fifo:
    """Ours, with asyncio's order by default."""

    class Lock(aio.Lock):
        """In the order of arrival."""

        def __init__(self) -> None:
            super().__init__(fairness="fifo")

    class Condition(aio.Condition):
        """With such a lock."""

        def __init__(self, lock: Any = None) -> None:
            super().__init__(lock, fairness="fifo")


Fifo.Lock.__init__.__qualname__ = "Lock.__init__"  # a test looks for it in a message
Fifo.Condition.__init__.__qualname__ = "Condition.__init__"


class Substitute:
    """The module ``asyncio`` with our classes in it."""

    def __init__(self, classes: dict[str, type]) -> None:
        self.__dict__.update(classes)

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


def suite(name: str, fairness: str) -> list[unittest.TestCase]:
    """The tests of one of CPython's modules, loaded for ourselves, so that its ``asyncio`` can be ours."""
    found = None
    if (
        importlib.util.find_spec("test") is not None
        and importlib.util.find_spec("test.test_asyncio") is not None
    ):
        found = importlib.util.find_spec(f"test.test_asyncio.{name}")
    if found is None or found.loader is None:
        return []
    module: Any = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    classes = {one: getattr(aio, one) for one in NAMES}
    if fairness == "fifo":
        classes |= {"Lock": Fifo.Lock, "Condition": Fifo.Condition}
    module.asyncio = Substitute(classes)
    tests = unittest.defaultTestLoader.loadTestsFromModule(module)
    return [test for group in tests for test in cast("unittest.TestSuite", group)]  # type: ignore[misc]


CASES = [
    pytest.param(fairness, test, id=f"{fairness}-{name}-{test.id().split('.', 3)[-1]}")
    for name in ("test_locks", "test_queues")
    for fairness in ("go", "fifo")
    for test in suite(name, fairness)
]


@pytest.mark.skipif(
    not CASES, reason="this interpreter ships no test package (Debian: libpython3.x-testsuite)"
)
@pytest.mark.parametrize(("fairness", "test"), CASES)
def test_as_asyncio(fairness: str, test: unittest.TestCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes pass asyncio's own test; nobody starves in it, however slow the machine."""
    monkeypatch.setattr(settings, "starvation_threshold_ns", 10**15)
    result = unittest.TestResult()
    test.run(result)
    problems = [text for _, text in (*result.errors, *result.failures)]
    if fairness == "go" and test.id().split(".", 3)[-1] in BY_DESIGN:
        assert problems, "passes now; take it out of BY_DESIGN"
        return
    assert not problems, "\n".join(problems)
    if result.skipped:
        pytest.skip(result.skipped[0][1])
