"""What the plugin writes: the header, a test's failure, its sections and properties, the summary.

Guarantee: pure functions of the findings; nothing is written where there is nothing to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from _pytest._code.code import ReprExceptionInfo, ReprFileLocation, ReprTracebackNative

from lockwatch._core import fastpath
from lockwatch.errors import LockwatchError
from lockwatch.report import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from lockwatch.findings import Finding
    from lockwatch.pytest_support.settings import Settings

TITLE = "lockwatch"
LETTER = "L"
WORD = "LOCKS"


def header(settings: Settings, unwatched: int) -> str:
    """Return the line for the head of the run."""
    mode = "" if settings.mode == "raise" else f" mode={settings.mode}"
    stall = f"{settings.stall:g}s" if settings.stall else "off"
    report = f" report={settings.report}" if settings.report else ""
    early = f", {unwatched:,} locks from before unwatched" if unwatched else ""
    return f"lockwatch:{mode} order={settings.order} stall={stall} engine={fastpath.IMPLEMENTATION}{report}{early}"


def failure(findings: Sequence[Finding], remarks: Sequence[str], item: pytest.Item) -> ReprExceptionInfo:
    """Return what stands in place of a traceback where a test failed by findings alone."""
    path, line, _name = item.location
    parts = [*(text.render(finding) for finding in findings), *remarks]
    crash = ReprFileLocation(path, (line or 0) + 1, text.headline(findings[0]))
    return ReprExceptionInfo(ReprTracebackNative(["\n\n".join(parts) + "\n"]), crash)


def is_shown(error: BaseException | None, finding: Finding) -> bool:
    """Whether an exception shows a finding: it, or one that led to it, is the error made of it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, LockwatchError) and error.finding is not None:
            mine = error.finding
            if (mine.fingerprint, mine.time, mine.message) == (
                finding.fingerprint,
                finding.time,
                finding.message,
            ):
                return True
        if isinstance(error, BaseExceptionGroup) and any(is_shown(one, finding) for one in error.exceptions):
            return True
        error = error.__cause__ or error.__context__
    return False


def properties(findings: Sequence[Finding]) -> list[tuple[str, object]]:
    """Return what goes into a test's properties, for JUnit's XML: how many, and one line for each."""
    lines = [(f"lockwatch.{one.kind}", f"{text.headline(one)} [{one.fingerprint}]") for one in findings]
    return [("lockwatch.findings", len(findings)), *lines]


def summary(collected: Sequence[tuple[Finding, bool]], verbosity: int) -> list[tuple[str, str]]:
    """Return the lines of the summary, each with the level that colours it; none if nothing was found.

    A finding that a test's report shows takes one line; one from outside of tests is shown whole.
    """
    lines: list[tuple[str, str]] = []
    counts: dict[tuple[str | None, str, str, str], int] = {}
    for finding, failed in collected:
        level = "error" if failed else "warning"
        key = (finding.test, finding.fingerprint, text.headline(finding), level)
        counts[key] = counts.get(key, 0) + 1
        if counts[key] > 1:
            continue
        where = finding.test or "outside of any test"
        lines.append((level, f"{level.upper()} {where}: {text.headline(finding)}"))
        if finding.test is None or verbosity > 1:
            lines.append(("", text.body(finding)))
    return lines


def write_summary(reporter: Any, collected: Sequence[tuple[Finding, bool]], more: Sequence[str]) -> None:
    """Write the section at the end of the run, if there is anything to say."""
    lines = summary(collected, reporter.config.get_verbosity())
    if not lines and not more:
        return
    reporter.section(TITLE)
    for level, line in lines:
        reporter.write_line(line, **({"error": {"red": True}, "warning": {"yellow": True}}.get(level, {})))
    for line in more:
        reporter.write_line(line)
