"""The order file: the order of lock classes outlives the run, and the next run is checked against it.

Form::

    {"schema": 1, "orders": [{"first": "a", "second": "b", "held": ["a"], "by": "Thread 'x'", "at": "..."}, ...]}

``first`` and ``second`` are lock classes: the name that was given, or ``folder/file.py:line in function``, the
place that makes the locks. ``held`` are the classes that were held; a common one is a gate, as within a run.

Guarantees:
  * Written at exit by the process that read it, under a lock on the file: runs at the same time add to it, none
    takes away what another wrote. What is found to be in conflict is reported and not written, so that the next
    run reports it again.
  * A file that cannot be read or written is one finding of kind "internal", never an error in the program.
  * An order that the file has already is no news: what a run did without a finding, the next may do again.

Assumes: an ordinary file. Children that end without their exit handlers (``os._exit``, multiprocessing) add
nothing.

Cost: one read at the start, one read and write at exit.
"""

from __future__ import annotations

import atexit
import json
import os
import sys

from lockwatch import delivery, orders
from lockwatch._core import orderbook
from lockwatch.naming import site

if sys.platform != "win32":
    import fcntl

SCHEMA = 1

MOST = 100_000
"""Orders kept in a file."""

Order = tuple[str, str, frozenset[str]]

_path: str | None = None
_home = 0


def begin(path: str | None) -> None:
    """Check from now on against the orders in ``path``, and add to them at exit; None: no longer."""
    global _path, _home
    if path == _path:
        return
    if _path is not None:
        finish()
    _path, _home = path, os.getpid()
    orders.keep_keys(path is not None)
    if path is None:
        return
    atexit.register(finish)
    try:
        with open(path, encoding="utf-8") as file:
            known = parse(file.read())
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        _path = None  # and so it is not overwritten
        delivery.note_internal("order file", error)
        return
    for first, second, held in known:
        orderbook.filed.add((first, second))
        orderbook.declare((first, second), orderbook.FILED, "an earlier run", tuple(held))


def finish() -> None:
    """Add what was learned to the file, and stop. Idempotent."""
    global _path
    path, _path = _path, None
    atexit.unregister(finish)
    if path is None or os.getpid() != _home:
        return
    try:
        _add(path, _learned())
    except Exception as error:
        delivery.note_internal("order file", error)


def parse(text: str) -> dict[Order, dict[str, object]]:
    """Read the file's text.

    Returns:
        What it says, by first class, second class and classes held.

    Raises:
        ValueError: It is no order file of this schema.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"this is no order file of schema {SCHEMA}")
    known: dict[Order, dict[str, object]] = {}
    for entry in document.get("orders", []):
        first, second, held = entry["first"], entry["second"], entry.get("held", [])
        if not all(isinstance(name, str) for name in (first, second, *held)):
            raise ValueError("an order in this file does not name lock classes")
        known[first, second, frozenset(held)] = entry
    return known


def _learned() -> dict[Order, dict[str, object]]:
    """Return the orders of this run, without those that are only declared or from the file, or in conflict."""
    learned: dict[Order, dict[str, object]] = {}
    for first, second, context in orderbook.known_orders():
        if not (isinstance(first, str) and isinstance(second, str)):
            continue
        held = frozenset(key for key in context.gates if isinstance(key, str))
        learned[first, second, held] = {
            "first": first,
            "second": second,
            "held": sorted(held),
            "by": f"{context.kind.capitalize()} {context.label!r}",
            "at": "" if context.taken_at is None else str(site(*context.taken_at)),
        }
    return learned


def _add(path: str, learned: dict[Order, dict[str, object]]) -> None:
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8") as file:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX)
        text = file.read()
        known = parse(text) if text.strip() else {}
        for order, entry in learned.items():
            if len(known) < MOST:
                known.setdefault(order, entry)
        lines = ",\n".join(json.dumps(known[order]) for order in sorted(known, key=_sort_key))
        file.seek(0)
        file.truncate()
        file.write(f'{{"schema": {SCHEMA}, "orders": [\n{lines}\n]}}\n')


def _sort_key(order: Order) -> tuple[str, str, list[str]]:
    return order[0], order[1], sorted(order[2])
