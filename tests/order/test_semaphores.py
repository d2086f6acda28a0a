"""A semaphore with one permit that is given back by its taker is a mutex, and has a place in the order of locks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import lockwatch
from lockwatch import config
from lockwatch._core import agents
from tests.order.conftest import nest

if TYPE_CHECKING:
    from tests.conftest import RunPython
    from tests.order.conftest import Stage

KINDS = pytest.mark.parametrize("kind", [lockwatch.Semaphore, lockwatch.BoundedSemaphore])


@KINDS
def test_with(stage: Stage, kind: Any) -> None:
    """By ``with``, in a ring with a lock, whichever is the outer one."""
    semaphore, a = kind(), lockwatch.Lock(name="a")

    def under() -> None:
        with semaphore, a:
            pass

    def over() -> None:
        with a, semaphore:
            pass

    stage.run(under)
    stage.run(over)
    assert stage.found() == []
    stage.run(under, over)
    (finding,) = stage.found()
    names = {party.waits_for.resource for party in finding.parties if party.waits_for}
    assert names == {"Semaphore 'semaphore'", "Lock 'a'"}
    assert [frame.function for frame in finding.parties[0].stack][-1] == "over"
    assert not agents.current().holds


@KINDS
def test_bare_calls(stage: Stage, kind: Any) -> None:
    """By bare calls in one function, or in several, once it was seen to come back from its taker."""
    a, semaphore = lockwatch.Lock(name="a"), kind(1)
    stage.run(nest(a, semaphore), nest(semaphore, a))
    assert len(stage.found()) == 1
    other, b = kind(1), lockwatch.Lock(name="b")

    def take() -> None:
        other.acquire()

    def separately(outer: lockwatch.Lock | None, inner: lockwatch.Lock | None) -> None:
        with outer or lockwatch.Lock():
            take()
            with inner or lockwatch.Lock():
                pass
            other.release()

    stage.run(lambda: separately(None, None), lambda: separately(b, None), lambda: separately(None, b))
    assert len(stage.found()) == 2


def test_two_semaphores(stage: Stage) -> None:
    """No lock is needed beside them."""
    one, two = lockwatch.Semaphore(), lockwatch.BoundedSemaphore()
    stage.run(nest(one, two), nest(two, one))
    assert len(stage.found()) == 1


def test_raise(stage: Stage) -> None:
    """Under ``order="raise"`` the permit is not taken, and nobody is left in the table."""
    config.configure(order="raise")
    a, semaphore = lockwatch.Lock(name="a"), lockwatch.BoundedSemaphore()

    def over() -> None:
        with a:
            with pytest.raises(lockwatch.LockOrderError), semaphore:
                pass
            with pytest.raises(lockwatch.LockOrderError):
                semaphore.acquire()
        assert semaphore._value == 1
        assert not agents.current().holds

    stage.run(nest(semaphore, a), over)
    assert len(stage.found()) == 1


def test_tries(stage: Stage) -> None:
    """Who only tries, or waits for a while, backs off."""
    a, semaphore = lockwatch.Lock(name="a"), lockwatch.Semaphore()

    def tries() -> None:
        with a:
            assert semaphore.acquire(blocking=False)
            semaphore.release()
            assert semaphore.acquire(timeout=5)
            semaphore.release()

    stage.run(nest(semaphore, a), tries)
    assert stage.found() == []


def test_given_back_by_another(stage: Stage) -> None:
    """A signal: taken by one, given back by another; also in functions that mention ``release`` for others."""
    a, semaphore = lockwatch.Lock(name="a"), lockwatch.Semaphore()

    def waits_under_a() -> None:
        with a:
            semaphore.acquire()

    stage.run(semaphore.acquire, semaphore.release, waits_under_a, semaphore.release, nest(semaphore, a))
    assert stage.found() == []
    other, b = lockwatch.Semaphore(), lockwatch.Lock(name="b")

    def hands_over() -> None:
        other.acquire()
        b.acquire()
        b.release()

    def takes_over() -> None:
        with b:
            other.release()
            other.acquire()

    stage.run(hands_over, takes_over, other.release, nest(b, other), hands_over)
    assert stage.found() == []


@pytest.mark.parametrize("permits", [0, 2, 3])
def test_more_permits(stage: Stage, permits: int) -> None:
    """With another number of permits, or one more that somebody adds, it is no mutex."""
    a, semaphore = lockwatch.Lock(name="a"), lockwatch.Semaphore(permits)
    grown = lockwatch.Semaphore()
    grown.release()
    if not permits:
        semaphore.release(2)
    stage.run(nest(semaphore, a), nest(a, semaphore), nest(grown, a), nest(a, grown))
    assert stage.found() == []


def test_gate(stage: Stage) -> None:
    """As a gate it keeps orders apart."""
    gate, a, b = lockwatch.Semaphore(), lockwatch.Lock(name="a"), lockwatch.Lock(name="b")
    stage.run(nest(gate, a, b), nest(gate, b, a))
    assert stage.found() == []


@pytest.mark.parametrize("kind", ["threading.Semaphore", "threading.BoundedSemaphore", "Mine"])
def test_under_install(run_python: RunPython, kind: str) -> None:
    """``threading``'s own classes, and a subclass."""
    done = run_python(
        f"""
        import lockwatch
        lockwatch.install()
        import threading
        class Mine(threading.Semaphore):
            pass
        one, two = {kind}(), threading.Lock()
        turns = [threading.Event(), threading.Event()]
        def ordered(one, two):
            with one:
                with two:
                    pass
        def first():
            ordered(one, two)
            turns[0].set()
            turns[1].wait()
        def second():
            turns[0].wait()
            ordered(two, one)
            turns[1].set()
        threads = [threading.Thread(target=first), threading.Thread(target=second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print([finding.kind for finding in lockwatch.recorded_findings()])
        """
    )
    assert (done.returncode, done.stdout.strip()) == (0, "['lock-order']"), done.stderr
