"""Deadlock weights: who is to be spared when a deadlock needs a victim.

The party of a deadlock with the lowest weight gets the error, as with MySQL's and SQL Server's deadlock
priorities; among equals the one whose wait closed the knot. The weight of a thread or task is 0 until set.

Assumed atomic: one attribute store. Cost: none on locks.
"""

import threading
from types import TracebackType

from lockwatch._core import agents


class deadlock_weight:  # noqa: N801 - used like a function: ``with deadlock_weight(10): ...``
    """Give the calling thread, or the task that runs in it, a deadlock weight for the length of a ``with`` block.

    Blocks nest; the innermost counts. One object may be entered again and again, by one thread or task at a time.

    Args:
        weight: An integer; the higher, the later is this agent chosen as a victim. Negative ones volunteer.

    Raises:
        TypeError: The weight is not an integer.
    """

    def __init__(self, weight: int) -> None:
        self.weight = _integer(weight)
        self._before: list[int] = []

    def __enter__(self) -> None:
        agent = agents.acting()
        self._before.append(agent.weight)
        agent.weight = self.weight

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        agents.acting().weight = self._before.pop()


def set_deadlock_weight(weight: int, thread: threading.Thread | None = None) -> None:
    """Set the deadlock weight of a thread, or of the task that calls this, for good.

    Args:
        weight: An integer; the higher, the later is the thread or task chosen as a victim.
        thread: The thread, started or not; by default the calling task, or the calling thread outside of tasks.

    Raises:
        TypeError: The weight is not an integer, or ``thread`` is not a Thread.
    """
    _integer(weight)
    if thread is None:
        agents.acting().weight = weight
    elif isinstance(thread, threading.Thread):
        agents.set_thread_weight(thread, weight)
    else:
        raise TypeError(f"thread must be a threading.Thread, not {type(thread).__name__}")


def _integer(weight: object) -> int:
    if not isinstance(weight, int) or isinstance(weight, bool):
        raise TypeError(f"a deadlock weight must be an int, not {type(weight).__name__}")
    return weight
