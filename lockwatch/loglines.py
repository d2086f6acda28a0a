"""Findings as lines of the program's log, whose handlers are the program's code and take its locks.

Who finds something is in the middle of something: it holds locks, or runs as a finalizer on top of who knows what. A
handler that wants one of these locks would wait for its own thread. So a line is written by a thread of its own:

  * Whoever has the line to write waits for it, so that lines come in order, but not for longer than `_PATIENCE_NS`;
    and no longer at all once the writer itself is seen waiting for a lock. It writes when it gets that, at the latest
    at exit.
  * If the writer is the victim of a deadlock with the program (it is always chosen), nothing is said of
    it: without its line there would have been none. Nor are orders of locks learned from writers.

Assumed atomic, with and without the GIL: ``set.add``, ``discard`` and ``copy``.

Cost: one thread for each line.
"""

import atexit
import os
import sys
import threading
from time import monotonic_ns
from typing import Any, Final

from lockwatch._core import agents, lockorder
from lockwatch._core.knots import EXPENDABLE, Knot
from lockwatch._core.originals import LockType, allocate_lock, get_ident, start_new_thread

_LEVELS: Final = {"error": 40, "warning": 30}
_PATIENCE_NS: Final = 1_000_000_000
_LOOK_S: Final = 0.01

_writers: set[int] = set()
"""The threads that write a line right now, by their idents."""
_unwritten: "set[_Line]" = set()
"""The lines that are not written yet."""


class _Line:
    __slots__ = ("done", "error", "record", "writer")

    def __init__(self, record: Any) -> None:
        self.record = record
        self.done: LockType = allocate_lock()
        self.error: Exception | None = None
        self.writer: agents.Agent | None = None

    def write(self) -> None:
        """Log it."""
        logging: Any = sys.modules["logging"]
        logger = logging.getLogger(self.record.name)
        if logger.hasHandlers() and logger.isEnabledFor(self.record.levelno):
            logger.handle(self.record)

    def stuck(self) -> bool:
        """Whether its writer waits for something."""
        return self.writer is not None and bool(self.writer.waits)


def write(name: str, level: str, message: str) -> Exception | None:
    """Log a line, if the program has logging loaded, and a handler for it.

    Args:
        name: what kind of line it is: the logger is ``lockwatch.`` and this.
        level: "error", "warning" or "note".
        message: the line.

    Returns:
        What went wrong, if anything did, and has done so by now.
    """
    logging: Any = sys.modules.get("logging")
    if logging is None or not _somebody_listens(logging, f"lockwatch.{name}"):
        return None
    try:
        make = logging.getLogRecordFactory()  # here, since it notes the thread
        record = make(f"lockwatch.{name}", _LEVELS.get(level, 20), __file__, 0, "%s", (message,), None)
    except Exception as error:
        return error
    line = _Line(record)
    line.done.acquire()
    _unwritten.add(line)
    try:
        start_new_thread(_write_apart, (line,))
    except RuntimeError:  # the interpreter is about to exit
        _write(line)
    else:
        until = monotonic_ns() + _PATIENCE_NS
        while not line.done.acquire(timeout=_LOOK_S):
            if line.stuck() or monotonic_ns() > until:
                break
    return line.error


def _somebody_listens(logging: Any, name: str) -> bool:
    """Whether a logger has handlers, its own or an ancestor's; without making it, which takes a lock of logging's."""
    loggers = getattr(getattr(logging, "root", None), "manager", None)
    if loggers is None:  # it is just being imported
        return False
    known = [loggers.loggerDict.get(one) for one in (name, name.partition(".")[0])]
    return any(getattr(one, "handlers", None) for one in (*known, loggers.root))


def writing() -> bool:
    """Whether the calling thread writes a line."""
    return get_ident() in _writers


def only_ours(knot: Knot) -> bool:
    """Whether a knot is untied by giving up a line that is being written."""
    return knot.victim is not None and knot.victim.agent.ident in _writers


def _write_apart(line: _Line) -> None:
    line.writer = agents.current()
    line.writer.name = "a line of the log"
    line.writer.weight = EXPENDABLE
    lockorder.not_asked.add(line.writer.serial)
    try:
        _write(line)
    finally:
        lockorder.not_asked.discard(line.writer.serial)
        dummy = threading._active.get(get_ident())  # type: ignore[attr-defined]
        if isinstance(dummy, threading._DummyThread):  # a handler has asked for the current thread
            threading._active.pop(get_ident(), None)  # type: ignore[attr-defined]
        line.done.release()


def _write(line: _Line) -> None:
    me = get_ident()
    _writers.add(me)
    try:
        line.write()
    except Exception as error:
        finding = getattr(error, "finding", None)
        if getattr(finding, "kind", None) != "deadlock":
            line.error = error
    finally:
        _writers.discard(me)
        _unwritten.discard(line)


def _at_exit() -> None:
    """Give the lines that could not be written at once the time for it."""
    until = monotonic_ns() + _PATIENCE_NS
    for line in _unwritten.copy():
        line.done.acquire(timeout=max(0.0, (until - monotonic_ns()) / 1e9))


def _after_fork_in_child() -> None:
    _writers.clear()
    _unwritten.clear()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
