"""The names that lead to ``threading.Lock`` and ``threading.RLock``: replaced, swept, and put back.

A module that ran ``from threading import Lock`` has a name of its own for the class, as have a class
attribute, a default argument, a closure and a dataclass field. `replace` finds them all by asking the garbage
collector who refers to the original; modules that are loaded later import from ``threading`` and need
nothing.

Swept: globals of modules (and of functions whose globals are no module, as attrs makes them), class
attributes, defaults and keyword defaults, closure variables, ``dataclasses.Field.default_factory`` (the
generated ``__init__`` has it in a closure) and ``defaultdict.default_factory``; names of ``threading.Lock``,
``threading.RLock``, ``_thread.RLock`` and ``_thread.allocate_lock`` (up to 3.12 the same object as
``threading.Lock``). ``multiprocessing.dummy`` is swept like any other module: its locks are the threads'
locks.

Not swept, on purpose: ``_thread`` itself and what ``threading`` keeps under other names (Condition's waiter
locks and thread start-up are made from those), ``importlib`` and ``warnings`` (they run inside our own code),
lockwatch, gevent and eventlet. Nor are attributes of instances and entries of tables: what ``mock.patch``
will put back, for example, is not ours to change. A module that is loaded later and takes ``allocate_lock``
from ``_thread`` gets raw locks.

Undoing is the same sweep backwards, so that names bound while lockwatch was installed are put right as well.
What was replaced by somebody else in the meantime is left alone.

Cost: see `lockwatch.patch.references`; a few milliseconds.
"""

from __future__ import annotations

import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from lockwatch._core import originals
from lockwatch.patch.classes import Lock, RLock
from lockwatch.patch.places import ClassAttribute, Default, Place
from lockwatch.patch.references import References

if TYPE_CHECKING:
    from collections.abc import Callable

LEFT_ALONE: Final = (
    "_thread",
    "threading",
    "lockwatch",
    "importlib",
    "_frozen_importlib",
    "_frozen_importlib_external",
    "warnings",
    "_py_warnings",
    "gevent",
    "eventlet",
    "greenlet",
)
"""Modules (with their submodules) whose names and locks are never touched."""

_NAMES: Final = ("global", "class", "default", "closure", "factory")
"""The roles of places that are swept; see `lockwatch.patch.places.Place`."""
_PATCHED: Final[dict[str, tuple[object, type]]] = {
    "Lock": (originals.Lock, Lock),
    "RLock": (originals.RLock, RLock),
}
_SWEPT: Final[tuple[tuple[object, type], ...]] = (
    (originals.Lock, Lock),
    (originals.allocate_lock, Lock),
    (originals.RLock, RLock),
    (originals.RLockType, RLock),
)

_unusual: list[tuple[Callable[[], object], Any, object]] = []
"""(weak reference to the owner, key, original) of places that held another original than ``threading``'s name does."""


def left_alone(module: str) -> bool:
    """Return whether ``module`` is one that `LEFT_ALONE` names, or inside one."""
    return module in LEFT_ALONE or module.startswith(tuple(f"{name}." for name in LEFT_ALONE))


def replace(*, sweep: bool) -> None:
    """Put our classes in the place of ``threading.Lock`` and ``threading.RLock``.

    Args:
        sweep: Also replace the names that were bound early.
    """
    for name, (_, ours) in _PATCHED.items():
        setattr(threading, name, ours)
    if not sweep:
        return
    targets = [original for original, _ in _SWEPT]
    references = References(targets)
    for original, ours in _SWEPT:
        usual = any(original is one for one, _ in _PATCHED.values())
        for place in _early_names(references, original):
            if place.swap(original, ours) and not usual:
                _remember(place, original)


def restore() -> None:
    """Put the originals back wherever our classes still are."""
    for name, (original, ours) in _PATCHED.items():
        if getattr(threading, name) is ours:
            setattr(threading, name, original)
    unusual: dict[tuple[int, Any], object] = {
        (id(owner()), key): original for owner, key, original in _unusual
    }
    _unusual.clear()
    references = References([Lock, RLock])
    for original, ours in _PATCHED.values():
        for place in _early_names(references, ours):
            place.swap(ours, unusual.get((id(place.owner), place.key), original))


def _early_names(references: References, target: object) -> list[Place]:
    """Return the places of ``target`` that are names, in modules that are not to be left alone."""
    places, _ = references.places(target)
    return [place for place in places if place.role in _NAMES and not left_alone(place.module)]


def _remember(place: Place, original: object) -> None:
    # Dicts and cells cannot be referred to weakly. A namespace is found again by its module; the rest gets
    # the usual name's original, which makes the same locks.
    if isinstance(place, (ClassAttribute, Default)):
        _unusual.append((weakref.ref(place.owner), place.key, original))
    elif place.role == "global":
        name = place.module
        _unusual.append((lambda: getattr(sys.modules.get(name), "__dict__", None), place.key, original))
