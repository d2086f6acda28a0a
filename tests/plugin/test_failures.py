"""Every error that is found while a test runs fails that test, wherever it was raised, and no other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from tests.plugin.conftest import SELF, RunTests

if TYPE_CHECKING:
    import pytest

EVERYWHERE = """
import asyncio, concurrent.futures, contextlib, multiprocessing, os, threading, time, warnings
import pytest

def deadlock():
    lock = threading.Lock()
    with lock, lock:
        pass

def test_ok_before(): pass

def test_in_the_test():
    deadlock()

def test_swallowed():
    with contextlib.suppress(Exception):
        deadlock()

def test_in_a_thread():
    thread = threading.Thread(target=deadlock)
    thread.start()
    thread.join()

def test_in_a_pool():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(deadlock)

def test_in_a_task():
    async def twice():
        lock = asyncio.Lock()
        async with lock:
            async with lock:
                pass
    async def main():
        await asyncio.gather(asyncio.create_task(twice()), return_exceptions=True)
    asyncio.run(main())

def test_in_a_child():
    warnings.simplefilter("ignore")
    pid = os.fork()
    if not pid:
        try:
            deadlock()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)

def test_ok_between(): pass

@pytest.fixture
def stuck_setup():
    deadlock()

def test_setup(stuck_setup): pass

@pytest.fixture
def stuck_teardown():
    yield
    with contextlib.suppress(RuntimeError):
        deadlock()

def test_teardown(stuck_teardown): pass

@pytest.mark.xfail(strict=True)
def test_expected():
    deadlock()

@pytest.mark.lockwatch(allow="deadlock")
def test_allowed():
    with pytest.raises(RuntimeError):
        deadlock()

def test_ok_after(lockwatch):
    lockwatch.assert_no_findings()
"""


def test_the_right_test_fails(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    """In the test, a thread, a pool, a task, a child, setup or teardown, also swallowed: that test fails, with the report."""
    run = run_tests(EVERYWHERE, "-v", "-W", "error", "--junitxml=junit.xml", "--lockwatch-report=locks.json")
    failing = ["in_the_test", "swallowed", "in_a_thread", "in_a_pool", "in_a_task", "in_a_child", "setup"]
    words = run.words()
    assert {name for name, said in words.items() if "LOCKS" in said} == {
        f"test_{name}" for name in [*failing, "teardown"]
    }, run.out
    assert words["test_teardown"] == ["PASSED", "LOCKS"]
    assert words["test_expected"] == ["XFAIL"]
    assert [words[f"test_{name}"] for name in ("ok_before", "ok_between", "ok_after", "allowed")] == [
        ["PASSED"]
    ] * 4
    assert run.status == 1
    assert run.out.count("fix: 'lock' is not re-entrant") >= 7

    document = json.loads((pytester.path / "locks.json").read_text())
    by_test = {finding["test"].split("::")[1] for finding in document["findings"]}
    assert by_test == {f"test_{name}" for name in [*failing, "teardown", "expected", "allowed"]}

    case = ET.parse(pytester.path / "junit.xml").find(".//testcase[@name='test_in_a_thread']")
    assert case is not None
    assert "DEADLOCK (with itself)" in str(getattr(case.find("failure"), "text", ""))
    values = {one.get("name"): one.get("value") for one in case.iter("property")}
    assert values["lockwatch.findings"] == "1"
    assert str(values["lockwatch.deadlock"]).startswith("DEADLOCK (with itself)")


def test_letter_and_summary(run_tests: RunTests) -> None:
    """A letter and a word of our own, the error's place in the test, no frame of ours, one line in the summary."""
    run = run_tests(SELF)
    assert "test_it.py L." in run.out
    assert "LOCKS test_it.py::test_dead" in run.out
    assert ">           with lock" in run.out or ">       with lock" in run.out
    assert "def _lose" not in run.out
    assert "_pytest" not in run.out.partition("== lockwatch ==")[0]
    assert "ERROR test_it.py::test_dead: DEADLOCK (with itself)" in run.out.partition("= lockwatch =")[2]


