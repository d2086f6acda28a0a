"""Small programs that hang for certain, by construction, in plain Python: each makes sure of its deadlock first.

Each is a function of a random generator and a *crew*; it gives the crew the bodies of its parties. A barrier (whose
parties all come) makes certain that locks are taken before the others are wanted, so the deadlock comes about in
every interleaving. ``HANGS`` lists them.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.fuzz.scenes import start

if TYPE_CHECKING:
    import random
    from collections.abc import Callable


class Crew:
    """The parties of one program: bodies to be run in threads of their own, and pools to be shut down."""

    def __init__(self) -> None:
        self.bodies: list[Callable[[], object]] = []
        self.pools: list[ThreadPoolExecutor] = []

    def add(self, *bodies: Callable[[], object]) -> None:
        """Add parties."""
        self.bodies += bodies

    def pool(self, size: int) -> ThreadPoolExecutor:
        """Make a pool that is shut down, without waiting, when the program is over."""
        pool = ThreadPoolExecutor(size)
        self.pools.append(pool)
        return pool


def take(lock: Any, *, by_with: bool, then: Callable[[], object]) -> None:
    """Take a lock, by ``with`` or by bare calls, and do something."""
    if by_with:
        with lock:
            then()
        return
    lock.acquire()
    try:
        then()
    finally:
        lock.release()


def make_lock(rng: random.Random) -> Any:
    """Make a lock, a re-entrant lock or a semaphore with one permit."""
    return rng.choice(
        [threading.Lock, threading.RLock, threading.Lock, threading.RLock, threading.Semaphore]
    )()


def reversed_order(rng: random.Random, crew: Crew) -> None:
    """A ring of locks; everybody has one before anybody wants the next."""
    count = rng.randint(2, 5)
    by_with = rng.random() < 0.7
    locks = [
        make_lock(rng) if by_with else rng.choice([threading.Lock, threading.RLock])() for _ in range(count)
    ]
    barrier = threading.Barrier(count)

    def party(index: int) -> None:
        def then() -> None:
            barrier.wait()
            take(locks[(index + 1) % count], by_with=by_with, then=int)

        take(locks[index], by_with=by_with, then=then)

    crew.add(*(partial(party, index) for index in range(count)))


def taken_twice(rng: random.Random, crew: Crew) -> None:
    """A plain lock taken again by its owner."""
    lock = threading.Lock()
    first, second = rng.random() < 0.7, rng.random() < 0.7
    crew.add(partial(take, lock, by_with=first, then=partial(take, lock, by_with=second, then=int)))


def never_set(rng: random.Random, crew: Crew) -> None:
    """An event that nobody sets."""
    crew.add(*[threading.Event().wait] * rng.randint(1, 3))


def never_notified(rng: random.Random, crew: Crew) -> None:
    """A condition that is notified once too few."""
    condition = threading.Condition(rng.choice([None, threading.Lock()]))
    waiters = rng.randint(1, 3)
    waiting: list[int] = []

    def hope() -> None:
        with condition:
            waiting.append(1)
            condition.notify_all()
            while len(waiting) < waiters:
                condition.wait()
            condition.wait()

    crew.add(*[hope] * waiters)


def put_too_few(rng: random.Random, crew: Crew) -> None:
    """A queue whose consumer wants more than comes."""
    channel: Any = rng.choice([queue.Queue, queue.LifoQueue, queue.PriorityQueue, queue.SimpleQueue])()
    many = rng.randint(0, 3)

    def consume() -> None:
        for _ in range(many + 1):
            channel.get()

    def produce() -> None:
        for number in range(many):
            channel.put(number)

    crew.add(consume, produce)


def full_queue(rng: random.Random, crew: Crew) -> None:
    """A bounded queue whose consumer has gone home."""
    channel: queue.Queue[int] = queue.Queue(rng.randint(1, 2))

    def produce() -> None:
        for number in range(5):
            channel.put(number)

    crew.add(produce, channel.get)


def task_not_done(rng: random.Random, crew: Crew) -> None:
    """A worker that dies before ``task_done``."""
    channel: queue.Queue[int] = queue.Queue()
    for number in range(rng.randint(1, 3)):
        channel.put(number)
    crew.add(channel.get, channel.join)


def permit_lost(rng: random.Random, crew: Crew) -> None:
    """A semaphore whose permits are not given back, or taken again by who has them all."""
    permits = rng.randint(1, 3)
    semaphore = rng.choice([threading.Semaphore, threading.BoundedSemaphore])(permits)
    if rng.random() < 0.5:
        crew.add(*[semaphore.acquire] * (permits + 1))
        return

    def again(depth: int) -> None:
        with semaphore:
            if depth:
                again(depth - 1)

    crew.add(partial(again, permits))


def one_short(rng: random.Random, crew: Crew) -> None:
    """A barrier with one party too few."""
    parties = rng.randint(2, 4)
    barrier = threading.Barrier(parties)
    crew.add(*[barrier.wait] * (parties - 1))


def joined_in_a_ring(rng: random.Random, crew: Crew) -> None:
    """Threads that join each other in a ring."""
    count = rng.randint(2, 4)
    threads: list[threading.Thread] = []
    ready = threading.Barrier(count)

    def party(index: int) -> None:
        threads.append(threading.current_thread())
        ready.wait()
        others = sorted(threads, key=id)
        place = others.index(threading.current_thread())
        others[(place + 1) % count].join()

    crew.add(*(partial(party, index) for index in range(count)))


def own_pool(rng: random.Random, crew: Crew) -> None:
    """Tasks that wait for tasks of their own, full pool."""
    size = rng.randint(1, 3)
    pool = crew.pool(size)
    full = threading.Barrier(size)
    how = rng.randrange(4)

    def outer() -> None:
        full.wait()
        if how == 0:
            pool.submit(int).result()
        elif how == 1:
            list(pool.map(int, [1, 2]))
        elif how == 2:
            wait([pool.submit(int) for _ in range(2)])
        else:
            list(as_completed([pool.submit(int) for _ in range(2)]))

    futures = [pool.submit(outer) for _ in range(size)]
    crew.add(*(future.result for future in futures))


def result_under_lock(rng: random.Random, crew: Crew) -> None:
    """A lock held while a task is waited for that wants it."""
    lock: Any = rng.choice([threading.Lock, threading.RLock])()
    pool = crew.pool(rng.randint(1, 3))
    how = rng.randrange(4)

    def hold() -> None:
        with lock:
            future = pool.submit(take, lock, by_with=True, then=int)
            if how == 0:
                future.result()
            elif how == 1:
                wait([future])
            elif how == 2:
                wait([future], return_when=FIRST_COMPLETED)
            else:
                list(as_completed([future]))

    crew.add(hold)


def never_completed(rng: random.Random, crew: Crew) -> None:
    """A future that nobody completes."""
    future: Future[int] = Future()
    if rng.random() < 0.5:
        future.set_running_or_notify_cancel()
    crew.add(*[future.result] * rng.randint(1, 2))


def died_holding(rng: random.Random, crew: Crew) -> None:
    """A lock whose owner ends without releasing it."""
    lock: Any = rng.choice([threading.Lock, threading.RLock])()

    def die() -> None:
        lock.acquire()

    def party() -> None:
        start(die)[0].join()
        take(lock, by_with=by_with, then=int)

    by_with = rng.random() < 0.5
    crew.add(party)


def join_under_lock(rng: random.Random, crew: Crew) -> None:
    """A thread, or a timer, joined by the owner of the lock that it wants."""
    lock: Any = rng.choice([threading.Lock, threading.RLock])()

    def party() -> None:
        with lock:
            if timer:
                thread: threading.Thread = threading.Timer(0.001, partial(caught, lock))
                thread.start()
            else:
                thread = start(partial(caught, lock))[0]
            thread.join()

    def caught(lock: Any) -> None:
        try:
            with lock:
                pass
        except RuntimeError as error:
            if type(error).__name__ != "DeadlockError":
                raise

    timer = rng.random() < 0.5
    crew.add(party)


def wait_under_lock(rng: random.Random, crew: Crew) -> None:
    """A lock held during a wait, and wanted by the one who would end it."""
    lock: Any = rng.choice([threading.Lock, threading.RLock])()
    channel: queue.Queue[int] = queue.Queue()
    event, inner = threading.Event(), threading.Condition()
    semaphore, flags, future = threading.Semaphore(0), list[int](), Future[int]()
    held = threading.Event()

    def inner_wait() -> None:
        with inner:
            inner.wait_for(lambda: flags)

    def inner_notify() -> None:
        with inner:
            flags.append(1)
            inner.notify()

    pairs: list[tuple[Callable[[], object], Callable[[], object]]] = [
        (event.wait, event.set),
        (channel.get, partial(channel.put, 1)),
        (inner_wait, inner_notify),
        (semaphore.acquire, semaphore.release),
        (future.result, partial(future.set_result, 1)),
    ]
    hope, end = rng.choice(pairs)

    def holder() -> None:
        with lock:
            held.set()
            hope()

    def ender() -> None:
        held.wait()
        with lock:
            end()

    crew.add(holder, ender)


def barrier_under_lock(rng: random.Random, crew: Crew) -> None:
    """A barrier inside the lock that all of its parties need first."""
    lock: Any = rng.choice([threading.Lock, threading.RLock])()
    parties = rng.randint(2, 4)
    barrier = threading.Barrier(parties)

    def party() -> None:
        with lock:
            barrier.wait()

    crew.add(*[party] * parties)


def behind_the_stuck(rng: random.Random, crew: Crew) -> None:
    """Others that wait, in turn, for those who are stuck: by joins, locks and futures."""
    lock, event = threading.RLock(), threading.Event()
    held = threading.Event()
    pool = crew.pool(1)

    def stuck() -> None:
        with lock:
            held.set()
            event.wait()

    def second() -> None:
        held.wait()
        future = pool.submit(take, lock, by_with=True, then=int)
        future.result()

    def third() -> None:
        held.wait()
        with lock:
            event.set()

    crew.add(stuck, *rng.sample([second, third], rng.randint(0, 2)))


def two_at_once(rng: random.Random, crew: Crew) -> None:
    """Two deadlocks beside each other."""
    for hang in rng.sample(HANGS[:-1], 2):
        hang(rng, crew)


HANGS: list[Callable[[random.Random, Crew], None]] = [
    reversed_order,
    taken_twice,
    never_set,
    never_notified,
    put_too_few,
    full_queue,
    task_not_done,
    permit_lost,
    one_short,
    joined_in_a_ring,
    own_pool,
    result_under_lock,
    never_completed,
    died_holding,
    join_under_lock,
    wait_under_lock,
    barrier_under_lock,
    behind_the_stuck,
    two_at_once,
]
