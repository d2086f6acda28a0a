"""One pytest session under watch: lockwatch installed, findings gathered, and judged by the tests they belong to.

The way of a finding: made anywhere -> `note` (a sink, in the thread that found it) -> the inbox of its test ->
`judge`, in the thread that runs the test, when a phase is over: the hook's word, and whether it is a failure ->
the test's report, which carries it to the process that prints -> `collect` there: summary and JSON file.

A child process has no such way. It adds to a report file of this process's own (the scratch file), which is looked
at after each phase.

Guarantees: `note` takes no lock and waits for nothing; the hook, which is the user's code, is called with nothing of
ours held. Ending puts back what was before, unless the process ends anyway.

Cost: a system call for each phase of a test, to see whether the scratch file has grown.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import _pytest
import pluggy
import pytest

from lockwatch import config as core
from lockwatch import delivery, diagnosis, patch
from lockwatch import leaks as left_held
from lockwatch.findings import Finding
from lockwatch.pytest_support import leaks, scopes
from lockwatch.report.jsonfile import ReportFile, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lockwatch.pytest_support.scopes import Scope
    from lockwatch.pytest_support.settings import Settings

_MOST_KNOWN = 1_000
"""Deadlocks remembered, so that the orders that led to them are not told again."""


class Session:
    """What is watched and what was found.

    Args:
        settings: the session's.

    Attributes:
        settings: the session's.
        worker: the name of this process among several ("gw0"), or None for the one that prints.
        folder: where the scratch files are.
        outside: findings made while no test ran, not yet looked at.
        collected: findings with their failures' mark, in the order in which they came in; by the process that prints.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.worker: str | None = None
        self.folder = self._own_folder = tempfile.mkdtemp(prefix="lockwatch-pytest-")
        self.outside: deque[Finding] = deque()
        self.collected: list[tuple[Finding, bool]] = []
        self._home = os.getpid()
        self._deadlocked: set[frozenset[object]] = set()
        self._scratch = ReportFile(os.path.join(self.folder, "main.json"), sys.argv)
        self._size = 0
        self._read = 0
        self._report: ReportFile | None = None
        self._was_installed = False
        self._explicit: dict[str, object] = {}

    # --- begin and end ---------------------------------------------------------------------------------

    def begin(self) -> None:
        """Install lockwatch.

        Raises:
            LockwatchError: it cannot be.
        """
        self._explicit = core.explicit()
        self._was_installed = patch.is_installed()
        order = "off" if self.settings.order == "off" else "warn"
        patch.install(mode=self.settings.mode, report=self._scratch.path, stall=0.0, order=order)
        delivery.report_to(self._scratch.path)
        delivery.add_sink(self.note)
        diagnosis.runner_folders = tuple(
            os.path.dirname(str(module.__file__)) + os.sep for module in (_pytest, pluggy, pytest)
        )
        scopes.begin()

    def settle(self, worker: str | None, folder: str | None) -> None:
        """Take this process's place: the one that prints, which makes the report file, or one of its workers.

        Raises:
            OSError: the report file cannot be written.
        """
        self.worker = worker
        if worker is not None and folder is not None:
            self.folder = folder
            self._scratch = ReportFile(os.path.join(folder, f"{worker}.json"), sys.argv)
            core.configure(report=self._scratch.path)
            delivery.report_to(self._scratch.path)
        elif self.settings.report is not None:
            self._report = ReportFile(self.settings.report, sys.argv)
            self._report.create()

    def end(self) -> None:
        """Put back what was before. Idempotent."""
        if os.getpid() != self._home:
            return
        scopes.end()
        diagnosis.runner_folders = ()
        delivery.remove_sink(self.note)
        if not self._was_installed and not _is_the_program():
            patch.uninstall()
        delivery.report_to(None)
        core.reset(self._explicit)
        delivery.report_to(core.current().report)
        shutil.rmtree(self._own_folder, ignore_errors=True)

    # --- findings --------------------------------------------------------------------------------------

    def note(self, finding: Finding) -> None:
        """A sink: puts a finding into the inbox of its test; what a forked child finds goes through the file."""
        if os.getpid() != self._home:
            return
        scope = scopes.of_finding(finding)
        (self.outside if scope is None else scope.inbox).append(finding)

    def look_at_children(self) -> list[Finding]:
        """Return what child processes have found since the last look."""
        try:
            size = os.stat(self._scratch.path).st_size
        except OSError:
            return []
        if size == self._size:
            return []
        try:
            found = parse(self._scratch.read())
        except (OSError, ValueError):
            return []
        fresh, self._read, self._size = found[self._read :], len(found), size
        return [finding for finding in fresh if finding.pid != self._home]

    def judge(self, scope: Scope) -> list[tuple[Finding, bool]]:
        """Take what came into a test's inbox, hear the hook, and say of each finding whether it fails the test."""
        scope.inbox.extend(self.look_at_children())
        return self._judge(scope.inbox, scope.item, scope.settings, scope)

    def judge_outside(self, config: pytest.Config) -> list[tuple[Finding, bool]]:
        """The same for what was found while no test ran."""
        self.outside.extend(self.look_at_children())
        return self._judge(self.outside, None, self.settings, None, config)

    def judge_one(self, finding: Finding, config: pytest.Config) -> list[tuple[Finding, bool]]:
        """The same for one finding that concerns the whole session."""
        return self._judge(deque([finding]), None, self.settings, None, config)

    def _judge(
        self,
        inbox: deque[Finding],
        item: pytest.Item | None,
        settings: Settings,
        scope: Scope | None,
        config: pytest.Config | None = None,
    ) -> list[tuple[Finding, bool]]:
        judged: list[tuple[Finding, bool]] = []
        while inbox:
            finding = inbox.popleft()
            if item is not None:
                finding = replace(finding, test=item.nodeid)
                config = item.config
            word = (
                None if config is None else config.hook.pytest_lockwatch_finding(item=item, finding=finding)
            )
            if word is False:
                continue
            if isinstance(word, Finding):
                finding = word
            if finding.kind == "lock-order" and (
                settings.order == "off" or _knot(finding) in self._deadlocked
            ):
                continue  # these locks did deadlock: that is told, and no fault of the test that takes them in order
            if finding.kind == "deadlock" and len(self._deadlocked) < _MOST_KNOWN:
                self._deadlocked.add(_knot(finding))
            judged.append((finding, fails(finding, settings)))
            if scope is not None:
                scope.judged.append(finding)
        return judged

    # --- in the process that prints --------------------------------------------------------------------

    def collect(self, finding: Finding, failure: bool) -> None:
        """Note a judged finding for the summary, and write it into the report file."""
        self.collected.append((finding, failure))
        if self._report is not None:
            try:
                self._report.add(finding)
            except OSError as error:
                self._report = None
                delivery.note_internal("report file", error)

    def read_left_behind(self, worker: str) -> tuple[Finding, ...]:
        """Return what a worker that is gone had found, and perhaps not told."""
        try:
            return parse(ReportFile(os.path.join(self.folder, f"{worker}.json")).read())
        except (OSError, ValueError):
            return ()


