"""How a program's process ends: as under plain ``python``, but with a status that may also tell of findings.

``conduct`` guarantees:

1. An uncaught exception leaves for the interpreter, which prints it, calls ``sys.excepthook``, dies by SIGINT for a
   KeyboardInterrupt and so on, all by itself. Only our frames are taken out of the traceback, at the last moment, by a
   hook that steps in front of the program's for that one call.
2. A status other than 0 is the program's own and is never changed; nor is any ending that passes us by
   (``os._exit``, ``os.exec*``, a signal).
3. If the program ends well, the status is decided as late as it can be and still be set without loss: after all
   non-daemon threads have ended and all ``atexit`` callbacks have run, so that what they find counts.
4. A forked child that comes back here ends by its own outcome and takes no part in 3.

How 3 is done. The interpreter fixes the exit status first, then waits for threads (``threading._shutdown``), then runs
``atexit``, then tears modules down, flushes and exits. ``os._exit`` in the last callback could still change the status,
but would skip the teardown: unflushed files that the program left open would lose data. So the first two steps are
taken here, with the interpreter's own functions and in its order, and then the status is returned as usual; the
interpreter repeats both and finds nothing left to do. What comes after that (finalizers of globals, daemon threads in
their last moments) is still reported, but no longer changes the status.
"""

import atexit
import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any


def conduct(start: Callable[[], None], judge: Callable[[], int] | None) -> int:
    """Runs a program to the end of its process, as far as Python code can.

    Args:
        start: runs the program's main module.
        judge: called once everything of the program has ended well; returns the exit status. None: leave all that to
            the interpreter.

    Returns:
        The exit status: 0, or what ``judge`` said.

    Raises:
        BaseException: what the program raised, to be passed on to the interpreter untouched.
    """
    home = os.getpid()
    try:
        start()
    except SystemExit as stop:
        if judge is None or os.getpid() != home or not _is_success(stop.code):
            raise
    except BaseException as error:
        _hide_frames(error)
        raise
    # With -i or PYTHONINSPECT the process goes on with a prompt.
    if judge is None or os.getpid() != home or sys.flags.inspect or os.environ.get("PYTHONINSPECT"):
        return 0
    _join_threads()
    atexit._run_exitfuncs()
    return judge()


def _is_success(code: object) -> bool:
    """Whether ``sys.exit(code)`` ends the process with status 0."""
    return code is None or (isinstance(code, int) and code & 0xFF == 0 and abs(code) <= sys.maxsize)


def _trimmed(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without the outermost frames, up to the last one in a row that is ours."""
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith("lockwatch."):
        trace = trace.tb_next
    return trace


def _hide_frames(error: BaseException) -> None:
    """Arranges that the interpreter reports ``error``, which is on its way out, as if we were not there."""
    trimmed = _trimmed(error.__traceback__)
    hook = getattr(sys, "excepthook", None)

    def report(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        if hook is None:
            del sys.excepthook
        else:
            sys.excepthook = hook
        if value is error:  # on the way here it has collected the frames below ours
            sys.last_traceback = trace = error.__traceback__ = trimmed
        if hook is None:
            print("sys.excepthook is missing", file=sys.stderr)
            sys.__excepthook__(kind, value, trace)
            return
        try:
            hook(kind, value, trace)
        except SystemExit:
            raise
        except BaseException as failure:
            print("Error in sys.excepthook:", file=sys.stderr)
            failure.__traceback__ = _trimmed(failure.__traceback__)
            sys.__excepthook__(type(failure), failure, failure.__traceback__)
            print("\nOriginal exception was:", file=sys.stderr)
            sys.__excepthook__(kind, value, trace)

    sys.excepthook = report


def _join_threads() -> None:
    """The interpreter's wait for non-daemon threads; like there, Ctrl-C ends the wait and is only mentioned."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
    except BaseException as error:
        message = "Exception ignored on threading shutdown" if sys.version_info >= (3, 14) else None
        subject = threading if sys.version_info < (3, 13) else None
        _ignored(error, message, subject)


def _ignored(error: BaseException, message: str | None, subject: object) -> None:
    """Hands ``error`` to ``sys.unraisablehook``, as the interpreter does with what nobody can catch."""
    hook = sys.unraisablehook
    seen: list[object] = []

    class Unraisable:
        def __del__(self) -> None:
            raise ValueError

    # The hook takes only this type, which has no public name: let the interpreter make one.
    sys.unraisablehook = seen.append
    try:
        Unraisable()
    finally:
        sys.unraisablehook = hook
    trace = _trimmed(error.__traceback__)
    error.__traceback__ = trace
    arguments: Any = type(seen[0])
    hook(arguments((type(error), error, trace, message, subject)))
