"""Methods of others' classes that are replaced by ours, and how they come back.

Guarantee: `Methods.restore` puts back what is still ours; what somebody else has replaced since is left alone.

Cost: one attribute store for each method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class Methods(list[tuple[Any, str, Any, Any]]):
    """What is replaced: (owner, attribute, original, ours), oldest first."""

    def put(self, targets: Iterable[tuple[Any, str, Any]]) -> None:
        """Replace attributes of classes or modules: (owner, attribute, ours)."""
        for owner, attribute, ours in targets:
            self.append((owner, attribute, owner.__dict__[attribute], ours))
            setattr(owner, attribute, ours)

    def restore(self) -> None:
        """Put the originals back, newest first, where nobody else has replaced ours since."""
        while self:
            owner, attribute, original, ours = self.pop()
            if owner.__dict__.get(attribute) is ours:
                setattr(owner, attribute, original)
