"""Lock objects that exist already when lockwatch is installed: adopted where that is provably safe, else listed.

A lock that was made before `install()` is raw: nobody sees who holds it. Adopting it means that a watched
lock takes its place everywhere. If one reference to the raw lock were missed, two threads could be inside at
once, each with a lock of its own; so:

**The proof.** A lock is replaced in all places that the garbage collector knows of, and then its references
are counted: if only our own is left, nobody can ever reach the raw lock again, and the exchange was complete.
If not (a local variable, a callback in C code, a bound method kept somewhere), everything is put back as it
was. Beside that:

  A1  No other Python thread exists, so nobody can be between reading the reference and taking the lock. (A
      thread of C code that calls into Python for the first time at that very moment is not seen.)
  A2  The lock is free, before and after.
  A3  Nobody refers to it weakly (a WeakSet of locks would lose it).
  A4  The garbage collector is off meanwhile, so that no finalizer runs in between. A signal handler that does
      is harmless: it ends before we go on, and what it leaves behind (a lock held, a new reference) fails the
      checks above.

Bound methods of the lock (``Condition`` keeps ``acquire`` and ``release`` of its lock) are renewed together
with it, by the same proof: a method that was missed still refers to the raw lock.

Never adopted and not listed: what belongs to lockwatch, to ``threading`` itself and its Thread objects, and
to the other modules in `lockwatch.patch.names.LEFT_ALONE`, and locks inside objects of ``io``.

`give_back` is the same in the other direction, with a new raw lock. Where the proof fails, the watched lock
stays and goes on working: it does not depend on being installed.

Cost: one pass over all container objects to find the locks, then those of `lockwatch.patch.references`.
"""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from lockwatch._core.originals import LockType, RLockType, allocate_lock
from lockwatch.patch.classes import Lock, RLock, adopted
from lockwatch.patch.names import left_alone
from lockwatch.patch.references import METHODS, References

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockwatch.patch.places import Place

    Exchange: TypeAlias = list[tuple[Place, str | None]]

MOST: Final = 1_000
"""Raw locks that are looked at; programs that have more should install earlier."""

_LEFT_ALONE: Final = ("io", "_io", "_pyio", "psutil")  # psutil's locks are taken by our own reports
_THREAD_INTERNALS: Final = ("_started", "_tstate_lock")


@dataclass(frozen=True, slots=True)
class UnwatchedLock:
    """A lock that existed before lockwatch was installed, and stays unwatched.

    Attributes:
        kind: "Lock" or "RLock".
        where: The places found that refer to it, such as "logging._lock"; empty if only local variables or C
            code do.
        locked: Whether it is held now.
        reason: Why it was not adopted.
    """

    kind: str
    where: tuple[str, ...]
    locked: bool
    reason: str

    def __str__(self) -> str:
        where = ", ".join(self.where) or "at an unknown place"
        return f"{self.kind} {where}{' (held)' if self.locked else ''}: {self.reason}"


class _Candidate:
    """A lock and what was found out about it. The only reference of ours that remains when references are counted."""

    __slots__ = ("exchange", "lock", "not_ours", "others", "where")

    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self.where: list[str] = []  # the best name first
        self.exchange: Exchange = []  # with the name of the method that is bound there, if so
        self.others: list[str] = []  # what refers to it and cannot be replaced
        self.not_ours = False  # belongs to something that is left alone


_adopted: list[weakref.ref[Lock | RLock]] = []
_unwatched: list[tuple[weakref.ref[Any], UnwatchedLock]] = []
_pending: list[tuple[_Candidate, Any, Exchange]] = []
"""The exchange that is not proved yet, if one is in the making: lock, new lock, and the places written so far."""


def adopt(*, allowed: bool) -> None:
    """Replace the raw locks that exist by watched ones, and note those that stay.

    Args:
        allowed: False to replace none, only to note them.
    """
    _unwatched.clear()
    candidates = _raw_locks()
    _explore(candidates)
    for candidate in candidates:
        if candidate.not_ours:
            continue
        reason = _refusal(candidate, weak=0) if allowed else "adopting is switched off"
        if reason is None:
            reason = _exchange(candidate, _watched_for)
        if reason is not None:
            kind = "RLock" if type(candidate.lock) is RLockType else "Lock"
            note = UnwatchedLock(kind, tuple(candidate.where), _held(candidate.lock), reason)
            _unwatched.append((weakref.ref(candidate.lock), note))


def give_back() -> None:
    """Replace adopted locks by raw ones again, where that is as safe."""
    _settle()  # left over if an exception struck between the last line of an exchange and its undoing
    _unwatched.clear()
    candidates = [_Candidate(one()) for one in _adopted if one() is not None]
    _explore(candidates)
    for candidate in candidates:
        # Each watched lock has a weak reference to itself.
        if not candidate.not_ours and _refusal(candidate, weak=1) is None:
            _exchange(candidate, _raw_for)
    candidates.clear()
    _adopted[:] = [one for one in _adopted if one() is not None]


