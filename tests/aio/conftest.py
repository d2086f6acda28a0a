"""Helpers for tests of asyncio's locks: a loop with a limit, findings forgotten, and both kinds of fairness."""

from __future__ import annotations

import asyncio
import faulthandler
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from lockwatch import aio, config, delivery, leaks
from lockwatch._core import hooks, settings
from lockwatch.locks import lock as lock_module

LIMIT = 20.0
"""Seconds after which a loop that is still running is stopped: the test hangs."""

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Make = Callable[..., Any]


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Runs a program of tasks; one that hangs ends in an error."""

    def hangs() -> None:
        faulthandler.dump_traceback()
        stuck.extend(map(repr, asyncio.all_tasks(loop)))
        loop.stop()

    stuck: list[str] = []
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        timer = loop.call_later(LIMIT, hangs)
        try:
            return runner.run(main)
        except RuntimeError as error:
            for task in stuck:
                error.add_note(task)
            raise
        finally:
            timer.cancel()


@pytest.fixture(name="run")
def run_fixture() -> Run:
    """Runs a program of tasks in a new loop; one that hangs ends in an error."""
    return run


@pytest.fixture(autouse=True)
def _defaults(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has lockwatch's defaults, an empty record, and no locks known as signals.

    Locks that die are judged by lockwatch's own thread a moment later, maybe in the next test: not here.
    """
    assert hooks.dropped is leaks._dropped
    monkeypatch.setattr(hooks, "dropped", lambda _lock: None)
    explicit = config.explicit()
    config.configure(mode="raise", cpu=False)
    delivery.clear()
    yield
    config.reset(explicit)
    delivery.clear()
    lock_module._signal_classes.clear()


@pytest.fixture(params=["normal", "starving", "fifo"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes locks and conditions of each kind: always in normal mode, starving as soon as one waits, and FIFO."""
    threshold = {"normal": 10**15, "starving": -1, "fifo": 10**6}[request.param]
    monkeypatch.setattr(settings, "starvation_threshold_ns", threshold)

    def lock(kind: Any = aio.Lock, **arguments: Any) -> Any:
        return kind(fairness="fifo" if request.param == "fifo" else "go", **arguments)

    return lock
