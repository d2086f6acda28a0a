"""What the mechanism asks of the layers above; they put their functions in here when they are imported.

Assumes: plain stores into module globals, done once at import of `lockwatch.delivery`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lockwatch._core.agents import Agent
    from lockwatch._core.holds import Hold
    from lockwatch._core.knots import Knot
    from lockwatch._core.waits import Wait


def _report(knot: Knot) -> object:
    return knot


def _error(finding: object) -> BaseException:
    return RuntimeError(f"deadlock: {finding}")


def _stall(wait: Wait, last: bool) -> bool:
    del wait, last
    return True


def _misuse(message: str) -> BaseException:
    return RuntimeError(message)


def _held_across_await(agent: Agent, hold: Hold) -> None:
    del agent, hold


def _left_behind(tasks: Sequence[Agent]) -> None:
    del tasks


def _internal(where: str, error: BaseException) -> None:
    del where, error


def _look_again() -> None:
    pass


report: Callable[[Knot], object] = _report
"""Turns a knot into a finding, records and delivers it, and returns it. Must not raise."""
error: Callable[[object], BaseException] = _error
"""Makes the exception that the victim raises out of what `report` returned."""
stall: Callable[[Wait, bool], bool] = _stall
"""Told about a wait that is past a threshold, and whether it is the last one; says whether it concerns anybody."""
misuse: Callable[[str], BaseException] = _misuse
"""Makes the exception for a lock used against its contract."""
held_across_await: Callable[[Agent, Hold], None] = _held_across_await
"""Told about a task that awaits while it holds a thread's lock."""
left_behind: Callable[[Sequence[Agent]], None] = _left_behind
"""Told about the tasks that were pending when their loop was closed."""
internal: Callable[[str, BaseException], None] = _internal
"""Told about an error in lockwatch itself: where, and which."""
look_again: Callable[[], None] = _look_again
"""Told that a knot was not believed since a party of it was running just now: it is to be looked at again soon."""