def unwatched_locks() -> tuple[UnwatchedLock, ...]:
    """Return the locks that were there before `install()` and stay unwatched, with the reasons.

    A lock that the program dropped since is left out; ``locked`` is as of now.
    """
    alive = [(lock, note) for lock, note in ((one(), note) for one, note in _unwatched) if lock is not None]
    return tuple(UnwatchedLock(note.kind, note.where, _held(lock), note.reason) for lock, note in alive)


def _raw_locks() -> list[_Candidate]:
    found = [_Candidate(one) for one in gc.get_objects() if type(one) is LockType or type(one) is RLockType]
    return found[:MOST]


def _explore(candidates: list[_Candidate]) -> None:
    """Find the places of all candidates."""
    targets = [candidate.lock for candidate in candidates]
    references = References(targets)
    for candidate in candidates:
        places, candidate.others = references.places(candidate.lock)
        candidate.exchange = [(place, None) for place in places]
        for method in references.methods(candidate.lock):
            kept, others = references.places(method)
            candidate.exchange += [(place, method.__name__) for place in kept]
            candidate.others += others
        places.sort(key=_quality)
        candidate.where = list(dict.fromkeys(place.label for place in places))
        candidate.not_ours = any(_is_left_alone(place) for place, _ in candidate.exchange) or any(
            left_alone(owner.module) or owner.label.endswith("._waiters")
            for owner in references.owners(candidate.lock)
        )


def _quality(place: Place) -> tuple[bool, int]:
    """Sort key: of the names that a lock has, a global's is the best, then the shortest."""
    return place.role != "global", len(place.label)


def _is_left_alone(place: Place) -> bool:
    module = place.module
    if left_alone(module) or module in _LEFT_ALONE or module.startswith("psutil."):
        return True
    return issubclass(type(place.root), threading.Thread) and any(
        part in _THREAD_INTERNALS for part in place.label.split(".")
    )


def _refusal(candidate: _Candidate, *, weak: int) -> str | None:
    """Return why a lock must stay as it is; None if nothing speaks against an attempt."""
    if _held(candidate.lock):
        return "it is held now"  # A2
    threads = len(sys._current_frames())
    if threads != 1:
        return f"{threads} threads run: one of them may be about to take it"  # A1
    if weakref.getweakrefcount(candidate.lock) > weak:
        return "something refers to it weakly"  # A3
    if candidate.others:
        return f"it is also in {', '.join(dict.fromkeys(candidate.others))}, where it cannot be replaced"
    if not candidate.exchange:
        return "only local variables, or C code, refer to it"
    return None


def _exchange(candidate: _Candidate, make: Callable[[_Candidate], Any]) -> str | None:
    """Put another lock in all places of the candidate's, and keep that if it can be proved complete.

    Returns:
        None if the exchange was made; else the reason why everything is as it was.
    """
    new = make(candidate)
    done: Exchange = []
    collecting = gc.isenabled()
    try:
        gc.disable()  # A4
        _pending.append((candidate, new, done))
        for place, method in candidate.exchange:
            done.append((place, method))
            if not _put(candidate.lock, new, place, method):
                reason = f"{place.label} cannot be changed"
                break
        else:
            if _references(candidate) != _references(_Candidate(make(candidate))):
                reason = "something else refers to it (a local variable, a callback, or C code)"
            elif _held(candidate.lock) or len(sys._current_frames()) != 1:
                reason = "it was taken into use during the exchange"
            else:
                done.clear()
                if make is _watched_for:
                    _adopted.append(weakref.ref(new))
                return None
    finally:
        try:
            _settle()
        finally:
            if collecting:
                gc.enable()
    return reason


def _settle() -> None:
    """Put back what was not proved. An exception in the middle (a signal handler's) does not keep it from that."""
    try:
        _put_back()
    except BaseException:
        _put_back()
        raise


def _put_back() -> None:
    for candidate, new, done in _pending:
        for place, method in done:
            _put(new, candidate.lock, place, method)
    _pending.clear()


def _put(old: Any, new: Any, place: Place, method: str | None) -> bool:
    """Exchange what is in one place, if it is the old lock or a bound method of it. Returns whether it was."""
    now: Any = place.read()
    if method is None:
        return now is old and place.swap(now, new)
    if type(now) not in METHODS or now.__self__ is not old:
        return False
    renewed = getattr(new, method, None)
    return renewed is not None and place.swap(now, renewed)


def _references(candidate: _Candidate) -> int:
    return sys.getrefcount(candidate.lock)


def _held(lock: Any) -> bool:
    """Whether a lock is held, by whomever; a raw RLock says so only in its repr before 3.14."""
    return repr(lock).startswith("<locked")


def _watched_for(candidate: _Candidate) -> Lock | RLock:
    kind = RLock if type(candidate.lock) in (RLockType, RLock) else Lock
    return adopted(kind, candidate.where[0] if candidate.where else candidate.exchange[0][0].label)


def _raw_for(candidate: _Candidate) -> Any:
    return RLockType() if type(candidate.lock) is RLock else allocate_lock()
