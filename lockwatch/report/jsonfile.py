"""The report file: one JSON object that all processes of a run add their findings to.

Guarantees:

* Whole findings only: a finding is added with one write over the closing bracket of the file, under a lock on
  the file. Earlier findings are never written again, so no crash can lose them, and adding costs the same however
  many there are.
* Threads, forked children, spawned children and strangers may all add to one file at the same time.
* A file that a writer left torn (killed, disk full) is mended by the next one that adds: every finding whose
  line is whole is kept, and ``"damaged"`` counts the lines that were not.
* No lock or file descriptor outlives a call, so a fork at any moment leaves the child nothing to trip over.
  (A lock that a forked child has inherited in the middle of a call is let go by the parent's explicit unlock; a
  parent that dies before it cannot block others for longer than ``LOCK_TIMEOUT``.)
* A finding made by a signal handler or finalizer that interrupts `ReportFile.add` on its own thread is
  queued, and written by the call it interrupted.

Assumptions: the path is an ordinary file. Where the file system cannot lock (some network ones), writers are
not kept apart; the file is then still mended, not trusted.

Form::

    {"schema": 1, "lockwatch": "0.1.0", "python": "3.13.0", "platform": "linux", "argv": ["app.py"], "findings": [
    {"kind": "deadlock", ...},
    {"kind": "misuse", ...}
    ]}

Every finding has a line of its own; that is what makes the two things above possible. (Rejected: write a copy
and rename it over the file. It needs a second, stable file to lock, replaces symbolic links, and rewrites
everything for each finding. Also rejected: JSON Lines, which no JSON Schema describes as a whole.)

Cost: one open, lock, short read, write and close for each finding.
"""

import errno
import json
import os
import stat
import sys
import time
from _thread import get_ident
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import lockwatch
from lockwatch.findings import SCHEMA, Finding, check_schema

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_TIMEOUT = 10.0
"""Seconds after which a writer that cannot lock the file gives up with TimeoutError."""

_CLOSE = b"\n]}\n"
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def document(findings: Iterable[Finding], argv: Sequence[str], *, damaged: int = 0) -> dict[str, object]:
    """Return the whole report as a JSON object.

    Args:
        findings: in the order in which they were made.
        argv: the program's ``sys.argv``.
        damaged: findings that were lost because a writer was killed.
    """
    head = _header(argv)
    if damaged:
        head["damaged"] = damaged
    return {**head, "findings": [finding.to_json() for finding in findings]}


