"""What a program says about the order of its locks: `lock_order`, `nested`, `ignore`.

Guarantees: none of them takes a lock or waits for another thread; they do nothing while ``order`` is ``off``
but remember what was said.

Assumes: `lock_order` and ``ignore("a name")`` are called before the locks are used, as orders that were
learned by then are forgotten (a lock's class may have another key from then on).

Cost: with names, each lock's name is worked out from its source when it is first nested in another.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from lockwatch import config, ordering
from lockwatch._core import agents, lockorder, orderbook
from lockwatch._core.mutexbase import MutexMethods
from lockwatch.naming import site

if TYPE_CHECKING:
    from types import TracebackType

_declared: list[tuple[str, ...]] = []
_ignored_names: set[str] = set()


def lock_order(*names: str) -> None:
    """Declare an order: locks of these names or classes are taken in it, and never the other way round.

    An acquire against it is reported the first time that it happens, also if no thread ever did it in the
    declared order, and if one thread alone does it.

    Args:
        names: Two or more lock names, as reports show them: given (``Lock(name="a")``), or found in the source
            (``"Client._lock"``). Outermost first.

    Raises:
        TypeError: A name is no str.
        ValueError: Fewer than two names, or one twice.
    """
    if not all(isinstance(name, str) for name in names):
        raise TypeError("lock_order takes the names of locks")
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError("lock_order takes two names or more, each of them once")
    config.current()
    _declared.append(names)
    _by_names()


def declared_orders() -> tuple[tuple[str, ...], ...]:
    """Return what `lock_order` was told."""
    return tuple(_declared)


def forget_declared() -> None:
    """Take back all that `lock_order` and `ignore` were told, and forget all orders learned."""
    _declared.clear()
    _ignored_names.clear()
    orderbook.ignored_locks.clear()
    lockorder.ignored_classes.clear()
    _by_names()


def ignored() -> int:
    """Return how many acquires lock order left out because of `ignore`; about."""
    return lockorder.ignored


class ignore:  # noqa: N801 - used like a function
    """Leave locks out of lock order, or a block.

    ``ignore(lock)`` and ``ignore("Client._lock")`` leave a lock, or a class of locks, out for good (a lock: until
    it dies). ``with ignore():`` leaves out what the calling thread or task takes in the block. What was left out
    is counted in the findings' advice. Deadlocks are found as ever.

    Args:
        what: Locks, or names of locks as reports show them; nothing for a block.

    Raises:
        TypeError: Something else is given.
    """

    def __init__(self, *what: object) -> None:
        self._block = not what
        names = []
        for one in what:
            if isinstance(one, str):
                names.append(one)
                continue
            lock: Any = getattr(one, "_lockwatch", one)  # of asyncio's locks
            known: Any = lock if isinstance(lock, MutexMethods) else None
            if known is None:
                raise TypeError(f"ignore takes watched locks and names of locks, not {type(one).__name__}")
            orderbook.ignored_locks.add(known._key)
            orderbook.forget(known)
        if names:
            _ignored_names.update(names)
            lockorder.ignored_classes.update(names)
            _by_names()

    def __enter__(self) -> None:
        if self._block:
            _enter(None)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._block:
            _leave()


class nested:  # noqa: N801 - used like a function
    """Say that locks of one class are nested by design in a ``with`` block: a parent's, then its children's.

    In the block the order among locks of one class is the program's business, and not learned. The keys of
    blocks inside each other must ascend, as depths or numbers do: that is checked instead.

    Args:
        key: Where in the hierarchy the locks stand that are taken in the block; comparable to those of the
            blocks around it.

    Raises:
        LockOrderError: At ``with``, under ``order="raise"``: the key is not greater than that of the block around.
    """

    def __init__(self, key: Any) -> None:
        self._key = key

    def __enter__(self) -> None:
        blocks = lockorder.special.get(agents.acting().serial, [])
        around = next((block for block in reversed(blocks) if block is not None), None)
        if around is not None and not around[0] < self._key:  # type: ignore[index]
            ordering.descending(around[0], self._key)  # type: ignore[index]
        _enter((self._key,))

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _leave()


def _enter(block: object) -> None:
    lockorder.special.setdefault(agents.acting().serial, []).append(block)


def _leave() -> None:
    serial = agents.acting().serial
    blocks = lockorder.special[serial]
    blocks.pop()
    if not blocks:
        del lockorder.special[serial]


_spoken_of: set[str] = set()
_kept = False


def _by_names() -> None:
    """From now on lock classes go by the names that the source gives their locks, where those are spoken of."""
    _spoken_of.clear()
    _spoken_of.update(_ignored_names, *_declared)
    _begin_again()


def keep_keys(keep: bool) -> None:
    """Let lock classes have keys that are the same in every run, for a file; or no longer."""
    global _kept
    if _kept is not keep:
        _kept = keep
        _begin_again()


def _begin_again() -> None:
    lockorder.class_key = _key if _spoken_of or _kept else lockorder._class_key
    orderbook.reset()
    for names in _declared:
        orderbook.declare(names, orderbook.DECLARED, "the declared order")


def _key(lock: Any) -> Any:
    if _spoken_of:
        name = lock.name
        if name in _spoken_of:
            return name
    if _kept and lock._name is None and lock._created is not None:
        place, name = site(*lock._created), lock.name
        file = "/".join(place.file.replace(os.sep, "/").split("/")[-2:])
        return f"{file}:{place.line} in {place.function}" + (f" ({name})" if name else "")
    return lockorder._class_key(lock)