def test_test_cases_and_doctests(run_tests: RunTests) -> None:
    """Unittest's TestCases and doctests are tests like others."""
    source = '''
    import threading, unittest

    def deadlock():
        lock = threading.Lock()
        try:
            with lock, lock:
                pass
        except RuntimeError:
            pass

    class TestIt(unittest.TestCase):
        def setUp(self):
            self.lock = threading.Lock()

        def test_dead(self):
            deadlock()

        def test_good(self):
            with self.lock:
                pass

    def documented():
        """
        >>> deadlock()
        """

    def documented_well():
        """
        >>> threading.Lock().locked()
        False
        """
    '''
    run = run_tests(source, "-v", "--doctest-modules")
    assert {name for name, said in run.words().items() if said == ["LOCKS"]} == {
        "TestIt::test_dead",
        "test_it.documented",
    }, run.out
    assert run.outcomes() == {"passed": 2, "failed": 2}


def test_the_hook_vetoes_and_enriches(run_tests: RunTests) -> None:
    """``pytest_lockwatch_finding`` may forget a finding, or put another in its place."""
    hook = """
import dataclasses

def pytest_lockwatch_finding(item, finding):
    if item.name == "test_vetoed":
        return False
    if item.name == "test_enriched":
        return dataclasses.replace(finding, advice="ask Ada")
"""
    source = """
    import threading, pytest

    def deadlock():
        lock = threading.Lock()
        with pytest.raises(RuntimeError):
            with lock, lock:
                pass

    def test_vetoed(): deadlock()
    def test_enriched(): deadlock()
    def test_plain(): deadlock()
    """
    run = run_tests(source, "-v", files={"conftest.py": hook})
    assert run.words() == {"test_vetoed": ["PASSED"], "test_enriched": ["LOCKS"], "test_plain": ["LOCKS"]}
    assert "fix: ask Ada" in run.out


def test_outside_of_tests(run_tests: RunTests) -> None:
    """What is found while no test runs fails the run, and is shown whole."""
    hook = """
import threading

def pytest_collection_finish():
    lock = threading.Lock()
    try:
        with lock, lock:
            pass
    except RuntimeError:
        pass
"""
    run = run_tests("def test_it(): pass", files={"conftest.py": hook})
    assert run.outcomes() == {"passed": 1}
    assert run.status == 1
    assert "ERROR outside of any test: DEADLOCK (with itself)" in run.out
    assert "waits for Lock 'lock'" in run.out


def test_several_at_once(run_tests: RunTests) -> None:
    """With a runner that gives each test a thread, a finding goes to the test whose thread, or thread's thread, made it."""
    runner = """
import threading
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    def run(item):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    with_state = list(session.items)
    threads = [threading.Thread(target=run, args=(item,)) for item in with_state]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return True

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item): pass

from _pytest import runner
class Own(runner.SetupState):
    pass
runner.SetupState.setup = lambda self, item: item.setup()
runner.SetupState.teardown_exact = lambda self, nextitem: None
"""
    source = """
    import threading

    both = threading.Barrier(3)

    def deadlock():
        lock = threading.Lock()
        try:
            with lock, lock:
                pass
        except RuntimeError:
            pass

    def test_one():
        both.wait(20)
        thread = threading.Thread(target=deadlock)
        thread.start()
        thread.join()
        both.wait(20)

    def test_two():
        both.wait(20)
        both.wait(20)

    def test_three():
        both.wait(20)
        deadlock()
        both.wait(20)
    """
    run = run_tests(source, "-v", "-s", "-p", "no:logging", files={"conftest.py": runner})
    said = dict.fromkeys(("one", "two", "three"), "")
    for name in said:
        said[name] = "LOCKS" if f"ERROR test_it.py::test_{name}: DEADLOCK" in run.out else "PASSED"
    assert said == {"one": "LOCKS", "two": "PASSED", "three": "LOCKS"}, run.out
