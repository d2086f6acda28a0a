"""A test's report: what was found in a phase becomes the failure, or a section beside it.

Guarantee: a report without findings is left as it is; so is a failure that shows the finding already.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lockwatch.errors import LockwatchError
from lockwatch.pytest_support import neighbours, stalls, wording
from lockwatch.pytest_support.session import to_json
from lockwatch.report import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

    from lockwatch.findings import Finding
    from lockwatch.pytest_support.scopes import Scope


@contextmanager
def phase(scope: Scope, name: str) -> Iterator[None]:
    """Watch one phase of a test; an error of ours is not told again in a thread, and ends in the test's own line."""
    scope.phase = name
    try:
        with neighbours.told_once():
            yield
    except LockwatchError as error:
        if os.getpid() != scope.pid:
            os._exit(
                stalls.STATUS
            )  # a forked child, which must not go on with the session; what it found is on file
        _hide_frames(error)
        raise
    finally:
        scope.phase = ""


def amend(
    report: Any,
    item: pytest.Item,
    judged: Sequence[tuple[Finding, bool]],
    remarks: Sequence[str],
    error: BaseException | None,
) -> None:
    """Put findings into a report: as the failure, if it is no failure yet, else beside what is there."""
    failures = [finding for finding, failed in judged if failed]
    report.lockwatch = to_json(list(judged))
    found = wording.properties([finding for finding, _ in judged]) if judged else []
    item.user_properties.extend(found)
    report.user_properties.extend(found)
    beside = [finding for finding, _ in judged if not wording.is_shown(error, finding)]
    if failures and hasattr(report, "wasxfail"):
        report.outcome = "skipped"  # it was expected to fail, and does
    elif failures:
        report.lockwatch_failed = True
        if report.outcome != "failed":
            report.outcome = "failed"
            report.longrepr = wording.failure(failures, remarks, item)
            beside = [finding for finding in beside if finding not in failures]
            remarks = ()
    report.sections += [(wording.TITLE, text.render(finding)) for finding in beside]
    report.sections += [(wording.TITLE, remark) for remark in remarks]


def _hide_frames(error: BaseException) -> None:
    """Let an error's traceback end in the program's line: what lies further in is lockwatch's own."""
    trace = last = error.__traceback__
    while trace is not None:
        if not str(trace.tb_frame.f_globals.get("__name__")).startswith("lockwatch."):
            last = trace
        trace = trace.tb_next
    if last is not None:
        last.tb_next = None
