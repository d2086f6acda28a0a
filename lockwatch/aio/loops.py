"""Event loops that have nothing to do: the moment at which a deadlock of tasks can be seen that no lock closed.

A task that awaits another task, a future or an event says so to nobody. So a loop that is about to sleep waits a
moment first (2 ms); if nothing has come by then, its tasks are looked at: those that can never go on, whatever
happens outside, make a knot like any other. A loop with no timer and no I/O of its own, moreover, is itself
asleep: its thread counts as waiting for anybody to give it something, and when nobody is left awake in the process
that is Go's ``checkdead``.

Guarantees: ``select`` returns what the original returns, no later; nothing is done for a loop that is busy, or
sleeps no longer than a moment. A loop that idles often is looked at so rarely that it costs it at most 1 % of its
time.

Cost: about 0.1 us for each ``select`` of a loop that is busy; else one more system call, and 2 to 5 us per task.

Assumes: loops that keep their selector in ``_selector`` and their callbacks in ``_ready``, as asyncio's do. uvloop's
do not: their tasks are looked at only when a lock blocks.
"""

from __future__ import annotations

import asyncio
import selectors
from asyncio import _get_running_loop
from functools import wraps
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING, Any

from lockwatch._core import agents, detector, hooks, parking, reduction, settings, tasks
from lockwatch._core.holds import CODE, LASTI
from lockwatch._core.ontop import waits_in
from lockwatch._core.tasks import IdleLoop
from lockwatch._core.waits import Wait, innermost, publish, withdraw
from lockwatch.aio.record import watch_end

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockwatch._core.agents import Agent

_MOMENT = 0.002
"""Seconds for which a loop must have been idle to be looked at."""
_RARELY = 100
"""How many times as long as the last look took the next one is put off."""
_MOST_SETTLED = 100
"""How many stuck tasks are reported by one look at most."""

_NEXT_LOOK = "_lockwatch_next_look"


def watched_select(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a selector's ``select``; selectors that no running loop uses are left alone."""

    @wraps(original)
    def select(self: Any, timeout: float | None = None) -> Any:
        if timeout is not None and timeout <= _MOMENT:
            return original(self, timeout)
        loop: Any = _get_running_loop()
        if loop is None or getattr(loop, "_selector", None) is not self or not settings.watch:
            return original(self, timeout)
        return _sleep(loop, lambda seconds: original(self, seconds), timeout)

    return select


@waits_in
def _sleep(loop: Any, select: Callable[[float | None], Any], timeout: float | None) -> Any:
    """Let the loop sleep, looking at its tasks when it has slept a moment, and again when a grace is over."""
    until = None if timeout is None else monotonic() + timeout
    asleep = timeout is None and len(loop._selector.get_map()) <= getattr(loop, "_internal_fds", 0)
    wait = Wait(agents.current(), IdleLoop(loop), monotonic_ns())
    wait.raises = False
    if asleep:
        publish(wait)
    try:
        while True:
            look_at = getattr(loop, _NEXT_LOOK, 0.0)
            now = monotonic()
            pause = max(_MOMENT, look_at - now)
            if until is not None and now + pause >= until:
                return select(max(0.0, until - now))
            events = select(pause)
            if events or loop._ready:
                return events
            if settings.held_across_await and wait.agent.holds:
                _look_for_held_locks(loop, wait.agent)
            again = _look(loop, wait if asleep else None)
            if loop._ready:
                return []
            if again is None:
                return select(None if until is None else max(0.0, until - monotonic()))
            setattr(loop, _NEXT_LOOK, max(getattr(loop, _NEXT_LOOK), again))
    finally:
        if asleep:
            withdraw(wait)


def _is_long(wait: Wait) -> bool:
    return monotonic_ns() - wait.since_ns > parking.LONG_NS


def _look(loop: Any, idle: Wait | None) -> float | None:
    """Look for deadlocks among the loop's tasks; return when to look again (``monotonic``), if there is a reason."""
    began = monotonic()
    again: float | None = None
    try:
        tasks.loops.add(loop)
        everyone = tasks.of_loop(loop)
        stuck = reduction.stuck_closed(everyone)
        for agent, edge in list(stuck.items())[:_MOST_SETTLED]:
            if not edge.wait.slot and innermost(agent) is edge.wait:
                detector.block(edge.wait)
                if edge.wait.recheck_ns is not None:
                    until = monotonic() + max(0, edge.wait.recheck_ns - monotonic_ns()) / 1e9
                    again = until if again is None else min(again, until)
        if idle is not None and not loop._ready:
            detector.block(idle)
        for agent in everyone:
            if agent.holds:
                watch_end(agent)  # the exception that ends it can be told only then
        if any(agent.waits and _is_long(agent.waits[-1]) for agent in everyone):
            parking.on_long_wait()
    except Exception as error:
        hooks.internal("event loop", error)
    setattr(loop, _NEXT_LOOK, monotonic() + _RARELY * (monotonic() - began))
    return again


_said: set[tuple[int, int]] = set()
"""Where a lock that was held across an await was taken: (id of the code object, instruction); each is said once."""


def _look_for_held_locks(loop: Any, runner: Agent) -> None:
    """Report the thread's locks that its tasks hold while they await."""
    for hold in list(runner.holds.copy().values()):
        where = id(hold[CODE]), hold[LASTI]
        agent = tasks.task_with(loop, hold)
        if agent is not None and where not in _said:
            _said.add(where)
            hooks.held_across_await(agent, hold)


def watched_close(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a loop's ``close`` to report tasks that it leaves behind."""

    @wraps(original)
    def close(self: Any) -> Any:
        pending = [] if self.is_closed() or self.is_running() else tasks.of_loop(self)
        if pending:
            hooks.left_behind(pending)
        return original(self)

    return close


def watched_run(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a loop's ``run_forever``, through which all ways to run it lead, to know of the loop."""

    @wraps(original)
    def run_forever(self: Any) -> Any:
        tasks.loops.add(self)
        return original(self)

    return run_forever


def targets() -> list[tuple[Any, str, Any]]:
    """Return what `install()` replaces here: owner, attribute, replacement."""
    names = ("SelectSelector", "PollSelector", "EpollSelector", "DevpollSelector", "KqueueSelector")
    classes: list[Any] = [getattr(selectors, name) for name in names if hasattr(selectors, name)]
    found = [(cls, "select", watched_select(cls.select)) for cls in classes if "select" in vars(cls)]
    base: Any = asyncio.BaseEventLoop
    run, close = watched_run(base.run_forever), watched_close(base.close)
    return [*found, (base, "run_forever", run), (base, "close", close)]
