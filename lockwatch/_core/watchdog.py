"""One thread of our own, started when it is first needed and gone when it is not: late checks and long waits.

What a waiter cannot see when it goes to sleep:
  * A thread ends, and with it the hope of those that wait for what it held. It may still release things while
  its local storage
    is cleared away; so the look is taken when it is gone altogether.
  * A thread is gone, and nothing said so (`lockwatch._core.gone`).
  * A knot was not believed, since a signal handler or finalizer was running on top of one of its waits.
  * A check was lost (to an exception, a race with a thread in C): every wait is looked at again once it is
    old, and then again and again. The period is adaptive, as SQL Server's: 5 s, down to 100 ms after a find,
    then growing again.
  * A wait lasts long without being provably a deadlock: a *stall* is said at a first threshold, and at a
  second one, if there is
    one, the process is given up (InnoDB warns at 240 s and gives up at 600 s).

Guarantees: it is not part of the program: it does not count as awake, holds no lock that anybody could want,
and is stopped before a fork (which otherwise would warn of a process with threads) and when nobody has waited
for a while.

Assumed atomic: ``dict.setdefault`` and ``pop`` as the claim of being the watchdog; one store into a dictionary, and
``dict.copy``.
"""

from __future__ import annotations

import atexit
import os
from time import monotonic_ns, sleep

from sortedcontainers import SortedKeyList

from lockwatch._core import agents, detector, hooks, leftovers, parking, reduction, settings
from lockwatch._core.originals import get_ident, start_new_thread
from lockwatch._core.waits import OPEN, innermost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType

    from lockwatch._core.agents import Agent

_LONGEST_NS = 5_000_000_000
_SHORTEST_NS = 100_000_000
_BREATH_NS = 100_000_000
"""How long to leave the program alone, at least, between two looks that waits which have become old ask for."""
_GONE_NS = 1_000_000_000
_DYING_NS = 5_000_000
"""How often to look whether a thread that has ended is gone; 20 times more rarely after a second."""
_ME = 0

_claim: dict[int, object] = {}
_ended: dict[int, tuple[Agent, int]] = {}
"""Agents to look after, by serial, and since when."""
_bell: LockType = parking.new_parker()
_finished: LockType = parking.new_parker()
_stopping = False
_unsettled = False
"""Whether waits that are not old are to be looked at again, too."""
_older = False
"""Whether a wait has become old since the last look."""
_looks = 0
"""How many looks have begun and ended: odd while one is under way."""
_broken: list[Exception] = []
"""What ended a watchdog that failed: there is no other one then."""


def running() -> bool:
    """Return whether there is a watchdog."""
    return _ME in _claim


def start() -> None:
    """Start the watchdog if there is none. Never raises: at interpreter exit no thread can be started any more."""
    token = object()
    if _stopping or _broken or _claim.setdefault(_ME, token) is not token:
        return
    try:
        start_new_thread(_run, ())
    except RuntimeError:
        _claim.pop(_ME, None)


def look_at_old() -> None:
    """Look soon at the calling thread's wait, which has become old; asked before it sleeps on.

    Many threads may ask, and often; they all share the looks that there is time for.
    """
    global _older
    start()
    if not _older:
        _older = True  # first this, then the bell: whoever sees it set relies on that look to come
        parking.unpark(_bell)


def look_after(agent: Agent) -> None:
    """Have a look taken, once the ended ``agent``'s thread is gone, at those who waited for it or for anybody."""
    leftovers.note_end(agent)
    if not _concerns_somebody(agent, bool(agent.holds)):
        return
    _ended[agent.serial] = agent, monotonic_ns()
    start()
    parking.unpark(_bell)
    if not running():
        _look_after_the_ended(at_once=True)


def look_later(agent: Agent) -> None:
    """Have the look taken once ``agent`` is gone, since somebody has found it dying."""
    _ended.setdefault(agent.serial, (agent, monotonic_ns()))
    start()
    parking.unpark(_bell)


def await_look() -> None:
    """Wait until a look that is under way is over, for at most `_GONE_NS`: what it has taken on has been said then."""
    if get_ident() in agents.internal_idents:
        return
    began, until = _looks, monotonic_ns() + _GONE_NS
    while began % 2 and _looks == began and monotonic_ns() < until:
        sleep(0.001)


def look_again() -> None:
    """Look at all waits soon, whatever their age; and, if need be, again and again, ever more rarely."""
    global _unsettled
    _unsettled = True
    if get_ident() not in agents.internal_idents:
        start()
        parking.unpark(_bell)


def _concerns_somebody(agent: Agent, holds: bool) -> bool:
    """Whether what ``agent`` held is lost, or waited for, or anybody waits for whoever may come.

    All else its end cannot have changed.
    """
    if holds:
        for hold in agent.holds.copy().values():
            lock = hold[1]()
            if lock is not None and lock._queue:
                return True
        if hooks.loses(agent):
            return True
    return any(wait.open_seen for other in agents.living() if other.waits for wait in other.waits.copy())


def _run() -> None:
    global _looks
    agents.mark_internal()
    try:
        _watch()
    except Exception as error:
        _broken.append(error)
        hooks.internal("watchdog", error)
    finally:
        _looks += _looks % 2
        agents.internal_idents.discard(get_ident())
        _claim.pop(_ME, None)
        parking.unpark(_finished)
    if (_ended or leftovers.waiting()) and not _stopping:  # it came while we were about to stop
        start()


