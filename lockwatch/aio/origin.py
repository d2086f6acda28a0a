"""Where an event, condition, barrier, queue or semaphore of tasks was made, and what it is called.

It hangs on the thing as its attribute ``_lockwatch``, for whoever reads off a coroutine what it waits for.
Cost: one small object for each thing.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from lockwatch.locks.base import Named

if TYPE_CHECKING:
    from types import CodeType


class Origin(Named):
    """Where something was made.

    Attributes:
        kind: What it is: "asyncio.Event", ...
    """

    __slots__ = ("__weakref__", "_created", "_name", "kind")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._name: str | None = None  # pyright: ignore[reportIncompatibleMethodOverride]
        place: tuple[CodeType, int] | None = None
        self._created = place  # pyright: ignore[reportIncompatibleMethodOverride]

    def __copy__(self) -> None:
        """A copy of the program's object starts without."""

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """A copy of the program's object starts without."""

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        return type(None), ()


def note(thing: Any, kind: str, name: str | None, depth: int = 2) -> None:
    """Note where ``thing`` was made: by the first caller, ``depth`` calls up, that is not machinery."""
    origin = thing._lockwatch = Origin(kind)
    origin._made(depth, name)


def noting_init(original: Any, kind: str) -> Any:
    """Wrap an ``__init__`` to note where the thing was made."""

    @wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - stands in for one
        original(self, *args, **kwargs)
        note(self, kind, None)

    return __init__
