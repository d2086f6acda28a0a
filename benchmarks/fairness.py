"""Go's ``TestMutexFairness``: a hog that re-takes the lock at once, and a victim that wants it too.

The hog holds it for 100 us each time; the victim wants it 10 times.
The sample is the victim's worst single wait in ms. A lock without fairness lets the hog overtake the victim
again and again; one with hand-off bounds the wait.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence

from benchmarks.results import Budget
from benchmarks.runner import Case, Factory, LockLike, Reading, Setup, spins

TITLE = "Fairness: a victim beside a hog that re-takes the lock at once"
NOTES = (
    (
        "Go's TestMutexFairness. The hog repeats: take, hold 100 us, let go. The victim wants 10 acquisitions, with "
        "100 us of sleep between them; its worst single wait of a round is the sample, in ms. It gets at most 10 s "
        "for all of them."
    ),
    "The hog holds by sleeping, as Go's does, or by working in Python, which keeps the GIL as well.",
    (
        "A lock without fairness is a lottery: whether the victim wakes in time depends on the moment and on what "
        "else the machine does, so that its rounds fall into very short and very long waits. Read the worst round, "
        "not the median."
    ),
    "Budget: 5 ms plus the interpreter's switch interval, for the worst round.",
)
ROUNDS = 21

HELD = 100e-6
"""Seconds for which the hog holds the lock, and the victim sleeps between acquisitions."""
WANTED = 10
LIMIT = 10.0
"""Seconds after which a round ends, whatever the victim got."""

Hold = Callable[[], object]


def cases(setup: Setup) -> Sequence[Case]:
    """A Lock held by sleeping and by working; an RLock held by sleeping."""
    wanted, limit = (2, 0.5) if setup.quick else (WANTED, LIMIT)
    budget = Budget("lockwatch", 5.0 + sys.getswitchinterval() * 1e3, "worst")
    turns = range(spins(HELD))

    def sleeping() -> None:
        time.sleep(HELD)

    def working() -> None:
        for _ in turns:
            pass

    found = []
    for kind, how, hold in (
        ("Lock", "sleeping", sleeping),
        ("Lock", "working", working),
        ("RLock", "sleeping", sleeping),
    ):
        raw, ours = (_measure(getattr(side, kind), hold, wanted, limit) for _, side in setup.sides())
        found.append(
            Case(
                name=f"{kind.lower()}_{how}",
                title=f"{kind}, held {how}",
                unit="ms",
                raw=raw,
                lockwatch=ours,
                compare="difference",
                budget=budget,
                params={
                    "held_us": HELD * 1e6,
                    "how": how,
                    "wanted": wanted,
                    "switch_interval_ms": sys.getswitchinterval() * 1e3,
                },
            )
        )
    return found


def _measure(make: Factory, hold: Hold, wanted: int, limit: float) -> Callable[[], Reading]:
    return lambda: worst_wait(make(), hold, wanted, limit)


def worst_wait(lock: LockLike, hold: Hold, wanted: int, limit: float) -> Reading:
    """One round.

    Args:
        lock: The lock that both want.
        hold: What the hog does while it holds it.
        wanted: How many acquisitions the victim needs.
        limit: Seconds that it gets.

    Returns:
        The victim's worst single wait in ms; in the detail, how often each took the lock and whether the
        victim got all it wanted in time (if not, its wait so far is the sample).
    """
    running = [True]
    hogging = threading.Event()
    taken = 0
    waits: list[float] = []
    asked = 0.0

    def hog() -> None:
        nonlocal taken
        while running:
            with lock:
                hold()
            taken += 1
            if taken == 1:
                hogging.set()

    def victim() -> None:
        nonlocal asked
        for _ in range(wanted):
            time.sleep(HELD)
            asked = time.perf_counter()
            with lock:
                waits.append(time.perf_counter() - asked)
            if not running:
                break

    threads = [threading.Thread(target=hog, name="hog"), threading.Thread(target=victim, name="victim")]
    threads[0].start()
    hogging.wait()
    threads[1].start()
    threads[1].join(limit)
    finished = not threads[1].is_alive()
    so_far = [] if finished else [time.perf_counter() - asked]
    worst = max(waits + so_far)
    running.clear()
    for thread in threads:
        thread.join()
    return Reading(
        worst * 1e3, {"hog_acquisitions": taken, "victim_acquisitions": len(waits), "finished": finished}
    )
