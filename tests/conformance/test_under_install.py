"""CPython's thread suites under ``install()`` end as they do without it: those that take seconds.

The whole list takes minutes: ``under_install.py`` runs it, and ``docs/conformance.md`` has the results.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType


def load(name: str) -> ModuleType:
    """The script beside this file as a module (tests are no package)."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses looks a class's annotations up
    spec.loader.exec_module(module)
    return module


under_install = load("under_install")

GROUPS = {
    # locks, conditions, semaphores, barriers (lock_tests once more), life cycle of threads, fork, interpreter exit
    "threading": ["test_threading"],
    "queues and servers": ["test_queue", "real_queue", "test_socketserver"],
    "asyncio": [
        f"test_asyncio.test_{name}" for name in ("locks", "queues", "timeouts", "runners", "waitfor")
    ],
    "imports and forks": ["test_importlib.test_locks", "test_importlib.test_threaded_import", "test_fork1"],
    "small": [
        "test_thread",
        "test_threading_local",
        "test_threadedtempfile",
        "test_threadsignals",
        "test_sched",
        "test_context",
    ],
}


@pytest.mark.parametrize("group", GROUPS)
def test_suites(group: str) -> None:
    """What passes without lockwatch passes with it, nothing hangs, and nothing is found."""
    suites = GROUPS[group]
    if absent := under_install.missing(suites):
        pytest.skip(f"this interpreter ships no {', '.join(absent)} (Debian: libpython3.x-testsuite)")
    for result in under_install.compare_all(suites, timeout=80, again=1):
        assert not result.standing, result.text()
        assert result.baseline.outcomes, result.baseline.log
