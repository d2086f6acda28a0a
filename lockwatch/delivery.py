"""From a finding to those who want to know: the record, the sinks, the callbacks, the log.

Guarantees:
  * The finding is recorded and given to the built-in sinks (report file, stderr) by the thread that found it,
    before the victim is woken: whatever the victim does then, it has been said.
  * User code (callbacks of `on_finding`) runs in the victim's thread, just before the error is raised there, with
    nothing of ours held. A callback that raises is logged and removed. Logging handlers: `lockwatch.loglines`.
  * Nothing here raises into the program. An error of our own becomes one finding of kind "internal".

Assumed atomic, with and without the GIL: ``deque.append``, ``list.append``/``remove``/``copy``, one
    dictionary store.

Cost: nothing until there is a finding. The record keeps the last 1,000 and counts the rest.
"""

import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable

from lockwatch import config, diagnosis, dump, errors, findings, loglines
from lockwatch._core import agents, hooks, signals
from lockwatch._core.knots import Knot
from lockwatch._core.originals import get_ident, start_new_thread
from lockwatch._core.waits import Wait
from lockwatch.report import jsonfile, text

Callback = Callable[[findings.Finding], object]

_KEPT = 1000
_record: deque[findings.Finding] = deque(maxlen=_KEPT)
_sinks: list[Callback] = []
_callbacks: list[Callback] = []
_announcing: set[int] = set()
_said: dict[str, object] = {}
_failed: dict[str, object] = {}
_report_sink: Callback | None = None
_print_sink: Callback | None = None


def recorded_findings() -> tuple[findings.Finding, ...]:
    """Return the findings of this process, oldest first; at most the last 1,000."""
    while True:
        try:
            return tuple(_record.copy())
        except RuntimeError:  # without a GIL: another thread has just added one
            continue


def last_deadlock() -> findings.Finding | None:
    """Return the last finding of kind "deadlock", or None (as InnoDB's ``SHOW ENGINE INNODB STATUS`` keeps it)."""
    return next((finding for finding in reversed(recorded_findings()) if finding.kind == "deadlock"), None)


def clear() -> None:
    """Forget all findings so far; what was said once may be said again."""
    _record.clear()
    _said.clear()


def first_time(fingerprint: str) -> bool:
    """Whether this is asked of a fingerprint for the first time; at most 1,000 are remembered."""
    if len(_said) >= _KEPT:
        return False
    mine = object()
    return _said.setdefault(fingerprint, mine) is mine


def on_finding(callback: Callback) -> Callable[[], None]:
    """Have ``callback`` called with each finding from now on.

    For a deadlock it is called in the victim's thread just before the error is raised there; it may take as
    long as it likes, and should not wait for locks of the program, which is stuck. If it raises, that is
    logged and it is removed.

    Returns:
        A function that takes the callback out again.

    Raises:
        TypeError: ``callback`` cannot be called.
    """
    if not callable(callback):
        raise TypeError(f"a callback must be callable, not {type(callback).__name__}")
    _callbacks.append(callback)

    def remove() -> None:
        if callback in _callbacks:
            _callbacks.remove(callback)

    return remove


def add_sink(sink: Callback) -> None:
    """Have a built-in sink called with each finding, by the thread that made it.

    It must be quick and take no lock.
    """
    _sinks.append(sink)


def remove_sink(sink: Callback) -> None:
    """Take a sink out again."""
    if sink in _sinks:
        _sinks.remove(sink)


def report_to(path: str | None) -> None:
    """Write findings into the report file ``path`` from now on, also in forked children; None: stop that."""
    global _report_sink
    if _report_sink is not None:
        remove_sink(_report_sink)
    _report_sink = None
    if path is not None:
        _report_sink = jsonfile.ReportFile(path).add
        add_sink(_report_sink)


def print_to(fd: int | None) -> None:
    """Write the text of findings to a file descriptor from now on; None: stop that."""
    global _print_sink
    if _print_sink is not None:
        remove_sink(_print_sink)
    _print_sink = None
    if fd is not None:

        def write(finding: findings.Finding) -> None:
            data = (text.render(finding) + "\n").encode(errors="backslashreplace")
            while data:
                data = data[os.write(fd, data) :]

        _print_sink = write
        add_sink(write)


