"""``lockwatch.RLock``: in place of ``threading.RLock``.

Policy on top of the mechanism: its owner may take it again, and nobody else may release it; so its owner is
    always known. It
has the private protocol that ``threading.Condition`` asks of a re-entrant lock.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from lockwatch import misuse
from lockwatch._core import agents, hooks, lockorder, settings
from lockwatch._core.fastpath import RecursiveMutex, specialised
from lockwatch._core.handover import OWNED, give_up
from lockwatch._core.holds import AGENT
from lockwatch._core.mutex import acquire_slow
from lockwatch._core.waits import ALL, NOBODY, Blockers
from lockwatch.locks.base import WatchedLock

if TYPE_CHECKING:
    from lockwatch._core.holds import Hold
    from lockwatch._core.waits import Wait


@specialised
class RLock(RecursiveMutex, WatchedLock):
    """A re-entrant mutual exclusion lock that tells deadlocks, with all of ``threading.RLock``'s contract.

    Scheduled as `lockwatch.Lock`. Re-entry is a count beside the owner and costs less than the first acquire.

    Args:
        name: What to call it in reports; by default the name that the code gives it where it is made.
    """

    __slots__ = ()

    kind = "RLock"

    def blockers(self, wait: Wait, /) -> Blockers:
        """Say who could end ``wait``: the owner, and nobody else."""
        hold = self._state.get(OWNED)
        if hold is None or hold is getattr(wait, "hold", None):
            return NOBODY
        return Blockers(ALL, (agents.responsible(wait, hold),), hold)

    def _level(self) -> int:
        return self._count + 1 if OWNED in self._state else 0

    def _details(self) -> str:
        return f"{super()._details()} count={self._level()}"

    def _recursion_count(self) -> int:
        """Return how many levels the calling thread holds."""
        return self._level() if self._is_owned() else 0

    def _release_all(self) -> tuple[int, Hold]:
        """Let go of all levels at once and return what `_take_again` needs to take them again (for Condition)."""
        hold = self._state.get(OWNED)
        if hold is None or hold[AGENT] is not agents.current():
            self._refuse_release(hold)
        assert hold is not None
        count, self._count = self._count, 0
        hold[AGENT].holds.pop(self._key, None)
        give_up(self, hold)
        return count, hold

    def _take_again(self, saved: tuple[int, Hold]) -> None:
        """Take the lock again as it was before `_release_all`, with the place where it was taken first."""
        count, (_, _, code, lasti, _, how, *_) = saved
        agent = agents.current()
        hold = (agent, self._ref, code, lasti, monotonic_ns(), how)
        now = self._state.setdefault(OWNED, hold)
        if now is hold and not self._queue:
            agent.holds[self._key] = hold
            self._acquisitions += 1
        else:
            if now is hold:
                give_up(self, hold)
            acquire_slow(self, hold, None)
            hold = self._state.get(OWNED) or hold
        self._count = count
        if settings.order and len(agent.holds) > 1:
            lockorder.note(agent, self, hold)

    _release_save = _release_all
    _acquire_restore = _take_again

    def _at_fork_reinit(self) -> None:
        """Make the lock free, whoever held it; the standard library calls this in the child after a fork."""
        super()._at_fork_reinit()
        self._count = 0

    def _refuse_release(self, hold: Hold | None, /) -> None:
        if hold is None:
            raise hooks.misuse(f"cannot release un-acquired lock: {self._title()} is not held by anybody")
        misuse.wrong_release(self, hold, agents.current())
        raise hooks.misuse(
            f"cannot release un-acquired lock: {self._title()} is not held by this thread; {self._holder(hold)}"
        )
