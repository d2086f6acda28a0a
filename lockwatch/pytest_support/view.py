"""The fixture ``lockwatch``: what a test sees of the session.

Guarantee: reads only. Cost: as of `lockwatch.waits` and `lockwatch.holders`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lockwatch import delivery, patch, tables
from lockwatch.report import text

if TYPE_CHECKING:
    from lockwatch.findings import Finding
    from lockwatch.pytest_support.scopes import Scope
    from lockwatch.pytest_support.session import Session
    from lockwatch.pytest_support.settings import Settings


class Statistics(NamedTuple):
    """Numbers about the session, so far and in this process.

    Attributes:
        findings: How many there were of each kind.
        waits: How many threads and tasks wait now.
        holders: How many watched locks are held now.
        unwatched: How many locks from before lockwatch was installed are not watched.
    """

    findings: dict[str, int]
    waits: int
    holders: int
    unwatched: int


class View:
    """The session's view of one test."""

    def __init__(self, session: Session, scope: Scope) -> None:
        self._session = session
        self._scope = scope

    @property
    def settings(self) -> Settings:
        """What holds for this test."""
        return self._scope.settings

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of this test so far, oldest first; those of its child processes, too."""
        self._scope.inbox.extend(self._session.look_at_children())
        return (*self._scope.judged, *self._scope.inbox)

    @property
    def session_findings(self) -> tuple[Finding, ...]:
        """All findings of this process so far; at most the last 1,000."""
        return delivery.recorded_findings()

    def waits(self) -> tuple[tables.WaitRow, ...]:
        """Return who waits for what, right now."""
        return tables.waits()

    def holders(self) -> tuple[tables.HolderRow, ...]:
        """Return who holds which lock, right now."""
        return tables.holders()

    def statistics(self) -> Statistics:
        """Return numbers about the session."""
        counts: dict[str, int] = {}
        for finding in self.session_findings:
            counts[finding.kind] = counts.get(finding.kind, 0) + 1
        return Statistics(counts, len(self.waits()), len(self.holders()), len(patch.unwatched_locks()))

    def assert_no_findings(self, *kinds: str) -> None:
        """Raise AssertionError, with the reports, if this test has findings.

        Args:
            kinds: Kinds of findings that are meant; all, if none is given.
        """
        found = [finding for finding in self.findings if not kinds or finding.kind in kinds]
        if found:
            raise AssertionError("\n\n".join(map(text.render, found)))