def parse(doc: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return the findings of a report.

    Raises:
        ValueError: it has another schema, or is no report.
    """
    check_schema(doc.get("schema"))
    found = doc.get("findings")
    if not isinstance(found, list):
        raise ValueError("'findings' is missing in this report")  # noqa: TRY004 - of the document, not of the call
    return tuple(Finding.from_json(item) for item in found)


def schema() -> dict[str, object]:
    """Return the JSON Schema (2020-12) of the report file, as shipped in the package."""
    import pkgutil

    data = pkgutil.get_data(__name__, f"schema/report-{SCHEMA}.schema.json")
    if data is None:
        raise FileNotFoundError("the report's schema is not in this installation of lockwatch")
    loaded: dict[str, object] = json.loads(data)
    return loaded


class ReportFile:
    """The report file of a run.

    Args:
        path: where it is or shall be; made absolute at once, so that a later ``chdir`` makes no difference.
        argv: the program's ``sys.argv`` for the head of the file; the present one when None.
    """

    __slots__ = ("_argv", "_writing", "path")

    def __init__(self, path: str | os.PathLike[str], argv: Sequence[str] | None = None) -> None:
        self.path: str = os.path.abspath(path)
        self._argv: list[str] | None = None if argv is None else list(argv)
        # (pid, thread) -> lines to write, while that thread is inside add(); the pid makes a forked child's own.
        self._writing: dict[tuple[int, int], deque[bytes]] = {}

    def create(self) -> None:
        """Make the file, without findings. Only the process that starts a run does this; children just add.

        Raises:
            OSError: it cannot be written; says so with the path. An earlier report is then still there.
        """
        try:
            with self._locked(os.O_RDWR | os.O_CREAT) as fd:
                _rewrite(fd, self._head(), [])
        except OSError as error:
            raise self._explained(error) from None

    def add(self, finding: Finding) -> None:
        """Add a finding; makes the file where there is none.

        Safe from any thread or process at any time, also when it interrupts itself.

        Raises:
            OSError: it could not be written; findings added before are still there.
        """
        line = _encode(finding.to_json())
        mine = deque([line])
        key = (os.getpid(), get_ident())
        queue = self._writing.setdefault(key, mine)
        if queue is not mine:
            queue.append(line)
            return

        try:
            while mine:
                self._append(mine)
        finally:
            del self._writing[key]

        if mine:  # queued between the last test and the removal
            self._append(mine)

    def read(self) -> dict[str, object]:
        """Return the report as it is now; what a killed writer left torn is left out and counted as ``damaged``.

        Raises:
            OSError: it cannot be read.
            ValueError: it is a report of another schema.
        """
        with self._locked(os.O_RDONLY) as fd:
            data = _read_all(fd)
        head, lines = _salvage(data, self._head())
        check_schema(head.get("schema"))
        return {**head, "findings": [json.loads(line) for line in lines]}

    def _head(self) -> dict[str, object]:
        return _header(getattr(sys, "argv", []) if self._argv is None else self._argv)

    def _append(self, lines: deque[bytes]) -> None:
        with self._locked(os.O_RDWR | os.O_CREAT) as fd:
            end = os.fstat(fd).st_size - len(_CLOSE)
            before = _read_at(fd, max(end - 1, 0), len(_CLOSE) + 1)
            if end < 1 or before[1:] != _CLOSE or before[:1] not in (b"[", b"}"):
                head, kept = _salvage(_read_all(fd), self._head())
                _rewrite(fd, head, kept)
                end = os.fstat(fd).st_size - len(_CLOSE)
                before = b"}" if kept else b"["

            first = before[:1] == b"["
            while lines:
                joint = b"\n" if first else b",\n"
                line = lines.popleft()
                try:
                    _write_at(fd, end, joint + line + _CLOSE)
                except OSError:
                    _restore(fd, end)
                    raise
                end += len(joint) + len(line)
                first = False

    @contextmanager
    def _locked(self, flags: int) -> Iterator[int]:
        fd = os.open(self.path, flags | _FLAGS, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "not an ordinary file", self.path)
            _lock(fd, self.path, shared=flags == os.O_RDONLY)
            try:
                yield fd
            finally:
                _unlock(
                    fd
                )  # by name: closing is not enough while a forked child has a copy of the descriptor
        finally:
            os.close(fd)

    def _explained(self, error: OSError) -> OSError:
        return OSError(error.errno, f"cannot write the report: {error.strerror or error}", self.path)


def _header(argv: Sequence[str]) -> dict[str, object]:
    python = ".".join(map(str, sys.version_info[:3]))
    return {
        "schema": SCHEMA,
        "lockwatch": str(getattr(lockwatch, "__version__", "unknown")),
        "python": f"{python} free-threaded" if "free-threading" in sys.version else python,
        "platform": sys.platform,
        "argv": [str(arg) for arg in argv],
    }


def _encode(value: Mapping[str, object]) -> bytes:
    # ASCII only: a file name that is no text (surrogate escapes) still makes valid JSON. No line ends in it.
    return json.dumps(value, ensure_ascii=True, allow_nan=False).encode("ascii")


def _rewrite(fd: int, head: Mapping[str, object], lines: Sequence[bytes]) -> None:
    """Write the whole file anew; a kill in the middle leaves a torn file that can be mended."""
    data = _encode(head)[:-1] + b', "findings": ['
    data += (b"\n" if lines else b"") + b",\n".join(lines) + _CLOSE
    _write_at(fd, 0, data)
    os.ftruncate(fd, len(data))


def _salvage(data: bytes, default_head: Mapping[str, object]) -> tuple[dict[str, object], list[bytes]]:
    """Return the head and the findings' lines of a file in whatever state."""
    try:
        doc = json.loads(data)
    except ValueError:
        doc = None
    if isinstance(doc, dict) and isinstance(doc.get("findings"), list):
        found = doc.pop("findings")
        return doc, [_encode(item) for item in found if isinstance(item, dict)]

    first, *rest = data.split(b"\n")
    head = _object(first + b"]}") or {}
    if head.pop("findings", None) is None:  # torn within the head: it may parse, but says only half
        head = {}
    lines = [line.rstrip(b"\r").removesuffix(b",") for line in rest]
    whole = [line for line in lines if "kind" in (_object(line) or {})]
    torn = sum(1 for line in lines if line.startswith(b"{")) - len(whole)
    if head.get("schema") is None:
        head = dict(default_head)
    if torn > 0:
        before = head.get("damaged", 0)
        head["damaged"] = torn + (before if isinstance(before, int) else 0)
    return head, whole


def _object(data: bytes) -> dict[str, object] | None:
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


# --- the file, at the level of the operating system -------------------------------------------------------


def _read_at(fd: int, position: int, size: int) -> bytes:
    os.lseek(fd, position, os.SEEK_SET)
    data = b""
    while len(data) < size:
        chunk = os.read(fd, size - len(data))
        if not chunk:
            break
        data += chunk
    return data


def _read_all(fd: int) -> bytes:
    return _read_at(fd, 0, os.fstat(fd).st_size)


def _write_at(fd: int, position: int, data: bytes) -> None:
    os.lseek(fd, position, os.SEEK_SET)
    view = memoryview(data)
    while view:  # a full disk or a signal can make a write short
        view = view[os.write(fd, view) :]


def _restore(fd: int, end: int) -> None:
    """Close the file again after a write that failed; its blocks are there, so this works on a full disk."""
    try:
        _write_at(fd, end, _CLOSE)
        os.ftruncate(fd, end + len(_CLOSE))
    except OSError:
        pass  # the next writer mends it


def _lock(fd: int, path: str, *, shared: bool) -> None:
    """Lock the file against writers, waiting for LOCK_TIMEOUT seconds at most."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    pause = 0.001
    while True:
        try:
            if sys.platform == "win32":
                # Locks bytes, and against readers too: so one far behind any report's end.
                os.lseek(fd, 1 << 30, os.SEEK_SET)
                msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK, errno.EINTR):
                raise
            if time.monotonic() > deadline:
                raise TimeoutError(
                    errno.ETIMEDOUT, f"still locked by another process after {LOCK_TIMEOUT:g} s", path
                ) from None
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
        else:
            return


def _unlock(fd: int) -> None:
    try:
        if sys.platform == "win32":
            os.lseek(fd, 1 << 30, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
        else:
            fcntl.flock(fd, fcntl.LOCK_UN)
    except OSError:
        pass  # closing the descriptor lets go as well
