"""Whether a thread is gone, seen from outside.

A thread says itself that it ends, by a finalizer in its local storage (`lockwatch._core.agents`). Two things that does
not tell:
  * When it is over: what else is in the storage may run the program's code for a while yet (`is_gone`).
  * That it was said at all. The storage goes with the last reference to it, and whoever looked at it from another
    thread (a tool that lists all objects, say) may have that one. Without a GIL the reference is counted by the thread
    that made it, and what another one drops is left to its maker, or to a thread that was given the maker's ident: that
    may sleep. So the end can be late, or never come, and those who wait for it would (`has_vanished`).

Guarantees: never says so of a thread that may still run code of the program's. Reads only.

Assumes that an ident has one native thread at a time: an agent of another one with the same ident is the proof that its
predecessor is over.

Cost: a call; for threads that ``threading`` did not start a look at one file (20 us), or a list of all threads' frames.
"""

from __future__ import annotations

import os

from lockwatch._core.frames import current_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lockwatch._core.agents import Agent

_TASKS = "/proc/self/task"
_LISTED = os.path.isdir(_TASKS)


def end_mark(thread: Any, native_id: int) -> Any:
    """Return by what it can be told that a thread has been cleared away; see `Agent.end_mark`.

    That is, as far as there is one: the lock that goes with its local storage (to 3.12), its handle, which is done
    after that (from 3.13 on), or the file under which Linux lists it.
    """
    handle: Any = getattr(thread, "_handle", None)
    if hasattr(handle, "is_done") and not handle.is_done():
        return handle
    return getattr(thread, "_tstate_lock", None) or _task(native_id)


def is_gone(agent: Agent, heir: Agent | None) -> bool:
    """Whether the interpreter has cleared the thread of an agent away that has ended.

    Args:
        agent: The agent.
        heir: The agent that is known by its ident now.
    """
    if _is_succeeded(agent, heir):
        return True
    if agent.end_mark is not None:
        return _has_passed(agent.end_mark)
    task = _task(agent.native_id)
    return (task is not None and _has_passed(task)) or agent.ident not in current_frames()


def has_vanished(agent: Agent, heir: Agent | None) -> bool:
    """Whether the thread of an agent that has not ended is gone all the same.

    Args:
        agent: The agent. One that ``threading`` did not start may be anywhere; of the others the mark can be believed,
            but for the main thread's at interpreter exit.
        heir: The agent that is known by its ident now.
    """
    if agent.main or agent.ended or agent.waits:
        return False
    if _is_succeeded(agent, heir):
        return True
    mark = agent.end_mark
    return mark is not None and _has_passed(mark) and (not isinstance(mark, str) or os.path.isdir(_TASKS))


def _is_succeeded(agent: Agent, heir: Agent | None) -> bool:
    return heir is not None and heir is not agent and heir.native_id != agent.native_id


def _has_passed(mark: Any) -> bool:
    if isinstance(mark, str):
        return not os.path.exists(mark)
    return bool(mark.is_done() if hasattr(mark, "is_done") else not mark.locked())


def _task(native_id: int) -> str | None:
    """Return the path under which Linux lists a thread."""
    return f"{_TASKS}/{native_id}" if _LISTED else None
