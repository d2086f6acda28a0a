"""Random programs that end by themselves, with a lock order that can deadlock in some of them: planted, or tamed.

Threads take turns, so nothing ever waits for a lock, but all of them were started before the first one took any: any
of them might have run at the same time. All nest locks in one order, that of the locks' ranks. A ring of two to five
locks is *planted* on top of that: each of its sides is taken by another thread. In the tamed programs something keeps
the ring from ever closing: see `TAMES`.
"""

from __future__ import annotations

import threading
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

TAMES = (
    "no ring",
    "one thread",
    "gate",
    "try",
    "timed",
    "join",
    "parent's gate",
    "let go in between",
    "start",
)
"""What a tamed program has instead of a ring that can close."""


class Inversions:
    """Makes one program; ``run`` runs it to its end.

    Attributes:
        planted: Whether there is a ring to be found.
        tame: What tames it otherwise.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.planted = rng.random() < 0.5
        self.tame = rng.choice(TAMES)
        alike = rng.random() < 0.5
        count = rng.randint(3, 8)
        self.locks: list[Any] = [self._lock() for _ in range(count)] if alike else self._apart()[:count]
        self.gate = threading.Lock()
        self.many = rng.random() < 0.3
        self.ring = rng.sample(self.locks, rng.randint(2, min(5, len(self.locks))))

    def _lock(self) -> Any:
        return self.rng.choice(
            [threading.Lock, threading.RLock, threading.Semaphore, threading.BoundedSemaphore]
        )()

    def _apart(self) -> list[Any]:
        """Locks that are made at places of their own: each is of another class."""
        a, b = threading.Lock(), threading.RLock()
        c, d = threading.Semaphore(), threading.Lock()
        e, f = threading.RLock(), threading.BoundedSemaphore()
        return [a, b, c, d, e, f, threading.Lock(), threading.RLock()]

    def _nest(self, locks: Sequence[Any], how: str = "") -> None:
        """Take the locks, one under the other; the last one perhaps as a try."""
        for position, lock in enumerate(locks):
            last = how if position == len(locks) - 1 else ""
            taken = lock.acquire(*{"try": (False,), "timed": (True, 5)}.get(last, ()))
            assert taken
            if self.many and isinstance(lock, type(threading.RLock())):
                lock.acquire()
                lock.release()
        for lock in reversed(locks):
            lock.release()

    def _noise(self) -> list[Callable[[], object]]:
        """Nested acquires in the order of the ranks, which the ring's first sides follow, too."""
        order = self.ring + [lock for lock in self.locks if lock not in self.ring]
        bodies: list[Callable[[], object]] = []
        for _ in range(self.rng.randint(0, 6)):
            ranks = sorted(self.rng.sample(range(len(order)), self.rng.randint(1, len(order))))
            bodies.append(partial(self._nest, [order[rank] for rank in ranks]))
        return bodies

    def run(self) -> None:
        """Run the program."""
        sides = [*pairwise(self.ring), (self.ring[-1], self.ring[0])]
        bodies: list[Callable[[], object]] = [partial(self._nest, side) for side in sides]
        if self.planted:
            self.rng.shuffle(bodies)
            take_turns(self._mixed(bodies))
            return
        noise = self._noise() if self.tame in {"no ring", "try", "timed"} else []
        if self.tame == "no ring":
            bodies.pop()
        elif self.tame == "one thread":
            bodies = [partial(self._all_of, bodies)]
        elif self.tame == "gate":
            bodies = [partial(self._nest, (self.gate, *side)) for side in sides]
        elif self.tame in {"try", "timed"}:
            bodies[-1] = partial(self._nest, sides[-1], self.tame)
        elif self.tame == "join":
            last = bodies.pop()
            take_turns(bodies)
            bodies = [last]
        elif self.tame == "parent's gate":
            bodies = [partial(self._parent, body) for body in bodies]
        elif self.tame == "let go in between":
            bodies[-1] = partial(self._all_of, [partial(self._nest, [lock]) for lock in sides[-1]])
            noise = self._noise()
        elif self.tame == "start":
            bodies.pop()()
        take_turns([*noise, *bodies])

    def _mixed(self, bodies: list[Callable[[], object]]) -> list[Callable[[], object]]:
        mixed = self._noise()
        for body in bodies:
            mixed.insert(self.rng.randint(0, len(mixed)), body)
        return mixed

    def _all_of(self, bodies: Sequence[Callable[[], object]]) -> None:
        for body in bodies:
            body()

    def _parent(self, body: Callable[[], object]) -> None:
        with self.gate:
            child = threading.Thread(target=body)
            child.start()
            child.join()


def take_turns(bodies: Sequence[Callable[[], object]]) -> None:
    """Run each body in a thread of its own, one after the other; all threads are there before the first one runs."""
    turns = [threading.Event() for _ in bodies]
    done = [threading.Event() for _ in bodies]

    def party(number: int) -> None:
        turns[number].wait()
        try:
            bodies[number]()
        finally:
            done[number].set()

    threads = [threading.Thread(target=party, args=(number,)) for number in range(len(bodies))]
    for thread in threads:
        thread.start()
    for turn, end in zip(turns, done, strict=True):
        turn.set()
        end.wait()
    for thread in threads:
        thread.join()
