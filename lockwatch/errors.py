"""The exceptions that lockwatch raises into a program.

Guarantees:

* All derive from ``LockwatchError``, which is a ``RuntimeError``: what ``threading`` raises for the same
  misuse.
* Those that stem from a finding carry it as ``.finding`` and its text as a PEP 678 note. The exception's own
  text is the report's first line and the note is the rest, so a traceback shows the whole report once: text
  and note as two lines are ``lockwatch.report.text.render(error.finding)``.
* They can be pickled and copied, so that they cross process pools.
* Making one never fails: a report that cannot be rendered is replaced by a word about that.

Cost: one rendering of the finding when the error is made.
"""

from typing import Self

from lockwatch.findings import Finding
from lockwatch.report import text


class LockwatchError(RuntimeError):
    """Base of everything that lockwatch raises.

    Args:
        message: one line.
        finding: what it is about, or None.
    """

    finding: Finding | None

    def __init__(self, message: str = "", *, finding: Finding | None = None) -> None:
        super().__init__(message)
        self.finding = finding
        if finding is not None:
            note = _note(finding)
            if note:
                self.add_note(note)


class _FindingError(LockwatchError):
    """An error that is the raised form of a finding.

    Args:
        finding: what it is about.
    """

    finding: Finding  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, finding: Finding) -> None:
        super().__init__(_headline(finding), finding=finding)

    def __reduce__(self) -> tuple[type[Self], tuple[Finding], dict[str, object]]:
        # The default would call the class with the text. The state has the notes, so they are not doubled.
        return type(self), (self.finding,), self.__dict__.copy()


class DeadlockError(_FindingError):
    """Nobody of a knot can ever move again, and this party was chosen to give up.

    Raised out of the blocking call; the lock was not acquired.

    Args:
        finding: the deadlock.
    """


class LockOrderError(_FindingError):
    """Locks are taken in an order that contradicts what was seen before: a deadlock that has not happened yet.

    Args:
        finding: both sides of it.
    """


class MisuseError(LockwatchError):
    """A lock was used in a way that cannot be right; released by the wrong thread, for example."""


class CopyError(MisuseError, TypeError):
    """A lock was copied or pickled: the copy would guard nothing. Also a TypeError, as from ``threading``."""


class ConfigError(LockwatchError, ValueError):
    """A setting that does not exist, or a value that it cannot have."""


class InstallError(LockwatchError):
    """``lockwatch.install()`` cannot do its work in this process."""


def _headline(finding: Finding) -> str:
    try:
        return text.headline(finding)
    except Exception:
        return finding.message


def _note(finding: Finding) -> str:
    try:
        return text.body(finding)
    except Exception as error:
        return f"  (lockwatch could not render the rest of this report: {type(error).__name__})"
