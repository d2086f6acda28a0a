"""``lockwatch.testing``: threads go from named point to named point, one at a time, the same way each time."""

from __future__ import annotations

import threading
import time

import pytest

import lockwatch
from lockwatch.testing import Stepper, SteppingError, point
from tests.plugin.conftest import RunTests


def test_threads_move_only_when_told() -> None:
    """Nothing runs before it is told to; each stops at its point; the order of events is the test's alone."""
    said: list[str] = []

    def work(name: str) -> str:
        said.append(f"{name} begins")
        point("middle")
        said.append(f"{name} goes on")
        point("late")
        return name

    for _ in range(20):
        said.clear()
        with Stepper() as step:
            one = step.thread(work, "one")
            two = step.thread(work, "two", name="second")
            two.run_to("middle")
            one.run_to("middle")
            assert said == ["two begins", "one begins"]
            assert (one.at, two.at) == ("middle", "middle")
            one.run_to("late")
            assert said == ["two begins", "one begins", "one goes on"]
            assert two.join() == "two"
            assert one.join() == "one"
            assert one.ended
        assert said == ["two begins", "one begins", "one goes on", "two goes on"]


def test_a_point_is_nothing_elsewhere() -> None:
    """In a thread that nobody drives a point does nothing."""
    point("anywhere")


def test_a_point_that_is_passed_again() -> None:
    """A point in a loop stops each time that it is asked for."""
    count = 0

    def work() -> None:
        nonlocal count
        for _ in range(3):
            count += 1
            point("again")

    with Stepper() as step:
        runner = step.thread(work)
        for expected in (1, 2, 3):
            runner.run_to("again")
            assert count == expected


def test_who_does_not_come_is_told() -> None:
    """A thread that ends before the point, or is blocked, makes the step fail, with the reason."""
    with Stepper(limit=0.3) as step:
        with pytest.raises(SteppingError, match="has ended, and did not come to 'nowhere'"):
            step.thread(lambda: None, name="short").run_to("nowhere")

        def fail() -> None:
            raise ValueError("no")

        failing = step.thread(fail, name="failing")
        with pytest.raises(SteppingError, match="has ended by ValueError: no"):
            failing.run_to("nowhere")
        with pytest.raises(ValueError, match="no"):
            failing.join()
        failing.error = None

        lock = lockwatch.Lock()

        def blocked() -> None:
            with lock:
                point("inside")

        with lock:
            waiting = step.thread(blocked, name="blocked")
            with pytest.raises(SteppingError, match="did not come to 'inside' in 0.3 s; it waits for Lock"):
                waiting.run_to("inside")
            assert waiting.is_blocked
        late = time.monotonic() + 15
        while waiting.at is None:
            assert time.monotonic() < late
            time.sleep(0.001)
        waiting.run_to("inside")
        assert waiting.at == "inside"
        assert not waiting.ended


def test_run_to_block() -> None:
    """A thread can be let run until it waits; it goes on when it is let go."""
    lock = lockwatch.Lock()
    with Stepper(limit=5) as step:
        with lock:
            runner = step.thread(lock.acquire)
            assert runner.run_to_block().is_blocked
        assert runner.join() is True
        lock.release()
        with pytest.raises(SteppingError, match="did not block"):
            step.thread(lambda: None).run_to_block()


def test_points_at_functions() -> None:
    """A method of code that knows nothing of this can be a point; afterwards it is what it was."""

    class Account:
        def __init__(self) -> None:
            self.money = 1

        def debit(self) -> None:
            self.money -= 1

    original = Account.debit
    account = Account()
    with Stepper() as step:
        before = step.point_at(Account, "debit")
        assert before.endswith("Account.debit")
        runner = step.thread(account.debit)
        runner.run_to(before)
        assert account.money == 1
    assert account.money == 0
    assert Account.debit is original
    with Stepper() as step:
        after = step.point_at(Account, "debit", after=True)
        step.thread(account.debit).run_to(after)
        assert account.money == -1


def test_a_deadlock_can_be_staged(run_tests: RunTests) -> None:
    """The test for a race: both threads stand where they collide; it fails before the fix and passes after it."""
    source = """
    import threading
    import pytest
    from lockwatch.testing import Stepper, point

    class Account:
        def __init__(self, number):
            self.number, self.lock = number, threading.Lock()

    def transfer(source, target):
        with source.lock:
            point("source locked")
            with target.lock:
                pass

    def transfer_fixed(source, target):
        first, second = sorted((source, target), key=lambda account: account.number)
        with first.lock:
            point("source locked")
            with second.lock:
                pass

    def test_race():
        a, b = Account(1), Account(2)
        with Stepper() as step:
            there = step.thread(transfer, a, b, name="there")
            back = step.thread(transfer, b, a, name="back")
            there.run_to("source locked")
            back.run_to("source locked")
            there.run_to_block()
            back.run_on()

    def test_fixed():
        a, b = Account(1), Account(2)
        with Stepper() as step:
            there = step.thread(transfer_fixed, a, b, name="there")
            back = step.thread(transfer_fixed, b, a, name="back")
            there.run_to("source locked")
            back.run_to_block()
            there.run_on()
    """
    run = run_tests(source, "-v")
    assert run.words() == {"test_race": ["LOCKS"], "test_fixed": ["PASSED"]}, run.out
    assert "DEADLOCK (cycle of 2)" in run.out


def test_stepping_needs_no_installation() -> None:
    """Threads of a program that is not watched can be stepped, too."""
    assert not lockwatch.is_installed()
    lock = threading.Lock()
    with Stepper() as step:

        def work() -> None:
            with lock:
                point("has it")

        runner = step.thread(work)
        runner.run_to("has it")
        assert lock.locked()
    assert not lock.locked()
