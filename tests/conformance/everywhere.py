"""Installs lockwatch in the interpreter that imports it, and writes what lockwatch finds there.

``under_install.py`` has the ``site`` module import this when an interpreter starts: the one that runs a suite, and
those that the suite starts in turn, which ``PYTHONPATH`` would not reach (the suites start them with ``-I`` or ``-E``).
Not in subinterpreters, which have a ``threading`` of their own, and where no program installs it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import TYPE_CHECKING

import lockwatch
from lockwatch import delivery
from lockwatch.report.text import render

if TYPE_CHECKING:
    from lockwatch.findings import Finding

FILE = "CONFORMANCE_OUTCOMES"
"""The environment variable that names the file which ``outcomes.py`` writes, too."""
running: dict[str, str] = {}
"""The id of the test that runs, under ``"test"``; empty in the interpreters that a test starts."""


def _is_main_interpreter() -> bool:
    interpreters = importlib.import_module(
        "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    )
    return bool(interpreters.get_current() == interpreters.get_main())


def _note(finding: Finding) -> None:
    """Appends one line in one system call; done at once, since the test may end the process."""
    path = os.environ.get(FILE)
    if path is None or finding.level == "note":
        return
    record = {"finding": finding.message, "advice": finding.advice, "test": running.get("test", "")}
    if os.environ.get("CONFORMANCE_TEXT"):  # for `survey.py`
        record |= {"kind": finding.kind, "text": render(finding, max_frames=16)}
    text = json.dumps(record)
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, (text + "\n").encode())
    finally:
        os.close(file)


if _is_main_interpreter():
    lockwatch.install()
    delivery.add_sink(_note)
