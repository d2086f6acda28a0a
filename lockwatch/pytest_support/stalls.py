"""The last resort: a test whose threads stand still for too long fails; if it goes on so, the run ends.

One thread of our own looks, a few times in the limit, where each test stands. A test stalls when for the whole
limit the thread that runs it has not moved (same frame, same instruction, same wait), and all of its threads
together have computed for less than a tenth of that time. Then

1. the stall becomes a finding, with all stacks, and the waits of the test's threads end with an error, as those
   of victims (`lockwatch.pytest_support.unwinding`); a main thread that waits for something that lockwatch cannot
   wake is interrupted by a signal, where there is one;
2. if nothing has moved after the same time again, at most `PATIENCE` seconds, the report of the run is written as
   far as it got, the stacks of all threads go to stderr, and the process ends with status `STATUS`.

Guarantees: nothing happens while somebody debugs the test. A test that computes
is left alone.

Cost: a look at the threads' frames, four times in the limit, at most every 50 ms.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from lockwatch import diagnosis, errors, findings
from lockwatch._core import agents, signals
from lockwatch._core.frames import current_frames
from lockwatch._core.originals import start_new_thread
from lockwatch._core.waits import innermost
from lockwatch.pytest_support import scopes, unwinding
from lockwatch.report import text

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockwatch.findings import Finding
    from lockwatch.pytest_support.scopes import Scope

PATIENCE = 5.0
"""Seconds at most between the attempt to unwind a stalled test and the end of the run."""

STATUS = 66
"""The status of a process that was ended."""

_SHORTEST = 0.05
_LONGEST = 1.0
_WORKS = 0.1
"""The part of the time for which the threads of a test that works compute."""
_SIGNAL = getattr(signal, "SIGURG", None)
"""Interrupts the main thread; by default it is ignored, and hardly ever used."""

_DEBUGGERS = frozenset({"bdb", "pydevd", "_pydevd_bundle", "pydevd_frame_evaluator"})


class Monitor:
    """Looks after the tests that run.

    Args:
        deliver: what makes a finding known.
        give_up: called to end the process, with the test that stands still; does not return.

    Attributes:
        fired: whether a test had to be unwound.
    """

    def __init__(self, deliver: Callable[[Finding], None], give_up: Callable[[Scope], None]) -> None:
        self._deliver = deliver
        self._give_up = give_up
        self._stopped = False
        self._started = False
        self.fired = False
        self._limits: list[float] = []
        self._since: dict[Scope, tuple[object, float, float]] = {}
        self._told: dict[Scope, float] = {}
        self._interrupt: errors.LockwatchError | None = None
        self._handler_before: Any = None

    def watch(self, scope: Scope) -> None:
        """Look after a test that is about to run."""
        if scope.settings.stall and not self._started:
            self._started = True
            self._take_signal()
            start_new_thread(self._run, ())

    def forget(self, scope: Scope) -> None:
        """Look no longer after a test that is over."""
        self._since.pop(scope, None)
        self._told.pop(scope, None)

    def stop(self) -> None:
        """End the thread, soon, and give the signal back."""
        self._stopped = True
        if self._handler_before is not None and _SIGNAL is not None:
            signal.signal(_SIGNAL, self._handler_before)
            self._handler_before = None

    def _take_signal(self) -> None:
        if _SIGNAL is None or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(_SIGNAL) in (signal.SIG_DFL, signal.SIG_IGN):
            self._handler_before = signal.signal(_SIGNAL, self._interrupted)
            signals.harmless(self._interrupted)

    def _interrupted(self, number: int, frame: object) -> None:
        del number, frame
        error, self._interrupt = self._interrupt, None
        if error is not None:
            raise error

    def _run(self) -> None:
        agents.mark_internal()
        try:
            while not self._stopped:
                running = list(scopes.running.copy().values())
                limits = [scope.settings.stall for scope in running if scope.settings.stall]
                time.sleep(max(_SHORTEST, min([_LONGEST, *(limit / 4 for limit in limits)])))
                for scope in running:
                    if scope.settings.stall:
                        self._look(scope)
        finally:
            agents.internal_idents.discard(threading.get_ident())

    def _look(self, scope: Scope) -> None:
        if scope.debugged or is_debugging():
            self.forget(scope)
            return
        now, place, cpu = time.monotonic(), place_of(scope), cpu_of(scope)
        before, since, cpu_then = self._since.get(scope, (None, now, cpu))
        works = cpu - cpu_then > (now - since) * _WORKS
        if works or place != before or scope not in scopes.running.copy().values():
            self._told.pop(scope, None)
            self._since[scope] = (place, now, cpu)
            return
        told = self._told.get(scope)
        if told is None:
            if now - since >= scope.settings.stall:
                self._told[scope] = time.monotonic()
                self._unwind(scope, now - since)
        elif now - told >= min(scope.settings.stall, PATIENCE):
            self._give_up(scope)

    def _unwind(self, scope: Scope, seconds: float) -> None:
        self.fired = True
        finding = stall(scope, seconds)
        self._deliver(finding)
        for thread in scopes.threads_of(scope):
            agent = unwinding.agent_of(thread)
            if agent is not None:
                unwinding.end_thread(agent, finding)
        runner = agents.by_ident.get(scope.ident)
        woken = runner is not None and unwinding.end_thread(runner, finding)
        if not woken and self._handler_before is not None and scope.ident == threading.main_thread().ident:
            self._interrupt = errors.DeadlockError(finding)
            signal.pthread_kill(scope.ident, _SIGNAL)  # type: ignore[arg-type]


def place_of(scope: Scope) -> object:
    """Return where the thread that runs a test stands: what compares equal if it has not moved."""
    frame, agent = current_frames().get(scope.ident), agents.by_ident.get(scope.ident)
    wait = None if agent is None else innermost(agent)
    return id(frame), getattr(frame, "f_lasti", None), getattr(wait, "serial", None)


def cpu_of(scope: Scope) -> float:
    """Return for how many seconds the threads of a test have computed so far, where the system tells."""
    numbers = [thread.native_id for thread in scopes.threads_of(scope)]
    runner = agents.by_ident.get(scope.ident)
    return sum(map(_cpu, [*numbers, None if runner is None else runner.native_id]))


def _cpu(native_id: int | None) -> float:
    try:
        with open(f"/proc/self/task/{native_id}/stat", "rb") as file:
            fields = file.read(1024).rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


def stall(scope: Scope, seconds: float) -> Finding:
    """Return the finding that says that a test stands still."""
    runner = agents.by_ident.get(scope.ident)
    wait = None if runner is None else innermost(runner)
    what = "" if wait is None else f", waiting for {diagnosis.resource_label(wait.resource)}"
    evidence = [] if runner is None or wait is None else [(str(wait.resource.kind), diagnosis.place(wait))]  # type: ignore[attr-defined]
    return findings.Finding(
        kind="stall",
        level="error",
        message=f"the test has not moved for {text.humanise(seconds)} in its {scope.phase or 'run'}{what}",
        pid=os.getpid(),
        time=time.time(),
        parties=diagnosis.everybody(),
        advice="this is no proof of a deadlock: somebody may still act; --lockwatch-stall sets the limit",
        fingerprint=findings.fingerprint("stall", None, evidence),
    )


def is_debugging() -> bool:
    """Whether somebody debugs this process (pdb, pydevd, or a debugger by ``sys.monitoring``)."""
    for tracer in (sys.gettrace(), threading.gettrace()):
        if str(getattr(tracer, "__module__", "") or "").split(".")[0] in _DEBUGGERS:
            return True
    monitoring = getattr(sys, "monitoring", None)
    return monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID) is not None
