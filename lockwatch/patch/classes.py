"""The classes that `install()` puts in the place of ``threading.Lock`` and ``RLock`` and ``queue.SimpleQueue``.

They are the classes of `lockwatch.locks` with the manners of those they replace:

* They treat arguments as the replaced ones do: Lock refuses them; RLock ignores them up to 3.12, warns in
  3.13 and 3.14, and refuses them from 3.15 on. (``name=`` is taken, since `lockwatch.Lock` has it; portable
  code gives none.)
* ``isinstance(x, threading.Lock)`` is also true for raw locks: those made before, by C code or by
  ``_thread``. From 3.13 on, where ``threading.Lock`` has always been a class, it was true for all of them;
  before that it was a TypeError. So it is with SimpleQueue, which has always been a class.
* ``isinstance(lock, LockType)`` is also true where ``LockType`` was bound before `install()` (to
  ``type(Lock())`` or ``_thread.LockType``): ``lock.__class__`` names the raw type, as the locks of ``mock``
  and ``weakref`` proxies do. ``type(lock)`` tells the truth.
* ``threading.Lock | None`` works, and the classes pickle by reference as ``threading.Lock``, so that they
  arrive as whatever that is in the other process.
* Lock cannot be subclassed, as it never could. RLock can, as ``_thread.RLock`` could; its subclasses are ordinary
  classes, and see themselves as such.

Cost: none.
"""

from __future__ import annotations

import sys
import warnings

from lockwatch import locks
from lockwatch._core.fastpath import specialise_queue, specialised
from lockwatch._core.originals import LockType, RLockType
from lockwatch.locks import simplequeue

_object_class = object.__dict__["__class__"]


class _LikeRaw(type):
    """Metaclass: instances of the raw type count as instances of the class that stands in its place."""

    _raw: type
    """The raw type that a class replaces; only in the class's own namespace, so that subclasses do not have it."""

    def __instancecheck__(cls, instance: object) -> bool:
        raw = cls.__dict__.get("_raw")
        if raw is None:
            return super().__instancecheck__(instance)
        return issubclass(type(instance), (raw, *cls.__bases__)) or super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        raw = cls.__dict__.get("_raw")
        if raw is not None and issubclass(subclass, (raw, *cls.__bases__)):
            return True
        return super().__subclasscheck__(subclass)


@specialised
class Lock(locks.Lock, metaclass=_LikeRaw):
    """A mutual exclusion lock, watched by lockwatch; see ``threading.Lock``."""

    __slots__ = ()
    __module__ = "threading"
    _raw = LockType

    def __init_subclass__(cls) -> None:
        raise TypeError("type 'threading.Lock' is not an acceptable base type")

    @property
    def __class__(self) -> type:
        return LockType

    @__class__.setter
    def __class__(self, new: type) -> None:
        _object_class.__set__(self, new)


@specialised
class RLock(locks.RLock, metaclass=_LikeRaw):
    """A re-entrant lock, watched by lockwatch; see ``threading.RLock``."""

    __slots__ = ()
    __module__ = "threading"
    _raw = RLockType

    def _odd_arguments(self, depth: int = 0) -> None:
        """Do what this Python does when ``RLock`` is given arguments."""
        if sys.version_info >= (3, 15):
            raise TypeError("RLock() takes no arguments")
        if sys.version_info >= (3, 13):
            warnings.warn(
                "Passing arguments to RLock is deprecated and will be removed in 3.15",
                DeprecationWarning,
                stacklevel=depth + 2,
            )

    @property
    def __class__(self) -> type:
        return RLockType if type(self) is RLock else type(self)

    @__class__.setter
    def __class__(self, new: type) -> None:
        _object_class.__set__(self, new)


class SimpleQueue(simplequeue.SimpleQueue, metaclass=_LikeRaw):
    """An unbounded queue, watched by lockwatch; see ``queue.SimpleQueue``."""

    __slots__ = ()
    __module__ = "queue"
    _raw = simplequeue.original


specialise_queue(SimpleQueue, simplequeue.original)


def adopted(kind: type[Lock | RLock], name: str) -> Lock | RLock:
    """Make the lock that takes over from a raw one; ``name`` says where that is kept."""
    lock = kind(name=name)
    lock._created = None  # not made by the program here
    return lock
