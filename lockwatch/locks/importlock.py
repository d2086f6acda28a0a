"""The import lock of a module as a resource: whoever imports a module owns it until the module is complete.

Python resolves cycles made of import locks alone (the thread that closes one goes on with the module as far as it
has come), so these are no deadlocks; a cycle of one with a join, a lock or a future it does not see.

A thread that sleeps in the import system cannot be woken, so it is the victim only of what it finds itself,
before it goes to sleep; else another party is.

Assumes ``importlib._bootstrap._ModuleLock`` with ``owner`` (a thread ident) and ``name``, as from 3.11 to
3.15.
"""

from __future__ import annotations

import sys
from functools import wraps
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from lockwatch._core import agents, detector, ontop, settings, watchdog
from lockwatch._core.blocking import raise_if_victim
from lockwatch._core.originals import get_ident
from lockwatch._core.waits import ALL, NOBODY, Blockers, Wait, innermost, publish, withdraw

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockwatch._core.agents import Agent


class ModuleImport:
    """The import of a module by some thread."""

    __slots__ = ("lock",)

    kind = "import of module"

    def __init__(self, lock: Any) -> None:
        self.lock = lock

    @property
    def name(self) -> str:
        """The module's name."""
        return str(self.lock.name)

    @property
    def lock_class(self) -> str:
        """One for each module."""
        return f"import of {self.name}"

    def blockers(self, wait: Wait, /) -> Blockers:
        """Name the thread that imports the module."""
        ident = self.lock.owner or 0
        owner = agents.by_ident.get(ident) or agents.lost.get(ident)
        if owner is None or owner is wait.agent:  # it is complete, and perhaps ours already
            return NOBODY
        if _in_circle_of_imports(owner):
            return NOBODY
        return Blockers(ALL, (owner,), owner)

    def forget_waits(self, survivor: Agent, /) -> None:
        """Nothing is kept here."""


def _in_circle_of_imports(agent: Agent) -> bool:
    """Whether the chain of imports that ``agent`` waits for comes back to where it has been: Python breaks that."""
    seen: set[Agent] = set()
    while agent not in seen:
        seen.add(agent)
        wait = innermost(agent)
        if wait is None or not isinstance(wait.resource, ModuleImport):
            return False
        owner = agents.by_ident.get(wait.resource.lock.owner or 0)
        if owner is None:
            return False
        agent = owner
    return True


def watched_acquire(original: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Wrap ``_ModuleLock.acquire``."""

    @ontop.waits_in
    @wraps(original)
    def acquire(self: Any) -> bool:
        owner = self.owner
        if owner is None or owner == get_ident():
            return original(self)
        frame: Any = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
            frame = frame.f_back
        code, lasti = (None, -1) if frame is None else (frame.f_code, frame.f_lasti)
        wait = Wait(agents.current(), ModuleImport(self), monotonic_ns(), None, code, lasti)
        publish(wait)
        try:
            detector.block(wait)
            wait.raises = False  # first this, then the look: see detector._tell
            raise_if_victim(wait)
            if settings.stall_ns is not None or settings.stall_exit_ns is not None:
                watchdog.start()  # nobody else sees how long this sleep lasts
            return original(self)
        finally:
            withdraw(wait)

    return acquire


def targets() -> list[tuple[Any, str, Any]]:
    """Return what `install()` replaces here: owner, attribute, replacement."""
    lock: Any = sys.modules["importlib._bootstrap"]._ModuleLock
    return [(lock, "acquire", watched_acquire(lock.acquire))]
