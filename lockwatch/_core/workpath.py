"""Which work comes after which, as pools tell it: `segments` for the calling thread, in C where that is faster.

Called for each piece of work that a pool does, so the usual case is in C (``_fastpath_work.h``): a thread that has
seen no order in its work, and nothing of other threads but what the submitter knew. The rest, and the twin in Python,
is `segments`.

Assumes: as there, only the agent itself advances its clock.
"""

from __future__ import annotations

from lockwatch._core import agents, fastpath, segments, settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lockwatch._core.segments import Clock, Past

__all__ = ["begin_work", "come_after", "end_work", "submit_work", "thread_agent"]


def submit_work() -> Past:
    """Return what happened before a piece of work that the calling thread submits now (`segments.submit`)."""
    return segments.submit(agents.current())


def begin_work(past: Past) -> Clock:
    """Begin a piece of work that was submitted after ``past``; return its clock (`segments.begin_work`)."""
    return segments.begin_work(agents.current(), past)


def end_work(clock: Clock) -> Clock | Past:
    """End the piece of work with this clock; return what tells others what it knew (`segments.end_work`)."""
    return segments.end_work(agents.current(), clock)


def come_after(future: Any) -> None:
    """Begin a segment after the work of a future whose result the calling thread has, if that is news."""
    clock = getattr(future, segments.ATTRIBUTE, None)
    if clock is not None and settings.order:
        segments.acquire(agents.current(), clock)


thread_agent = agents.current

if fastpath.IMPLEMENTATION == "c":
    fastpath._fastpath.setup_work(
        agents.Agent,
        segments.Clock,
        segments.Exactness,
        segments.Past,
        segments.NOTHING,
        agents.current,
        submit_work,
        begin_work,
        end_work,
        come_after,
        segments.ATTRIBUTE,
    )
    thread_agent = fastpath._fastpath.thread_agent
    submit_work = fastpath._fastpath.submit_work
    begin_work = fastpath._fastpath.begin_work
    end_work = fastpath._fastpath.end_work
    come_after = fastpath._fastpath.come_after
