"""How a session ends that cannot end: with a report and all stacks instead of hanging for ever.

Two ways lead here. A test stands still and nothing could be done about it (`give_up`); or the tests are over, but what
they left behind (a thread that nobody can wake, a child process that is waited for) may keep the process from ending
(`end_some_time`).

Guarantees: what was found so far has been written; takes no lock of the program's; does not return once it has begun.

Assumes: called in threads of our own, while the main thread may stand anywhere.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from lockwatch import delivery, dump
from lockwatch._core import agents
from lockwatch._core.originals import start_new_thread
from lockwatch.pytest_support import stalls
from lockwatch.report import text

if TYPE_CHECKING:
    import threading

    from lockwatch.pytest_support.scopes import Scope
    from lockwatch.pytest_support.session import Session

PATIENCE = 10.0
"""Seconds for which the process gets to end by itself."""


class Ending:
    """Ends the process of a session if it does not end by itself.

    Attributes:
        status: the exit status, once it is known.
        stragglers: threads that could not be unwound.
    """

    def __init__(self, session: Session) -> None:
        self.status = stalls.STATUS
        self.stragglers: list[threading.Thread] = []
        self._session = session
        self._fd = 2

    def keep_stderr(self) -> None:
        """Keep a way to stderr that capturing does not change."""
        try:
            self._fd = os.dup(sys.__stderr__.fileno() if sys.__stderr__ is not None else 2)
        except (OSError, ValueError):
            self._fd = 2

    def let_stderr_go(self) -> None:
        """Close it."""
        if self._fd != 2:
            os.close(self._fd)

    def left(self) -> list[threading.Thread]:
        """Return the stragglers that are still there."""
        return [thread for thread in self.stragglers if thread.is_alive()]

    def give_up(self, scope: Scope) -> None:
        """End the process: a test stands still, and nothing could be done about it."""
        lines = [f"\nlockwatch: {scope.nodeid} could not be ended; the run ends here"]
        for finding in [*scope.judged, *scope.inbox]:
            lines.append(text.render(finding))
            if finding not in scope.judged:
                self._session.collect(finding, failure=True)
        self._write("\n".join(lines) + "\n")
        self._end(stalls.STATUS)

    def end_some_time(self) -> None:
        """See to it that the process ends, soon, whatever is left behind."""
        start_new_thread(self._wait_and_end, ())

    def _wait_and_end(self) -> None:
        agents.mark_internal()
        time.sleep(PATIENCE)
        left = ", ".join(thread.name for thread in self.left())
        what = (
            f" without these threads, which do not end: {left}"
            if left
            else ", which something keeps from ending"
        )
        self._write(f"\nlockwatch: the process ends here{what}\n")
        self._end(self.status)

    def _end(self, status: int) -> None:
        """End the process with all stacks, and children that it would wait for at exit."""
        dump.write(self._fd)
        processes: Any = sys.modules.get("multiprocessing.process")
        for child in list(getattr(processes, "_children", ())):
            try:
                child.kill()
            except Exception as error:
                delivery.note_internal("the end of a child", error)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass
        os._exit(status)

    def _write(self, words: str) -> None:
        data = words.encode(errors="backslashreplace")
        while data:
            data = data[os.write(self._fd, data) :]