def _knot(finding: Finding) -> frozenset[object]:
    """Return what the locks of a cycle are called and where they are made."""
    wanted = [party.waits_for for party in finding.parties if party.waits_for is not None]
    return frozenset((one.kind, one.name, one.created) for one in wanted)


def _is_the_program() -> bool:
    """Whether the process is pytest's: it ends now, and putting everything back would take longer than the ending."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return getattr(spec, "name", "") == "pytest.__main__" or os.path.basename(sys.argv[0]) in {
        "pytest",
        "py.test",
    }


def fails(finding: Finding, settings: Settings) -> bool:
    """Whether a finding is a failure of a test with these settings."""
    if not settings.enabled or finding.kind in settings.allow or finding.fingerprint in settings.allow:
        return False
    if finding.kind == "lock-order":
        return settings.order == "error"
    return finding.level == "error" or (finding.kind == "leak" and finding.level != "note")


def find_leaks(scope: Scope) -> list[Finding]:
    """Return what a test that is over has left behind, as findings, but for what it may."""
    allow = scope.settings.allow
    found: list[Finding] = []
    left_held.last_look()  # threads that have ended are told of by the way of all findings
    if not scope.settings.enabled or "leak" in allow or scope.debugged:
        return found
    threads = [] if "threads" in allow else leaks.left_threads(scope)
    tasks = [] if "tasks" in allow else leaks.left_tasks(scope)
    locks = [] if "locks" in allow else leaks.left_locks(scope)
    if threads:
        found.append(leaks.of_threads(threads))
    if tasks:
        found.append(leaks.of_tasks(tasks))
    if locks:
        found.append(leaks.of_locks(locks))
    return found


def to_json(judged: list[tuple[Finding, bool]]) -> list[dict[str, object]]:
    """Return judged findings as plain values, for a test's report."""
    return [{"finding": finding.to_json(), "failure": failure} for finding, failure in judged]


def from_json(entries: list[Mapping[str, Any]]) -> list[tuple[Finding, bool]]:
    """Read what `to_json` gave."""
    return [(Finding.from_json(entry["finding"]), bool(entry["failure"])) for entry in entries]