def deliver(finding: findings.Finding) -> None:
    """Give a finding to the sinks, not to user code, and record it: what is on record has been written."""
    for sink in _sinks.copy():
        try:
            sink(finding)
        except Exception as error:
            signals.pass_on(error)
            remove_sink(sink)
            note_internal(f"sink {getattr(sink, '__qualname__', sink)!s}", error)
    _record.append(finding)


def announce(finding: findings.Finding) -> None:
    """Give a finding to user code: the callbacks and the log. What those find in turn is only recorded."""
    me = get_ident()
    if me in _announcing or loglines.writing():
        return
    _announcing.add(me)
    try:
        for callback in _callbacks.copy():
            try:
                callback(finding)
            except Exception as error:
                signals.pass_on(error)
                if callback in _callbacks:
                    _callbacks.remove(callback)
                message = f"a callback of on_finding failed and was removed:\n{traceback.format_exc()}"
                _log("callback", "error", message)
        _log(finding.kind, finding.level, finding.message)
    finally:
        _announcing.discard(me)


def announce_apart(finding: findings.Finding) -> None:
    """Announce a finding; if the watchdog made it, from a thread of its own, since user code may block."""
    if get_ident() not in agents.internal_idents:
        announce(finding)
    elif _callbacks or "logging" in sys.modules:
        try:
            start_new_thread(announce, (finding,))
        except RuntimeError:
            pass  # the interpreter is about to exit


def note_internal(where: str, error: BaseException) -> None:
    """Say once for each place that lockwatch itself failed there; raise what a signal handler raised there."""
    signals.pass_on(error)
    mine = object()
    if _failed.setdefault(where, mine) is not mine:
        return
    finding = findings.Finding(
        kind="internal",
        level="warning",
        message=f"lockwatch failed in its {where} and goes on without: {type(error).__name__}: {error}",
        pid=os.getpid(),
        time=time.time(),
        advice="please report this, with the traceback:\n" + "".join(traceback.format_exception(error)),
        fingerprint=findings.fingerprint("internal", None, [(where, type(error).__name__)]),
    )
    deliver(finding)


def _log(name: str, level: str, message: str) -> None:
    error = loglines.write(name, level, message)
    if error is not None:
        note_internal("logging", error)


def _report(knot: Knot) -> findings.Finding:
    try:
        finding = diagnosis.finding_of(knot)
    except Exception as error:
        note_internal("diagnosis", error)
        finding = findings.Finding(
            kind="deadlock",
            cause=knot.cause,
            message=f"deadlock of {len(knot.edges)} (its report failed: {type(error).__name__}: {error})",
            pid=os.getpid(),
            time=time.time(),
        )
    if loglines.only_ours(knot):
        return finding
    deliver(finding)
    if config.current().mode == "observe" or knot.victim is None:
        announce_apart(finding)
    return finding


_STALL_KINDS = frozenset(
    {
        "Lock",
        "RLock",
        "Semaphore",
        "import of module",
        "asyncio.Lock",
        "asyncio.RLock",
        "asyncio.Semaphore",
        "asyncio.BoundedSemaphore",
    }
)
"""What is worth a word when it is long waited for; waiting for work, or for a thread to end, is a normal job."""


def _stall(wait: Wait, last: bool) -> bool:
    try:
        if getattr(wait.resource, "kind", None) not in _STALL_KINDS:
            return False
        finding = diagnosis.stall_of(wait, last=last)
        deliver(finding)
        announce_apart(finding)
    except Exception as error:
        note_internal("stall report", error)
        return True
    if last:
        dump.write(2)
        os._exit(config.current().exit_status or 1)
    return True


def _error(finding: object) -> BaseException:
    if not isinstance(
        finding, findings.Finding
    ):  # the detecting thread was interrupted before it could say more
        finding = findings.Finding(
            kind="deadlock", message="deadlock; its report was interrupted", pid=os.getpid(), time=time.time()
        )
        deliver(finding)
    announce(finding)
    return errors.DeadlockError(finding)


report_to(config.current().report)  # reads files: now, and not while the program is stuck
hooks.report = _report
hooks.error = _error
hooks.misuse = errors.MisuseError
hooks.internal = note_internal
hooks.stall = _stall
