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
    from lockwatch._core.leftovers import Dropped
    from lockwatch._core.mutexbase import MutexBase
    from lockwatch._core.orderrelation import Cycle
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


def _loses(agent: Agent) -> bool:
    del agent
    return False


def _ended_holding(agent: Agent) -> None:
    del agent


def _dropped(lock: Dropped) -> None:
    del lock


def _long_wait(wait: Wait) -> bool:
    del wait
    return True


def _loop_blocked(wait: Wait) -> None:
    del wait


def _lost_in_fork(wait: Wait) -> None:
    del wait


def _learn_order(agent: Agent, lock: MutexBase, hold: Hold) -> None:
    del agent, lock, hold


def _order(cycle: Cycle) -> object:
    return cycle


def _order_error(finding: object) -> BaseException:
    return RuntimeError(f"lock order: {finding}")


def _order_trimmed() -> None:
    pass


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
loses: Callable[[Agent], bool] = _loses
"""Says whether something that an agent that has ended holds is lost; called on its dying thread. Must not raise."""
ended_holding: Callable[[Agent], None] = _ended_holding
"""Told about an agent that has ended, and is gone, and still holds something. Must not raise."""
dropped: Callable[[Dropped], None] = _dropped
"""Told about a lock that died while it was held, or that nobody else may have seen. Must not raise."""
long_wait: Callable[[Wait], bool] = _long_wait
"""Told again and again about a wait for a lock that is a long one, until it says that no more is to be said."""
loop_blocked: Callable[[Wait], None] = _loop_blocked
"""Told about a wait of a thread that runs an event loop, when it has lasted for `settings.loop_block_ns`."""
lost_in_fork: Callable[[Wait], None] = _lost_in_fork
"""Told about a wait with a deadline for a lock whose owner did not come along through a fork."""
learn_order: Callable[[Agent, MutexBase, Hold], None] = _learn_order
"""`lockwatch._core.lockorder.note`: that module builds on the mutex, which calls this when it had to wait."""
order: Callable[[Cycle], object] = _order
"""Turns a cycle of lock orders into a finding, delivers and returns it; None if it is known. Must not raise."""
order_error: Callable[[object], BaseException] = _order_error
"""Makes the exception of an acquire that contradicts the order of locks out of what `order` returned."""
order_trimmed: Callable[[], None] = _order_trimmed
"""Told the first time that lock orders were forgotten, since there are too many."""
internal: Callable[[str, BaseException], None] = _internal
"""Told about an error in lockwatch itself: where, and which."""
look_again: Callable[[], None] = _look_again
"""Told that a knot was not believed since a party of it was running just now: it is to be looked at again soon."""
