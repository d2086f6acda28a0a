"""Runs unittest modules and writes what became of each test, one JSON object a line, as it happens.

Usage: ``python outcomes.py NAME...`` with the file to append to in the environment variable ``CONFORMANCE_OUTCOMES``;
a NAME is whatever unittest can load. The lines are ``{"start": ID}``, ``{"end": ID, "outcome": ..., "detail": ...}``
and ``{"done": true}``. A test that hangs is therefore a start without an end, whatever kills the process.
``under_install.py`` runs this, with lockwatch installed or not; nothing here does that.
"""

import json
import os
import sys
import unittest
from typing import Any

EVERYWHERE: Any = sys.modules.get("everywhere")
FILE = "CONFORMANCE_OUTCOMES"


def note(**record: object) -> None:
    """Appends one line in one system call: a killed process leaves whole lines."""
    file = os.open(os.environ[FILE], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, (json.dumps(record) + "\n").encode())
    finally:
        os.close(file)


class Recorder(unittest.TextTestResult):
    """The usual result on stderr, and a line in the file for each start and end."""

    outcome: str
    detail: str

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        self.outcome, self.detail = "ok", ""
        if EVERYWHERE is not None:
            EVERYWHERE.running["test"] = test.id()
        note(start=test.id())
        super().startTest(test)

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        note(end=test.id(), outcome=self.outcome, detail=self.detail)
        super().stopTest(test)

    def _failed(self, test: unittest.TestCase, outcome: str, error: Any) -> None:
        self.outcome = outcome
        self.detail = self._exc_info_to_string(error, test)  # type: ignore[attr-defined]
        if not hasattr(test, "_testMethodName"):  # setUpClass, setUpModule: no start, no end
            note(end=test.id(), outcome=outcome, detail=self.detail)

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        self._failed(test, "error", err)
        super().addError(test, err)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        self._failed(test, "failed", err)
        super().addFailure(test, err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:  # noqa: N802
        if err is not None:
            self._failed(test, "failed", err)
        super().addSubTest(test, subtest, err)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        self.outcome, self.detail = "skipped", reason
        super().addSkip(test, reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        self.outcome = "expected failure"
        super().addExpectedFailure(test, err)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        self.outcome = "unexpected success"
        super().addUnexpectedSuccess(test)


def main(names: list[str]) -> None:
    """Runs the tests."""
    suite = unittest.defaultTestLoader.loadTestsFromNames(names)
    unittest.TextTestRunner(verbosity=2, resultclass=Recorder).run(suite)  # type: ignore[arg-type]
    note(done=True)


if __name__ == "__main__":
    main(sys.argv[1:])
