"""The uncontended lock of tasks, in the language that `lockwatch._core.fastpath` chose for that of threads.

The twins behave the same: `lockwatch._core.tasktwin` is the reference, ``_fastpath_tasks.h`` the fast one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockwatch._core import fastpath, settings, tasks
from lockwatch._core.mutexbase import MutexMethods
from lockwatch._core.tasktwin import _OLD, READY, _current_task, _current_tasks

if TYPE_CHECKING:
    from typing import TypeVar

    _Class = TypeVar("_Class", bound=type)

__all__ = ["READY", "TaskLock", "TaskRecord", "current_agent", "know_waits", "specialised"]

if TYPE_CHECKING or fastpath.IMPLEMENTATION == "python":
    from lockwatch._core.tasktwin import TaskLock, TaskRecord, current_agent

    def specialised(cls: _Class) -> _Class:
        """Give a class of locks the methods of the fast path as its own: faster in C."""
        return cls

    def know_waits(*parts: object) -> None:
        """Take what waiting for a lock in C needs: a wait to copy, the settings, and the functions for the rest."""

else:
    fastpath._fastpath.setup_tasks(
        tasks.TaskAgent, _current_task, _current_tasks if _OLD else None, tasks.current, READY, vars(settings)
    )
    TaskLock = fastpath._fastpath.TaskLock
    current_agent = fastpath._fastpath.current_agent
    know_waits = fastpath._fastpath.setup_waits
    specialised = fastpath._fastpath.specialise_tasks

    class TaskRecord(MutexMethods, fastpath._fastpath.TaskRecord):
        """What is known of a lock of tasks: the methods, on top of the fields in C."""

        __slots__ = ()
