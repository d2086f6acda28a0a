"""All interleavings of small programs on the simulated mutex keep the rules; `world` lists the rules.

The programs below run by default. With ``LOCKWATCH_TEST_INTERLEAVINGS=all`` in the environment the larger ones are walked,
too, with a higher bound on preemptions or none (some minutes). `pytest -s` shows how many states each program has.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.mutex.explorer import explore
    from tests.mutex.programs import (
        NEVER,
        PLAIN,
        RECURSIVE,
        Program,
        after,
        pair,
        release_once,
        release_when_owned_by,
    )
else:
    from mutex_explorer import explore
    from mutex_programs import (
        NEVER,
        PLAIN,
        RECURSIVE,
        Program,
        after,
        pair,
        release_once,
        release_when_owned_by,
    )

ALL = os.environ.get("LOCKWATCH_TEST_INTERLEAVINGS") == "all"

TAKE = pair()
WITH = pair(how="with")
TIMED = pair(True, 0.5)
TRY = pair(False)
NESTED = pair(inside=WITH)
OTHER = pair(lock=1)

ONE = [TAKE]
TWO = [TAKE, TAKE]
MIXED = [TIMED, TRY]
ALWAYS = -1
"""A threshold that any wait has exceeded."""
MAIN: dict[str, Any] = {"main": 0, "handlers_installed": True}

DEFAULT = {
    "three threads": Program(threads=[ONE, ONE, ONE]),
    "three threads, starvation": Program(threads=[ONE, ONE, ONE], threshold=ALWAYS, mode_is_left=True),
    "three threads twice": Program(threads=[TWO, TWO, TWO], preemptions=3),
    "three threads twice, starvation": Program(
        threads=[TWO, TWO, TWO], threshold=ALWAYS, preemptions=2, mode_is_left=True
    ),
    "three threads twice, all kinds": Program(threads=[TWO, MIXED, [WITH, TIMED]], preemptions=1),
    "three threads twice, all kinds, starvation": Program(
        threads=[TWO, MIXED, [WITH, TIMED]], threshold=ALWAYS, preemptions=1
    ),
    "three threads, interrupted": Program(
        threads=[ONE, [TIMED], ONE], threshold=ALWAYS, interrupts=1, preemptions=1
    ),
    "two threads twice": Program(threads=[TWO, TWO]),
    "two threads twice, starvation": Program(threads=[TWO, TWO], threshold=ALWAYS, mode_is_left=True),
    "two threads, all kinds, interrupted": Program(
        threads=[MIXED, [TIMED]], threshold=ALWAYS, interrupts=1, preemptions=2
    ),
    "two threads, interrupted anywhere": Program(
        threads=[ONE, ONE], threshold=ALWAYS, interrupts=1, fine=True
    ),
    "mode changes at any moment": Program(
        threads=[ONE, ONE, ONE], threshold=0, ticks=1, preemptions=2, mode_is_left=True
    ),
    "main thread, starvation": Program(
        threads=[ONE, ONE, ONE], threshold=ALWAYS, preemptions=2, mode_is_left=True, **MAIN
    ),
    "handler takes the lock": Program(
        threads=[ONE, ONE], handlers={0: TIMED}, threshold=ALWAYS, preemptions=2, **MAIN
    ),
    "finalizer takes the lock": Program(
        threads=[ONE, ONE, ONE], handlers={0: TIMED}, threshold=ALWAYS, preemptions=1
    ),
    "finalizer takes the lock, twice": Program(
        threads=[TWO, ONE], handlers={0: TIMED}, threshold=ALWAYS, preemptions=2
    ),
    "handler takes another lock": Program(
        threads=[ONE, ONE, [OTHER]], locks=(PLAIN, PLAIN), handlers={0: OTHER}, preemptions=1, **MAIN
    ),
    "finalizer takes another lock, starvation": Program(
        threads=[ONE, ONE, [OTHER]],
        locks=(PLAIN, PLAIN),
        handlers={0: OTHER},
        threshold=ALWAYS,
        preemptions=1,
    ),
    "nested, interrupted": Program(
        threads=[[NESTED], ONE], locks=(RECURSIVE,), threshold=ALWAYS, interrupts=1
    ),
    "nested, finalizer": Program(
        threads=[[NESTED], ONE], locks=(RECURSIVE,), threshold=ALWAYS, preemptions=2, handlers={0: TAKE}
    ),
    "crosswise": Program(
        threads=[[pair(inside=OTHER)], [pair(lock=1, inside=TAKE)]], locks=(PLAIN, PLAIN), may_deadlock=True
    ),
}

LARGE = {
    "two threads, all kinds, interrupted, unbounded": Program(
        threads=[MIXED, MIXED], threshold=ALWAYS, interrupts=1
    ),
    "handler takes the lock, unbounded": Program(
        threads=[ONE, ONE], handlers={0: TIMED}, threshold=ALWAYS, **MAIN
    ),
    "nested, finalizer, unbounded": Program(
        threads=[[NESTED], ONE], locks=(RECURSIVE,), threshold=ALWAYS, handlers={0: TAKE}
    ),
    "finalizer takes the lock, two preemptions": Program(
        threads=[ONE, ONE, ONE], handlers={0: TIMED}, threshold=ALWAYS, preemptions=2
    ),
    "finalizer takes another lock, starvation, two preemptions": Program(
        threads=[ONE, ONE, [OTHER]],
        locks=(PLAIN, PLAIN),
        handlers={0: OTHER},
        threshold=ALWAYS,
        preemptions=2,
    ),
    "three threads twice, starvation, four preemptions": Program(
        threads=[TWO, TWO, TWO], threshold=ALWAYS, preemptions=4, mode_is_left=True
    ),
    "three threads twice, all kinds, three preemptions": Program(
        threads=[TWO, MIXED, [WITH, TIMED]], threshold=ALWAYS, preemptions=3
    ),
    "three threads, one timed": Program(threads=[[TIMED], [TIMED], ONE], threshold=ALWAYS),
    "mode changes at any moment, unbounded": Program(threads=[ONE, ONE, ONE], threshold=0, ticks=1),
    "two threads twice, interrupted": Program(threads=[TWO, TWO], threshold=ALWAYS, interrupts=1),
    "main thread, unbounded": Program(threads=[ONE, ONE, ONE], threshold=ALWAYS, **MAIN),
    "main thread, handler": Program(
        threads=[ONE, ONE, ONE], handlers={0: TIMED}, threshold=ALWAYS, preemptions=3, **MAIN
    ),
    "handler anywhere": Program(threads=[ONE, ONE], handlers={0: TIMED}, threshold=ALWAYS, fine=True, **MAIN),
    "finalizer and interrupt": Program(
        threads=[ONE, ONE], handlers={0: TIMED}, threshold=ALWAYS, interrupts=1
    ),
    "three threads, interrupted, two preemptions": Program(
        threads=[ONE, [TIMED], ONE], threshold=ALWAYS, interrupts=1, preemptions=2
    ),
    "three threads, nested, interrupted": Program(
        threads=[[NESTED], ONE, ONE], locks=(RECURSIVE,), threshold=ALWAYS, interrupts=1, preemptions=2
    ),
}


PROGRAMS = DEFAULT | LARGE if ALL else DEFAULT
KNOWN = {
    "finalizer takes the lock, two preemptions": pytest.mark.xfail(
        raises=AssertionError,
        strict=True,
        reason="a waiter that gave way just before it first queued comes to the tail, and may still overtake (M5, M8)",
    ),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=KNOWN.get(name, ())) for name in PROGRAMS])
def test_all_interleavings(name: str) -> None:
    """However the threads of a small program are scheduled, every rule holds in every state, and all come to an end."""
    result = explore(PROGRAMS[name])
    print(f"{name}: {result.states} states, {result.steps} steps, {result.ends} ends")
    assert result.ends >= 1
    assert result.states > 100


def test_release_by_another_thread_at_once() -> None:
    """A lock that another thread releases as soon as it is owned, perhaps before its acquire has returned, is free then."""
    explore(
        Program(
            threads=[[pair(release=False)], ONE, [release_when_owned_by(0)]],
            threshold=ALWAYS,
            foreign_release=True,
        )
    )


@pytest.mark.parametrize("threshold", [NEVER, ALWAYS])
def test_released_by_two_other_threads_at_once(threshold: int) -> None:
    """Of two threads that release one lock, one lets its owner go, the other the next owner, or is refused."""
    take, release = pair(release=False), [after(0, release_once())]
    result = explore(
        Program(
            threads=[[take], [after(0, take)], release, release],
            threshold=threshold,
            foreign_release=True,
        )
    )
    assert result.states > 100
