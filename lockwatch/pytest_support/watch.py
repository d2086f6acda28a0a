"""The hooks: a test begins, its phases pass, its report is made, it is cleaned up after; the session begins and ends.

Guarantees:
  * Every failing finding that is made while a test runs fails that test: in the report of the phase in which it was
    made; what is found when the test is over, in that of its teardown.
  * What a test leaves behind is told, then unwound, before the next test begins. What cannot be unwound is told, and
    at the end does not keep the process from ending.
  * pytest's own results are changed only by findings.

Cost: some tens of microseconds for each test without findings.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from lockwatch import delivery, patch
from lockwatch._core import agents, chains, hooks
from lockwatch._core import settings as knobs
from lockwatch._core.holds import LOCK
from lockwatch.errors import LockwatchError
from lockwatch.pytest_support import leaks, merging, neighbours, reports, scopes, stalls, unwinding, wording
from lockwatch.pytest_support.ending import Ending
from lockwatch.pytest_support.scopes import Scope
from lockwatch.pytest_support.session import Session, find_leaks, from_json, to_json
from lockwatch.pytest_support.settings import of_session, of_test
from lockwatch.pytest_support.view import View

if TYPE_CHECKING:
    from collections.abc import Generator


PATIENCE = 1.0
"""Seconds without progress after which unwinding gives up."""

_SCOPE = pytest.StashKey[Scope]()
_WRONG = pytest.StashKey[str]()


def begin(config: pytest.Config, options: Any) -> Watch:
    """Install lockwatch for a session, as early as pytest lets us.

    Args:
        config: pytest's, perhaps an early one.
        options: the parsed command line.

    Returns:
        The plugin to register.

    Raises:
        pytest.UsageError: a setting cannot be, or lockwatch cannot be installed here.
    """
    session = Session(of_session(config, options))
    try:
        session.begin()
    except LockwatchError as error:
        session.end()
        raise pytest.UsageError(f"lockwatch: {error}") from error
    return Watch(session)


class Watch:
    """The plugin's hooks, once it is switched on."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.ending = Ending(session)
        self.monitor = stalls.Monitor(delivery.deliver, self.ending.give_up)
        self._unwatched = len(patch.unwatched_locks())
        self._carriers: Any = nullcontext()
        self._timers: neighbours.NativeTimers | None = None
        self._timeout = neighbours.TimeoutTimer()
        self._told_once = neighbours.told_once()
        self._orders: dict[str, Any] = {}

    def view(self, item: pytest.Item) -> View:
        """Return the fixture's value for a test."""
        return View(self.session, item.stash[_SCOPE])

    # --- the session -----------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Take this process's place among the workers, make the report file, keep a way to stderr."""
        given: dict[str, Any] = getattr(config, "workerinput", {})
        worker = given.get("workerid")
        try:
            self.session.settle(worker, given.get("lockwatch_folder"))
        except OSError as error:
            raise pytest.UsageError(f"--lockwatch-report: {error.strerror or error}") from error
        if worker is not None:
            self._carriers = neighbours.CarrierThreads()
        self._timers = neighbours.NativeTimers(config)
        self.ending.keep_stderr()

    def pytest_report_header(self) -> str:
        """Say that locks are watched, and how."""
        return wording.header(self.session.settings, self._unwatched)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self) -> None:
        """Stand before pytest's own look at errors in threads."""
        self._told_once.__enter__()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Take in what was found outside of tests; a failure among it fails the run."""
        judged = self.session.judge_outside(session.config)
        if self.session.worker is not None:
            output: dict[str, Any] = getattr(session.config, "workeroutput", {})
            output["lockwatch"] = to_json(judged)
            output["lockwatch_orders"] = merging.learned()
        else:
            level = "error" if self.session.settings.order == "error" else "warning"
            for finding in merging.conflicts(self._orders, level):
                judged += self.session.judge_one(finding, session.config)
            for finding, failed in judged:
                self.session.collect(finding, failed)
        outside = any(failed and finding.test is None for finding, failed in self.session.collected)
        if outside and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self.ending.status = int(session.exitstatus) or stalls.STATUS
        self._told_once.__exit__()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Write the section, if there is anything to say."""
        more = [f"could not be ended: {thread!r}" for thread in self.ending.left()]
        wording.write_summary(terminalreporter, self.session.collected, more)

    def pytest_unconfigure(self) -> None:
        """Put back what was before, unless threads are left: then the end of the process stays watched."""
        self.monitor.stop()
        if self.monitor.fired or self.ending.left():
            self.ending.end_some_time()
            return
        self.session.end()
        self.ending.let_stderr_go()

    # --- a test ----------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Give what happens from here on to the test."""
        settings = self.session.settings
        try:
            settings = of_test(settings, item)
        except pytest.UsageError as error:
            item.stash[_WRONG] = str(error)
        scope = item.stash[_SCOPE] = Scope(item, settings)
        for finding, failed in self.session.judge_outside(item.config):
            self.session.collect(finding, failed)
        knobs.raise_deadlocks = settings.mode == "raise"
        self._note_what_is_there(scope)
        chains.forget_all()  # what another test did is no reason not to look
        if self._timers is not None:
            self._timers.before()
        scopes.running[scope.ident] = scope
        self.monitor.watch(scope)
        try:
            with self._carriers:
                return (yield)
        finally:
            scopes.running.pop(scope.ident, None)
            self.monitor.forget(scope)
            if self._timers is not None:
                self._timers.over()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        """Watch the setup."""
        if self._timers is not None:
            self._timers.after()
        if _WRONG in item.stash:
            pytest.fail(item.stash[_WRONG], pytrace=False)
        with reports.phase(item.stash[_SCOPE], "setup"):
            yield

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """Watch the test itself."""
        with reports.phase(item.stash[_SCOPE], "call"):
            yield

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        """Watch the teardown, then look at what is left behind."""
        with reports.phase(item.stash[_SCOPE], "teardown"):
            try:
                yield
            finally:
                self._clean_up(item.stash[_SCOPE])

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, object, object]:
        """What a fixture of a wider scope makes is no test's own."""
        if fixturedef.scope == "function":
            return (yield)
        try:
            with scopes.wider():
                return (yield)
        finally:
            scope = scopes.running.get(threading.get_ident())
            if scope is not None:
                self._note_what_is_there(scope)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
        """Make what was found in this phase part of its report."""
        report = yield
        scope = item.stash.get(_SCOPE, None)
        if scope is not None:
            judged = self.session.judge(scope)
            remarks, scope.remarks = scope.remarks, []
            if judged or remarks:
                error = None if call.excinfo is None else call.excinfo.value
                reports.amend(report, item, judged, remarks, error)
        return report

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Gather findings in the process that prints."""
        if self.session.worker is None:
            for finding, failed in from_json(getattr(report, "lockwatch", [])):
                self.session.collect(finding, failed)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> Generator[None, object, object]:
        """Give tests that fail by findings a letter and a word of their own."""
        result = yield
        if report.failed and getattr(report, "lockwatch_failed", False):
            category = "failed" if report.when == "call" else "error"
            return category, wording.LETTER, (wording.WORD, {"red": True})
        return result

    def _note_what_is_there(self, scope: Scope) -> None:
        runner = agents.by_ident.get(scope.ident)
        scope.held = {} if runner is None else runner.holds.copy()
        scope.known_tasks = leaks.known_tasks()

    def _clean_up(self, scope: Scope) -> None:
        """Tell what a test has left behind, and make it go away."""
        found = find_leaks(scope)
        for finding in found:
            delivery.deliver(finding)
            delivery.announce(finding)
        if not found or scope.settings.mode != "raise":
            return
        allow = scope.settings.allow
        threads = [] if "threads" in allow else leaks.left_threads(scope, grace=0)
        if threads:
            left = unwinding.unwind(threads, found[0], patience=PATIENCE)
            self.ending.stragglers += [thread for thread in left if not thread.daemon]
            if left:
                names = ", ".join(thread.name for thread in left)
                scope.remarks.append(f"lockwatch could not end: {names}")
        if "tasks" not in allow:
            for task in leaks.left_tasks(scope):
                unwinding.end_task(task, found[0])
        if "locks" not in allow:
            for agent, hold in leaks.left_locks(scope):
                if agent.ident == scope.ident:
                    _let_go(hold[LOCK]())

    # --- other plugins ---------------------------------------------------------------------------------

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """pytest-xdist: tell a worker where to put its scratch file."""
        node.workerinput["lockwatch_folder"] = self.session.folder

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """pytest-xdist: take in what a worker has not told in a test's report."""
        output: dict[str, Any] = getattr(node, "workeroutput", {})
        self._orders[node.gateway.id] = output.get("lockwatch_orders", [])
        for finding, failed in from_json(output.get("lockwatch", [])):
            self.session.collect(finding, failed)
        if error is not None:
            told = {(finding.pid, finding.time, finding.fingerprint) for finding, _ in self.session.collected}
            for finding in self.session.read_left_behind(node.gateway.id):
                if (finding.pid, finding.time, finding.fingerprint) not in told:
                    self.session.collect(finding, finding.level == "error")

    @pytest.hookimpl(optionalhook=True, wrapper=True)
    def pytest_timeout_set_timer(self) -> Generator[None, object, object]:
        """pytest-timeout: its timer lets no test go."""
        result = yield
        self._timeout.set()
        return result

    @pytest.hookimpl(optionalhook=True, wrapper=True)
    def pytest_timeout_cancel_timer(self) -> Generator[None, object, object]:
        """pytest-timeout: the timer is gone."""
        result = yield
        self._timeout.cancelled()
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_enter_pdb(self) -> None:
        """Stand down: nothing is raised, and time means nothing, while somebody debugs."""
        knobs.raise_deadlocks = False
        for scope in list(scopes.running.copy().values()):
            scope.debugged = True

    def pytest_leave_pdb(self) -> None:
        """Go on, and look at what has come together meanwhile."""
        knobs.raise_deadlocks = self.session.settings.mode == "raise"
        hooks.look_again()


def _let_go(lock: Any) -> None:
    """Release a lock that the calling thread has left held."""
    try:
        for _ in range(max(1, lock._level())):
            lock.release()
    except Exception as error:
        delivery.note_internal("clean-up after a test", error)
