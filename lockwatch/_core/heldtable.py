"""What an agent holds, where the C fast path keeps that: its list and a table for all other holds, read as one.

Guarantee: to its readers it is the dictionary that it replaces (`Agent.holds`: lock's number -> hold, in the order
taken). Entries for locks of the C twin come from the list, and with the first look each becomes a hold for as long
as it lasts; they come and go with the ownership alone, so storing or dropping one here does nothing.

Assumed atomic: as for a dictionary; `_fastpath.Record.held` (C2 in ``_fastpath.c``). Cost: every look makes the
holds that nobody has looked at before; the fast path never comes here.
"""

from __future__ import annotations

from lockwatch._core import _fastpath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lockwatch._core.holds import Hold


class HeldTable(dict):  # type: ignore[type-arg]
    """The holds of one agent; its own items are those of locks that the C twin does not know.

    Attributes:
        record: The list of the C twin.
    """

    __slots__ = ("record",)

    def __init__(self) -> None:
        super().__init__()
        self.record = _fastpath.Record()

    def copy(self) -> dict[int, Hold]:
        """Return all holds, as a dictionary of its own."""
        everything = dict(self.record.held())
        everything.update(super().items())
        return everything

    def get(self, key: int, default: Any = None) -> Any:
        """Return one hold."""
        return self.copy().get(key, default)

    def pop(self, key: int, default: Any = None) -> Any:
        """Drop an entry of the table; those of the list go with the ownership."""
        return super().pop(key, default)

    def values(self) -> Any:
        """Return the holds."""
        return self.copy().values()

    def items(self) -> Any:
        """Return the numbers of the locks and the holds."""
        return self.copy().items()

    def keys(self) -> Any:
        """Return the numbers of the locks."""
        return self.copy().keys()

    def __setitem__(self, key: int, hold: Hold) -> None:
        lock = hold[1]()
        if not isinstance(lock, _fastpath.Mutex) or not isinstance(lock._state, _fastpath.State):
            super().__setitem__(key, hold)

    def __delitem__(self, key: int) -> None:
        super().pop(key, None)

    def __getitem__(self, key: int) -> Hold:
        return self.copy()[key]

    def __contains__(self, key: object) -> bool:
        return key in self.copy()

    def __iter__(self) -> Any:
        return iter(self.copy())

    def __len__(self) -> int:
        return self.record.count() + super().__len__()

    def __bool__(self) -> bool:
        return len(self) > 0

    def __eq__(self, other: object) -> bool:
        return self.copy() == other

    def __ne__(self, other: object) -> bool:
        return self.copy() != other

    __hash__ = None

    def __repr__(self) -> str:
        return repr(self.copy())
