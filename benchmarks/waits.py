"""What the waits of the standard library cost under ``install()`` when nobody has to wait.

`install()` replaces methods in classes, so an instance cannot choose its side: a queue made before it has the
watched ``Condition.wait``, too. Therefore the process itself changes sides: before each sample lockwatch is
installed or uninstalled, then the things of that side are made, and used by a copy of the loop that only this side
runs. What is measured is what a program sees that calls ``install()`` first, or never.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import repeat
from typing import Any

import lockwatch
from benchmarks.results import Budget
from benchmarks.runner import Case, Measure, Setup, fresh

TITLE = "Waits under `install()`: nobody has to wait"
NOTES = (
    (
        "Nanoseconds of CPU, of all threads of the process, for one turn of the loop, whose own cost is in both "
        "sides. Sides alternate by `install()` and `uninstall()` in one process (methods are replaced in classes, so "
        "both sides cannot exist at once); the things are made anew for each sample, and used a while before it."
    ),
    (
        "All but SimpleQueue, which is in C on the raw side, are Python code around a lock on both sides: what is "
        "compared is the lock and the replaced methods together."
    ),
    (
        "Nobody waits, except in the round trip through a pool and in start and join of a thread: those are two "
        "real waits a turn, each with its look for a deadlock."
    ),
)
ROUNDS = 9
LIMIT = 1.5

Times = Iterable[None]
Loop = Callable[..., None]
Make = Callable[[], Sequence[object]]


def cases(setup: Setup) -> Sequence[Case]:
    """One case per operation that can block."""
    return [
        _case(setup, "queue", "Queue: `put`, `get`", _queue, lambda: [queue.Queue()]),
        _case(setup, "simple_queue", "SimpleQueue: `put`, `get`", _queue, lambda: [queue.SimpleQueue()]),
        _case(setup, "event", "Event: `set`, `wait`, `clear`", _event, lambda: [threading.Event()]),
        _case(setup, "event_wait", "Event: `wait` when set", _event_wait, lambda: [_set_event()]),
        _case(
            setup,
            "semaphore",
            "Semaphore: `acquire`, `release`",
            _acquire_release,
            lambda: [threading.Semaphore(1)],
        ),
        _case(
            setup, "semaphore_with", "Semaphore: `with semaphore`", _with, lambda: [threading.Semaphore(1)]
        ),
        _case(setup, "condition", "Condition: `with`, `notify`", _notify, lambda: [threading.Condition()]),
        _case(setup, "future", "Future: `result` of a done one", _result, lambda: [_done_future()]),
        _case(setup, "submit", "ThreadPoolExecutor: `submit(...).result()`", _submit, _pool, stop=_shut_down),
        _case(setup, "thread", "Thread: `start`, `join`", _thread, list),
    ]


def _nothing(*_things: object) -> None:
    """What most things need when a sample is over."""


def _case(
    setup: Setup, name: str, title: str, loop: Loop, make: Make, *, stop: Callable[..., None] = _nothing
) -> Case:
    seconds = 0.001 if setup.quick else 0.03
    return Case(
        name=name,
        title=title,
        unit="ns",
        raw=_side(fresh(loop), make, stop, seconds, watched=False),
        lockwatch=_side(fresh(loop), make, stop, seconds, watched=True),
        budget=Budget("ratio", LIMIT),
    )


def _side(loop: Loop, make: Make, stop: Callable[..., None], seconds: float, *, watched: bool) -> Measure:
    """A measure that puts the process on its side first, and back after."""

    def measure() -> float:
        with _watching(watched):
            things = make()
            try:
                return _sample(loop, things, seconds)
            finally:
                stop(*things)

    return measure


def _watching(watched: bool) -> AbstractContextManager[None]:
    if lockwatch.is_installed():
        raise RuntimeError("lockwatch is installed in the process of the benchmarks")
    return lockwatch.installed(cpu=False) if watched else nullcontext()


def _sample(loop: Loop, things: Sequence[object], seconds: float) -> float:
    """The CPU time of one turn in ns; measured over about ``seconds``, after a quarter of that to warm up."""
    turns = 10
    while (took := _took(loop, things, turns)) < seconds / 4:
        turns *= 4
    turns = max(10, int(turns * seconds / took))
    return _took(loop, things, turns) / turns * 1e9


def _took(loop: Loop, things: Sequence[object], turns: int) -> float:
    start = time.process_time()
    loop(*things, repeat(None, turns))
    return time.process_time() - start


def _set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def _done_future() -> Future[int]:
    future: Future[int] = Future()
    future.set_result(1)
    return future


def _pool() -> Sequence[object]:
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()
    return [pool]


def _shut_down(pool: ThreadPoolExecutor) -> None:
    pool.shutdown()


# The loops. Each side runs a fresh copy; see runner.fresh().


def _queue(things: Any, times: Times) -> None:
    for _ in times:
        things.put(None)
        things.get()


def _event(event: threading.Event, times: Times) -> None:
    for _ in times:
        event.set()
        event.wait()
        event.clear()


def _event_wait(event: threading.Event, times: Times) -> None:
    for _ in times:
        event.wait()


def _acquire_release(semaphore: threading.Semaphore, times: Times) -> None:
    for _ in times:
        semaphore.acquire()
        semaphore.release()


def _with(semaphore: threading.Semaphore, times: Times) -> None:
    for _ in times:
        with semaphore:
            pass


def _notify(condition: threading.Condition, times: Times) -> None:
    for _ in times:
        with condition:
            condition.notify()


def _result(future: Future[int], times: Times) -> None:
    for _ in times:
        future.result()


def _submit(pool: ThreadPoolExecutor, times: Times) -> None:
    for _ in times:
        pool.submit(int).result()


def _thread(times: Times) -> None:
    for _ in times:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
