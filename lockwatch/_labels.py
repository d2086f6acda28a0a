"""What things are called in text, and how a defect is recognised again.

Guarantee: pure functions of text and numbers; none calls a method of a user's object, imports anything, or
raises.

The public home of these names is ``lockwatch.findings``; they stand here to keep that module readable.
"""

import hashlib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lockwatch.findings import Site

_LONGEST_CYCLE = 100
"""Agents in a cycle up to which its order counts in the fingerprint (turning it is quadratic)."""


def resource_label(kind: str, name: str | None, created: "Site | None") -> str:
    """Return how a resource is called in text.

    ``"Lock 'Client._lock'"``; without a name ``"Lock made at client.py:12 in __init__"``; else the kind
    alone.
    """
    if name is not None:
        # Not repr(): the name may be of a subclass of str whose __repr__ is the user's code.
        return f"{kind} {str.__repr__(name)}"
    if created is not None:
        file = created.file.replace("\\", "/").rpartition("/")[2]
        return f"{kind} made at {file}:{created.line} in {created.function}"
    return kind


def agent_label(kind: str, name: str) -> str:
    """Return how an agent is called in text: ``"Thread 'heartbeat'"``.

    Args:
        kind: ``"thread"``, ``"task"``, ...
        name: the agent's name.
    """
    return f"{kind.capitalize()} {str.__repr__(name)}"


def shorten_path(file: str, cwd: str | None = None) -> str:
    """Return the shortest form of a path that a click in a terminal still opens.

    Relative to the directory where the file lies below it, else as it is: a path cut at its front is no use
    to anyone.

    Args:
        file: a path.
        cwd: the directory; the current one when None.
    """
    if cwd is None:
        try:
            cwd = os.getcwd()
        except OSError:  # the directory is gone
            return file

    prefix = cwd.rstrip("/\\")
    if len(file) > len(prefix) + 1 and prefix and file.startswith(prefix) and file[len(prefix)] in "/\\":
        return file[len(prefix) + 1 :]
    return file


def fingerprint(kind: str, cause: str | None, edges: Iterable[tuple[str, "Site | str | None"]]) -> str:
    """Return 16 hexadecimal digits that are the same for the same defect in every run.

    A cycle has no first party, so it is turned until its smallest rotation stands; parties of an ``asleep``,
    ``orphan`` or ``starved`` knot have no order and no fixed number, so they count as a set. Of absolute
    paths only the last two parts count: the same checkout elsewhere gives the same answer.

    Args:
        kind: the finding's kind.
        cause: its cause.
        edges: for each party the class of the lock it wants (``"file:line"`` or a name) and where it wants
            it.
    """
    items = [(_portable(lock_class), _portable_site(site)) for lock_class, site in edges]
    if cause in ("asleep", "orphan", "starved") or len(items) > _LONGEST_CYCLE:
        items = sorted(set(items))
    elif items:
        items = min(items[start:] + items[:start] for start in range(len(items)))

    text = "\0".join([kind, cause or "", *("\1".join(item) for item in items)])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()[:16]


def _portable(path: str) -> str:
    parts = path.replace("\\", "/")
    if parts.startswith("/") or parts[1:3] == ":/":
        return "/".join(parts.split("/")[-2:])
    return path


def _portable_site(site: "Site | str | None") -> str:
    if site is not None and not isinstance(site, str):
        return f"{_portable(site.file)}:{site.line} in {site.function}"
    return _portable(site or "")
