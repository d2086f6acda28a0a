"""The search finds bugs: each rule of the mutex, taken out of its source, is missed in some small program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.mutex.explorer import explore
    from tests.mutex.mutations import Replace
    from tests.mutex.programs import Program, pair
    from tests.mutex.world import Violation
else:
    from mutex_explorer import explore
    from mutex_mutations import Replace
    from mutex_programs import Program, pair
    from mutex_world import Violation

TAKE = pair()
TIMED = pair(True, 0.5)
ONE = [TAKE]
THREE = [ONE, ONE, ONE]

NORMAL = Program(threads=[ONE, ONE])
STARVING = Program(threads=THREE, threshold=-1, preemptions=4, mode_is_left=True)
STARVING_TWICE = Program(threads=[[TAKE, TAKE], ONE, ONE], threshold=-1, preemptions=3)
TIME_OUT = Program(threads=[ONE, [TIMED], ONE])
TIME_OUT_STARVING = Program(threads=[ONE, [TIMED], ONE], threshold=-1, preemptions=3)
INTERRUPTED = Program(threads=THREE, interrupts=1, preemptions=2)
INTERRUPTED_STARVING = Program(threads=THREE, interrupts=1, threshold=-1, preemptions=2)
ANYWHERE = Program(threads=[ONE, ONE], interrupts=1, fine=True)
FINALIZER = Program(threads=[[TAKE, TAKE], ONE], handlers={0: TIMED}, threshold=-1, preemptions=2)

PLANTED: dict[str, tuple[Replace, Program, str]] = {
    "the compare-and-swap is two steps": (
        Replace(
            "acquire",
            "self._state.setdefault(OWNED, hold) is hold",
            "(OWNED not in self._state and (self._state.update({OWNED: hold}) or True))",
        ),
        NORMAL,
        "wrote the state|that T. holds|state does not say",
    ),
    "F1: looks at the queue before it frees the lock": (
        Replace(
            "release",
            """
            freed = self._state.pop(OWNED, None)
            if self._queue:
                wake_next(self)
            """,
            """
            if self._queue:
                wake_next(self)
            freed = self._state.pop(OWNED, None)
            """,
        ),
        NORMAL,
        "lost wake-up",
    ),
    "M1: does not look at the lock between queueing and parking": (
        Replace("_wait_turn", "woken or not lock._starving or _in_turn(queue, waiter):\n", "woken:\n"),
        NORMAL,
        "lost wake-up",
    ),
    "M3: leaves without passing the wake-up on": (
        Replace("_leave", "lock._starving = False\n    wake_next(lock)", "lock._starving = False"),
        TIME_OUT,
        "lost wake-up",
    ),
    "M3: leaves without passing the lock on": (
        Replace("_leave", "pass_on(lock, now)", "pass"),
        INTERRUPTED_STARVING,
        "state says that it is ours",
    ),
    "a waiter that leaves stays in the queue": (
        Replace("_leave", "unqueue(lock, waiter)", "pass"),
        TIME_OUT,
        "in the queue",
    ),
    "a waiter that leaves stays in the graph": (
        Replace("_leave", "withdraw(waiter)", "pass"),
        TIME_OUT,
        "in the graph",
    ),
    "M4: grants without claiming the verdict": (
        Replace("pass_on", "head.slot.setdefault(VERDICT, GRANTED)", "GRANTED"),
        TIME_OUT_STARVING,
        "F2|state says that it is ours",
    ),
    "M4: does not wake before it stores": (
        Replace("pass_on", "parking.unpark(head.parker)\n        state", "state"),
        FINALIZER,
        "lost wake-up",
    ),
    "M4: grants the last in the queue": (
        Replace("pass_on", "queue[:1]", "queue[-1:]"),
        STARVING_TWICE,
        "not FIFO|overtook",
    ),
    "M5: a newcomer keeps the lock in starvation mode": (
        Replace("may_keep", "if not lock._starving:", "if True:"),
        STARVING_TWICE,
        "overtook",
    ),
    "M5: a newcomer does not give the lock on": (
        Replace("_wait_turn", "pass_on(lock, now)", "pass"),
        STARVING,
        "deadlock was seen|livelock",
    ),
    "the last waiter does not leave starvation mode": (
        Replace("_own", "lock._starving = False", "pass"),
        STARVING,
        "starvation mode",
    ),
    "M7: an interrupted acquire does not clean up": (
        Replace("acquire_slow", "_leave(lock, waiter)", "pass"),
        INTERRUPTED,
        "in the queue|in the graph|state says that it is ours",
    ),
    "F3: an interrupted release is not completed": (
        Replace("release", "self._finish_release(hold)", "pass"),
        INTERRUPTED,
        "lost wake-up|everybody is through|F2|state says",
    ),
    "F3: an interrupted release leaves an entry in the table of holds": (
        Replace("_finish_release", "hold[0].holds.pop(self._key, None)", "pass"),
        ANYWHERE,
        "is through, and",
    ),
    "M8: a wait under a handler does not give way": (
        Replace("acquire_slow", "suspended.give_way()", "pass"),
        FINALIZER,
        "lost wake-up|livelock|overtook",
    ),
    "M8: a waiter that queued again is taken out and not woken": (
        Replace("pass_on", "verdict is SUSPENDED", "False"),
        FINALIZER,
        "lost wake-up",
    ),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_planted_bug_is_found(bug: str) -> None:
    """A rule that is left out breaks what the search checks, and the schedule that shows it is given."""
    mutation, program, message = PLANTED[bug]
    with pytest.raises((Violation, AssertionError), match=message) as caught:
        explore(program, mutation)
    assert caught.value.__notes__[-1].startswith("schedule:")


def test_mutation_that_changes_nothing_is_refused() -> None:
    """A planted bug whose place in the source has changed is an error, not a bug that is not found."""
    with pytest.raises(LookupError, match="nothing to change"):
        explore(NORMAL, Replace("_leave", "no such text", ""))