def _watch() -> None:
    global _older, _looks
    oldest: SortedKeyList = SortedKeyList(key=lambda wait: wait.since_ns)
    said: dict[int, int] = {}
    judged: set[int] = set()
    period, pause_ns, looked_ns = _SHORTEST_NS, _BREATH_NS, 0
    idle = 0
    settled = True
    while not _stopping and idle < 2:
        parking.park(_bell, _dying_ns() if _ended else _next_ns(period))
        if _older and not (_ended or _unsettled or _stopping):
            parking.park(_bell, looked_ns + pause_ns - monotonic_ns())
        _older = False  # first this, then the look: whoever asks now gets another one
        _looks |= 1
        began_ns = monotonic_ns()
        if any(oldest.irange_key(None, monotonic_ns() - parking.LONG_NS)):
            agents.end_the_vanished()  # somebody waits long: is everybody there who seems to be awake?
        _look_after_the_ended()
        leftovers.work_off()
        if _unsettled and settled:
            period = _SHORTEST_NS // 2
        settled = not _unsettled
        found = _look_again(oldest)
        looked_ns = monotonic_ns()
        pause_ns = max(_BREATH_NS, 10 * (looked_ns - began_ns))
        _say_stalls(oldest, said)
        _judge_long_waits(oldest, judged)
        _looks += 1
        if not _ended:
            period = _SHORTEST_NS if found else min(_LONGEST_NS, period * 2)
        idle = 0 if oldest or _ended else idle + 1


def _next_ns(period: int) -> int:
    thresholds = [limit for limit in (settings.stall_ns, settings.stall_exit_ns) if limit is not None]
    return min([period, *(max(_SHORTEST_NS, limit // 2) for limit in thresholds)])


def _dying_ns() -> int:
    """Return how long to leave those alone that have ended but are not gone."""
    youngest = max((since for _, since in list(_ended.copy().values())), default=0)
    return _DYING_NS if monotonic_ns() - youngest < _GONE_NS else _SHORTEST_NS


def _look_after_the_ended(*, at_once: bool = False) -> None:
    for serial, (agent, _) in list(_ended.copy().items()):
        if (at_once or not agents.is_dying(agent)) and _ended.pop(serial, None) is not None:
            detector.look_after(agent)
            if agent.holds:
                hooks.ended_holding(agent)


def _look_again(oldest: SortedKeyList) -> bool:
    """Bring the list of waits up to date and look at the old ones again; says whether a deadlock was found."""
    waiting = agents.living() + [task for task in agents.others() if task.waits]
    current = {wait.serial: wait for wait in map(innermost, waiting) if wait is not None}
    for wait in [wait for wait in oldest if wait.serial not in current]:
        oldest.discard(wait)
    for wait in current.values():
        if wait not in oldest:
            oldest.add(wait)
    global _unsettled
    young_too, _unsettled = _unsettled, False
    found = asleep_looked = False
    for wait in list(oldest):
        if wait.slot or wait.deadline_ns is not None:
            continue
        if not young_too and monotonic_ns() - wait.since_ns < parking.LONG_NS:
            continue
        if wait.resource.blockers(wait).rule is OPEN:
            if asleep_looked:
                continue  # one look decides for all of them
            asleep_looked = True
        detector.block(wait)
        found = found or bool(wait.slot)
    return found


def _say_stalls(oldest: SortedKeyList, said: dict[int, int]) -> None:
    """Say which waits last longer than the thresholds, each once for each of them."""
    now = monotonic_ns()
    for level, limit in ((1, settings.stall_ns), (2, settings.stall_exit_ns)):
        if limit is None:
            continue
        for wait in oldest.irange_key(None, now - limit):
            if said.get(wait.serial, 0) < level and hooks.stall(wait, level == 2):
                said[wait.serial] = level
    for serial in [serial for serial in said if all(wait.serial != serial for wait in oldest)]:
        del said[serial]


def _judge_long_waits(oldest: SortedKeyList, judged: set[int]) -> None:
    """Ask of each long wait whether it can be told why it is so long, until that is done."""
    for wait in oldest.irange_key(None, monotonic_ns() - parking.LONG_NS):
        if wait.serial not in judged and not wait.slot and hooks.long_wait(wait):
            judged.add(wait.serial)
    judged.intersection_update([wait.serial for wait in oldest])


def ring() -> None:
    """Have a lock judged that has died; called by finalizers, anywhere."""
    start()
    parking.unpark(_bell)


def _stop_for_fork() -> None:
    """Be gone before a fork of a program that has one thread: nobody waits there, and nobody is to be warned of two."""
    global _stopping
    if len(agents.living()) > 1:
        return
    _stopping = True
    _await_end()


def _await_end() -> None:
    if not running() or get_ident() in agents.internal_idents:
        return
    threads = reduction.native_threads()
    parking.park(_finished, 0)
    parking.unpark(_bell)
    parking.park(_finished, _GONE_NS)
    for _ in range(100):  # the system's thread takes a moment longer
        if reduction.native_threads() < threads:
            return
        sleep(0.001)


def _go_on() -> None:
    global _stopping
    _stopping = False
    if _ended:
        start()


def _new_in_child() -> None:
    global _bell, _finished, _looks
    _looks += _looks % 2
    _claim.clear()
    _ended.clear()
    _bell = parking.new_parker()
    _finished = parking.new_parker()
    _go_on()


def _stop_at_exit() -> None:
    """Be gone before the interpreter is: a subinterpreter must not end while a thread runs in it."""
    global _stopping
    _stopping = True
    if look_after in agents.on_end:
        agents.on_end.remove(look_after)
    _await_end()


atexit.register(_stop_at_exit)
agents.on_end.append(look_after)
agents.on_dying.append(look_later)
parking.on_long_wait = look_at_old
hooks.look_again = look_again
leftovers.ring = ring
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_stop_for_fork, after_in_parent=_go_on, after_in_child=_new_in_child)
