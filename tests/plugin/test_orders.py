"""Lock order over a whole session: the other order in another test, or on another worker of pytest-xdist."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.plugin.conftest import RunTests

if TYPE_CHECKING:
    pass

TWO_ORDERS = """
import threading
import pytest

class Shop:
    def __init__(self):
        self.stock = threading.Lock()
        self.journal = threading.Lock()

@pytest.fixture
def shop():
    return Shop()

def test_sell(shop):
    with shop.stock, shop.journal:
        pass

def test_audit(shop):
    with shop.journal, shop.stock:
        pass

def test_sell_again(shop):
    with shop.stock:
        with shop.journal:
            pass
"""


def test_the_other_order_in_another_test_fails_that_test(run_tests: RunTests) -> None:
    """One thread, objects of their own: the test that takes the other order fails, and both are named; ``warn`` only says it."""
    run = run_tests(TWO_ORDERS, "-v")
    assert run.words() == {"test_sell": ["PASSED"], "test_audit": ["LOCKS"], "test_sell_again": ["PASSED"]}, (
        run.out
    )
    assert (
        "'MainThread' in test_it.py::test_audit and Thread 'MainThread' in test_it.py::test_sell can deadlock"
        in run.out
    )

    warned = run_tests(TWO_ORDERS, "-v", "--lockwatch-order=warn")
    assert warned.outcomes() == {"passed": 3}
    assert "WARNING test_it.py::test_audit: LOCK ORDER" in warned.out

    off = run_tests(TWO_ORDERS, "-v", "--lockwatch-order=off")
    assert off.outcomes() == {"passed": 3}
    assert "LOCK ORDER" not in off.out


def test_both_orders_in_one_test_of_one_thread_are_in_order(run_tests: RunTests) -> None:
    """Within one test it counts who does it and when: one thread alone cannot deadlock, nor one that was joined before."""
    source = """
    import threading

    def test_one_thread():
        a, b = threading.Lock(), threading.Lock()
        with a, b:
            pass
        with b, a:
            pass

    def test_one_after_the_other():
        a, b = threading.Lock(), threading.Lock()
        def take(one, two):
            with one, two:
                pass
        for pair in ((a, b), (b, a)):
            thread = threading.Thread(target=take, args=pair)
            thread.start()
            thread.join()
    """
    run = run_tests(source)
    assert run.outcomes() == {"passed": 2}, run.out


def test_a_deadlock_is_not_told_again_as_an_order(run_tests: RunTests) -> None:
    """Locks that did deadlock are no news to the next test, which takes them in order."""
    source = """
    import threading

    stock, journal = threading.Lock(), threading.Lock()

    def test_dead():
        both = threading.Barrier(2)
        def take(first, second):
            with first:
                both.wait()
                with second:
                    pass
        threads = [threading.Thread(target=take, args=pair) for pair in ((stock, journal), (journal, stock))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def test_one_way():
        with stock, journal:
            pass

    def test_other_way():
        with journal, stock:
            pass
    """
    run = run_tests(source, "-v")
    assert run.words() == {
        "test_dead": ["LOCKS"],
        "test_one_way": ["PASSED"],
        "test_other_way": ["PASSED"],
    }, run.out


def test_under_a_gate_two_tests_are_in_order(run_tests: RunTests) -> None:
    """A common outer lock keeps two tests from being a deadlock, as it does two threads."""
    source = """
    import threading

    gate, a, b = threading.Lock(), threading.Lock(), threading.Lock()

    def test_one():
        with gate, a, b:
            pass

    def test_two():
        with gate, b, a:
            pass
    """
    assert run_tests(source).outcomes() == {"passed": 2}


def test_orders_of_workers_are_merged(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    """pytest-xdist: what one worker does and another the other way round is found at the end, fails the run, and is in the file."""
    pytest.importorskip("xdist")
    source = """
    import os, threading
    import pytest

    class Shop:
        def __init__(self):
            self.stock = threading.Lock()
            self.journal = threading.Lock()

    worker = os.environ["PYTEST_XDIST_WORKER"]

    @pytest.mark.parametrize("number", range(2))
    def test_it(number):  # --dist=each: every worker runs it
        shop = Shop()
        both = (shop.stock, shop.journal)
        first, second = both if worker == "gw0" else both[::-1]
        with first, second:
            pass
    """
    run = run_tests(source, "--dist=each", "--tx=2*popen", "--lockwatch-report=locks.json")
    assert run.outcomes() == {"passed": 4}, run.out
    assert run.status == 1, run.out
    assert "ERROR outside of any test: LOCK ORDER: Lock 'Shop." in run.out
    assert "(gw0)" in run.out
    assert "(gw1)" in run.out
    (finding,) = json.loads((pytester.path / "locks.json").read_text())["findings"]
    assert finding["kind"] == "lock-order"
    assert len(finding["parties"]) == 2
