"""A report file that was just made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lockwatch.report.jsonfile import ReportFile

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def report(tmp_path: Path) -> ReportFile:
    """A report file that was just made."""
    made = ReportFile(tmp_path / "report.json", ["app.py", "--fast"])
    made.create()
    return made
