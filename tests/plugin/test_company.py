"""Beside other plugins and options: pytest-xdist, pytest-asyncio, anyio, pytest-timeout, pytest-randomly, pytest-run-parallel."""

from __future__ import annotations

import json

import pytest

from tests.plugin.conftest import SELF, RunTests

ASLEEP = """
import threading

def test_asleep():
    threading.Event().wait()  # nobody is left who could set it

def test_next():
    pass
"""
"""A deadlock that is found only if no thread of a tool counts as able to act."""


def test_xdist(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    """Findings of workers come to the summary and the file of the process that prints; its own threads let no test go."""
    pytest.importorskip("xdist")
    run = run_tests(SELF + ASLEEP.replace("test_next", "test_other"), "-n2", "--lockwatch-report=locks.json")
    assert run.outcomes() == {"passed": 2, "failed": 2}, run.out
    assert "ERROR test_it.py::test_dead: DEADLOCK (with itself)" in run.out
    assert "ERROR test_it.py::test_asleep: DEADLOCK (all asleep)" in run.out
    document = json.loads((pytester.path / "locks.json").read_text())
    causes = {finding["cause"] for finding in document["findings"] if finding["kind"] == "deadlock"}
    assert causes == {"asleep", "self"}


def test_a_worker_that_is_gone(run_tests: RunTests) -> None:
    """What a worker had found before it crashed is told all the same."""
    pytest.importorskip("xdist")
    source = """
    import os, threading

    def test_it():
        try:
            lock = threading.Lock()
            with lock, lock:
                pass
        except RuntimeError:
            pass
        os._exit(3)
    """
    run = run_tests(source, "-n1", "--max-worker-restart=0")
    assert "worker 'gw0' crashed" in run.out
    assert "outside of any test: DEADLOCK (with itself)" in run.out


def test_faulthandler_and_timeout(run_tests: RunTests) -> None:
    """faulthandler_timeout's thread, and pytest-timeout's signal or timer, let no test go: it is told at once."""
    run = run_tests(ASLEEP, ini="faulthandler_timeout = 60")
    assert run.outcomes() == {"passed": 1, "failed": 1}, run.out
    assert "DEADLOCK (all asleep)" in run.out
    pytest.importorskip("pytest_timeout")
    for method in ("signal", "thread"):
        run = run_tests(ASLEEP, "--timeout=60", f"--timeout-method={method}", limit=50)
        assert run.outcomes() == {"passed": 1, "failed": 1}, run.out
        assert "DEADLOCK (all asleep)" in run.out


def test_asyncio_plugin(run_tests: RunTests) -> None:
    """pytest-asyncio: tasks that are stuck, and a fixture's loop; the others pass."""
    pytest.importorskip("pytest_asyncio")
    source = """
    import asyncio
    import pytest, pytest_asyncio

    pytestmark = pytest.mark.asyncio(loop_scope="module")

    @pytest_asyncio.fixture(loop_scope="module", scope="module")
    async def service():
        task = asyncio.create_task(asyncio.Event().wait())
        yield task
        task.cancel()

    async def test_good(service):
        async with asyncio.timeout(10):
            await asyncio.sleep(0)

    async def test_dead(service):
        lock = asyncio.Lock()
        async with lock:
            async with lock:
                pass

    async def test_task_left(service):
        asyncio.create_task(asyncio.sleep(1000), name="left")

    async def test_last(service):
        assert not service.done()
    """
    ini = "asyncio_default_fixture_loop_scope = function"
    run = run_tests(source, "-v", "-p", "no:randomly", ini=ini, alone=False)
    assert run.words() == {
        "test_good": ["PASSED"],
        "test_dead": ["LOCKS"],
        "test_task_left": ["PASSED", "LOCKS"],
        "test_last": ["PASSED"],
    }, run.out


def test_anyio_plugin(run_tests: RunTests) -> None:
    """Anyio's plugin: a task group that is stuck; worker threads that anyio keeps are no leak."""
    pytest.importorskip("anyio")
    source = """
    import asyncio
    import anyio, anyio.to_thread, pytest

    @pytest.fixture(scope="module")
    def anyio_backend():
        return "asyncio"

    pytestmark = pytest.mark.anyio

    async def test_good():
        assert await anyio.to_thread.run_sync(lambda: 1) == 1

    async def test_dead():
        one, two = asyncio.Lock(), asyncio.Lock()
        async def take(first, second):
            async with first:
                await anyio.sleep(0.01)
                async with second:
                    pass
        async with anyio.create_task_group() as group:
            group.start_soon(take, one, two)
            group.start_soon(take, two, one)

    async def test_last():
        pass
    """
    run = run_tests(source, "-v")
    assert {name: said[0] for name, said in run.words().items()} == {
        "test_good": "PASSED",
        "test_dead": "LOCKS",
        "test_last": "PASSED",
    }, run.out
    assert "LEAK" not in run.out


def test_randomly_and_run_parallel(run_tests: RunTests) -> None:
    """pytest-randomly: any order. pytest-run-parallel: a test in several threads at once; its finding is its own."""
    pytest.importorskip("pytest_randomly")
    pytest.importorskip("pytest_run_parallel")
    source = """
    import threading, time

    stock, journal = threading.Lock(), threading.Lock()
    turn = threading.local()
    count = iter(range(1000))

    def test_either():
        first, second = (stock, journal) if next(count) % 2 else (journal, stock)
        with first:
            time.sleep(0.05)
            with second:
                pass

    def test_good():
        with stock:
            pass
    """
    run = run_tests(source, "-p", "no:asyncio", "-p", "no:cacheprovider", "--parallel-threads=4", alone=False)
    assert run.status == 1, run.out
    assert "ERROR test_it.py::test_good" not in run.out
    assert "ERROR test_it.py::test_either: DEADLOCK (cycle of 2)" in run.out


def test_uncaptured_and_in_the_debugger(run_tests: RunTests) -> None:
    """With -s all is the same; in the debugger nothing is raised and no time runs: lockwatch stands down."""
    assert run_tests(SELF, "-s").outcomes() == {"passed": 1, "failed": 1}
    source = """
    import threading, time

    def test_it():
        breakpoint()
        assert 1

    def test_next():
        pass
    """
    run = run_tests(
        source,
        "--lockwatch-stall=0.3",
        stdin=b"import time\nfrom lockwatch._core import settings\ntime.sleep(2)\np 'RAISES', settings.raise_deadlocks\nc\n",
    )
    assert run.outcomes() == {"passed": 2}, run.out
    assert "('RAISES', False)" in run.out


BETWEEN = """
import threading

def pytest_runtest_logreport(report):
    if report.when == "call":
        lock = threading.Lock()
        thread = threading.Thread(target=lambda: (lock.acquire(), lock.acquire()))
        thread.start()
        thread.join()
"""
"""A thread dies of a deadlock between two phases of a test."""


def test_a_victim_between_phases_is_told_once(run_tests: RunTests) -> None:
    """Pytest's own warning of errors in threads stays away from them, whenever the thread dies."""
    run = run_tests("def test_it(): pass", "-W", "error", files={"conftest.py": BETWEEN})
    assert "DEADLOCK (with itself)" in run.out
    assert "PytestUnhandledThreadExceptionWarning" not in run.out
