"""The wait at interpreter exit: the main thread waits for every thread that is not a daemon.

``threading._shutdown`` joins them one after the other, in C on newer versions. With this wait in the graph,
threads that will never end make a knot like any other: the program ends with a report instead of hanging
after its last line. The main thread is never the victim here: there is no code of the program's left in it to
catch the error.

Assumes that the main thread calls it, by the wrapper that `lockwatch.patch` puts in place of
``threading._shutdown``.
"""

from __future__ import annotations

import threading
from time import monotonic_ns
from typing import TYPE_CHECKING

from lockwatch._core import agents, detector, ontop
from lockwatch._core.waits import ALL, NOBODY, Blockers, Wait, publish, withdraw

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockwatch._core.agents import Agent


class Exit:
    """The resource that the main thread waits for: the end of all non-daemon threads."""

    kind = "interpreter exit"
    name = None
    lock_class = "interpreter exit"

    def blockers(self, _wait: Wait, /) -> Blockers:
        """Name all of the threads that are waited for; nothing is known of one that never used a watched lock."""
        waited_for: list[Agent] = []
        for ident, thread in threading._active.copy().items():  # type: ignore[attr-defined]
            if thread is threading.main_thread() or thread._daemonic:
                continue
            agent = agents.by_ident.get(ident)
            if agent is None:
                return NOBODY
            waited_for.append(agent)
        return Blockers(ALL, tuple(waited_for), self) if waited_for else NOBODY

    def forget_waits(self, survivor: Agent, /) -> None:
        """Nothing is kept here."""


@ontop.waits_in
def wait_for_threads(shutdown: Callable[[], object]) -> None:
    """Run the original ``threading._shutdown``; its last part is a wait for all threads that are not daemons.

    Its first part calls what was registered to be called then, which may well wake those threads (executors
    do it so). Such calls are made in reverse order: so the one put first is the last, and begins the wait.
    """
    wait = Wait(agents.current(), Exit(), monotonic_ns())
    wait.raises = False
    callbacks: list[Callable[[], object]] = threading._threading_atexits  # type: ignore[attr-defined]

    def begin() -> None:
        publish(wait)
        detector.block(wait)

    callbacks.insert(0, begin)
    try:
        shutdown()
    finally:
        withdraw(wait)
        if begin in callbacks:
            callbacks.remove(begin)
