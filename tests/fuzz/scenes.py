"""Small programs that end by themselves, each about one way to use the primitives that has no fixed order of steps.

Each is a function of a random generator that makes what it needs, runs in the calling thread and the threads that
it starts, and returns when these have ended (or are daemons and idle). ``SCENES`` lists them.
"""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing.pool
import queue
import threading
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed, wait
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

SHORT = (0.0, 0.0, 0.0002, 0.001, 0.002)


def start(*bodies: Callable[[], object], daemon: bool = False) -> list[threading.Thread]:
    """Start a thread for each body."""
    threads = [threading.Thread(target=body, daemon=daemon) for body in bodies]
    for thread in threads:
        thread.start()
    return threads


def join(threads: Iterable[threading.Thread]) -> None:
    """Wait for the end of all threads."""
    for thread in threads:
        thread.join()


def many_to_many(rng: random.Random) -> None:
    """Producers and consumers that share a bounded queue; the consumers end by sentinels, and it is joined."""
    channel: queue.Queue[int | None] = queue.Queue(rng.choice((0, 1, 3)))
    each, pause = rng.randint(1, 10), rng.choice(SHORT)

    def produce() -> None:
        for number in range(each):
            channel.put(number)

    def consume() -> None:
        while channel.get() is not None:
            time.sleep(pause)
            channel.task_done()
        channel.task_done()

    consumers = start(*[consume] * rng.randint(1, 3), daemon=rng.random() < 0.5)
    join(start(*[produce] * rng.randint(1, 3)))
    channel.join()
    for _ in consumers:
        channel.put(None)
    join(consumers)


def idle_daemons(rng: random.Random) -> None:
    """Daemon consumers that serve a queue for ever; what they leave behind is idle for the rest of the process."""
    channel: Any = rng.choice([queue.Queue, queue.SimpleQueue, queue.LifoQueue])()
    answers: queue.SimpleQueue[int] = queue.SimpleQueue()

    def serve() -> None:
        while True:
            number = channel.get()
            if number is None:
                return
            answers.put(number)

    servers = start(*[serve] * rng.randint(1, 2), daemon=True)
    many = rng.randint(1, 6)
    for number in range(many):
        channel.put(number)
    for _ in range(many):
        answers.get()
    if rng.random() < 0.9:  # some stay
        for _ in servers:
            channel.put(None)


def bounded_buffer(rng: random.Random) -> None:
    """The textbook's monitor: one lock, two conditions."""
    lock: Any = rng.choice([threading.Lock, threading.RLock])()
    not_full, not_empty = threading.Condition(lock), threading.Condition(lock)
    items: list[int] = []
    room, many = rng.randint(1, 2), rng.randint(1, 8)

    def put() -> None:
        for number in range(many):
            with not_full:
                while len(items) >= room:
                    not_full.wait()
                items.append(number)
                not_empty.notify()

    def get() -> None:
        for _ in range(many):
            with not_empty:
                not_empty.wait_for(lambda: items)
                items.pop()
                not_full.notify()

    pairs = rng.randint(1, 2)
    join(start(*[put, get] * pairs))


def ping_pong(rng: random.Random) -> None:
    """Two threads that wake each other by events, which are cleared each time."""
    ping, pong = threading.Event(), threading.Event()
    rounds = rng.randint(1, 8)

    def first() -> None:
        for _ in range(rounds):
            ping.set()
            pong.wait()
            pong.clear()

    def second() -> None:
        for _ in range(rounds):
            ping.wait()
            ping.clear()
            pong.set()

    join(start(first, second))


def permits(rng: random.Random) -> None:
    """A semaphore that limits; all of its permits are taken by ``with``, or all of them by bare calls."""
    limit = rng.choice([threading.Semaphore, threading.BoundedSemaphore])(rng.randint(1, 3))
    by_with, pause = rng.random() < 0.7, rng.choice(SHORT)

    def work() -> None:
        for _ in range(3):
            if by_with:
                with limit:
                    time.sleep(pause)
            else:
                limit.acquire()
                time.sleep(pause)
                limit.release()

    join(start(*[work] * rng.randint(2, 5)))


def room_and_items(rng: random.Random) -> None:
    """Dijkstra's producers and consumers: semaphores as signals, released by the other side."""
    room, items = threading.Semaphore(rng.randint(1, 2)), threading.Semaphore(0)
    many, pairs = rng.randint(1, 6), rng.randint(1, 3)

    def produce() -> None:
        for _ in range(many):
            room.acquire()
            items.release()

    def consume() -> None:
        for _ in range(many):
            items.acquire()
            room.release()

    join(start(*[produce, consume] * pairs))


def broken_barrier(rng: random.Random) -> None:
    """A barrier that is one party short; somebody breaks it, or resets it."""
    parties = rng.randint(2, 4)
    barrier = threading.Barrier(parties, timeout=0.002 if rng.random() < 0.2 else None)
    end = rng.choice([barrier.abort, barrier.reset])

    def meet() -> None:
        try:
            barrier.wait()
        except threading.BrokenBarrierError:
            pass

    threads = start(*[meet] * (parties - 1))
    while barrier.n_waiting < parties - 1 and not barrier.broken:
        time.sleep(0.0002)
    end()
    join(threads)


def rounds_with_action(rng: random.Random) -> None:
    """A barrier with an action, several rounds."""
    parties, rounds = rng.randint(2, 4), rng.randint(1, 4)
    scores: list[int] = []
    barrier = threading.Barrier(parties, action=lambda: scores.append(1))

    def meet() -> None:
        for _ in range(rounds):
            barrier.wait()

    join(start(*[meet] * parties))


def nested_pool(rng: random.Random) -> None:
    """Tasks that wait for tasks of their own pool, which has one worker more than ever wait at once."""
    outers = rng.randint(1, 3)
    pool = ThreadPoolExecutor(outers + 1)
    pause = rng.choice(SHORT)

    def outer() -> None:
        inner = [pool.submit(time.sleep, pause) for _ in range(2)]
        if pause:
            wait(inner)
        for future in inner:
            future.result()

    futures = [pool.submit(outer) for _ in range(outers)]
    for future in as_completed(futures):
        future.result()
    pool.shutdown()


def two_pools(rng: random.Random) -> None:
    """Tasks that wait for tasks of a pool behind theirs: full both, but without a circle."""
    front, back = ThreadPoolExecutor(rng.randint(1, 2)), ThreadPoolExecutor(rng.randint(1, 2))
    pause = rng.choice(SHORT)

    def task() -> None:
        back.submit(time.sleep, pause).result()

    futures = [front.submit(task) for _ in range(rng.randint(1, 6))]
    if rng.random() < 0.5:
        wait(futures)
    list(front.map(lambda _: back.submit(int).result(), range(2)))
    front.shutdown()
    back.shutdown()


def cancelled(rng: random.Random) -> None:
    """Futures that are cancelled while others wait for them; the pool is only held up for a moment."""
    pool = ThreadPoolExecutor(1)
    go = threading.Event()
    first = pool.submit(go.wait)
    later = [pool.submit(int) for _ in range(rng.randint(1, 4))]

    def hope(future: Future[int]) -> None:
        try:
            future.result()
        except CancelledError:
            pass

    threads = start(*[lambda future=future: hope(future) for future in later])
    for future in later:
        if rng.random() < 0.5:
            future.cancel()
    go.set()
    first.result()
    pool.shutdown(wait=rng.random() < 0.7, cancel_futures=rng.random() < 0.5)
    join(threads)


def dropped_pools(rng: random.Random) -> None:
    """Pools that nobody shuts down: their idle workers end when they are collected."""
    for _ in range(rng.randint(1, 3)):
        ThreadPoolExecutor(rng.randint(1, 3)).submit(time.sleep, rng.choice(SHORT)).result()


def _pass_on(other: Future[int], future: Future[int]) -> None:
    other.set_result(future.result() + 1)


def callbacks(rng: random.Random) -> None:
    """Futures that complete each other from thread to thread."""
    pool = ThreadPoolExecutor(rng.randint(1, 3))
    chain: list[Future[int]] = [Future() for _ in range(rng.randint(1, 5))]
    for one, other in pairwise(chain):
        one.add_done_callback(partial(_pass_on, other))
    pool.submit(lambda: chain[0].set_result(0))
    assert chain[-1].result() == len(chain) - 1
    pool.shutdown()


def timers(rng: random.Random) -> None:
    """Waits of all kinds that nothing but a timer ends; everybody else is asleep meanwhile."""
    event, condition, channel = threading.Event(), threading.Condition(), queue.Queue[int]()
    lock, semaphore, done = threading.Lock(), threading.Semaphore(0), Future[int]()
    lock.acquire()
    notified: list[int] = []

    def notify() -> None:
        with condition:
            notified.append(1)
            condition.notify()

    def await_condition() -> None:
        with condition:
            condition.wait_for(lambda: notified)

    pairs: list[tuple[Callable[[], object], Callable[[], object]]] = [
        (event.set, event.wait),
        (notify, await_condition),
        (lambda: channel.put(1), channel.get),
        (lock.release, lock.acquire),
        (semaphore.release, semaphore.acquire),
        (lambda: done.set_result(1), done.result),
    ]
    chosen = rng.sample(pairs, rng.randint(1, len(pairs)))
    for end, _ in chosen:
        threading.Timer(rng.choice((0.0, 0.001, 0.005)), end).start()
    join(start(*(hope for _, hope in chosen)))


def generations(rng: random.Random) -> None:
    """Threads that start threads and end: idents are used again at once, and joins race with ends."""
    count = threading.Semaphore(0)

    def body(depth: int) -> None:
        if depth:
            children = start(*[lambda: body(depth - 1)] * rng.randint(1, 2))
            if depth % 2:
                join(children)
        count.release()

    join(start(lambda: body(rng.randint(1, 4))))
    count.acquire()


def endings(rng: random.Random) -> None:
    """Threads whose local storage still does things while it is cleared away."""
    local, lock, event = threading.local(), threading.Lock(), threading.Event()

    class Last:
        def __del__(self) -> None:
            with lock:
                time.sleep(pause)
            event.set()

    def body() -> None:
        local.last = Last()

    pause = rng.choice(SHORT)
    threads = start(body)
    event.wait()
    with lock:
        join(threads)


def readers_writers(rng: random.Random) -> None:
    """A lock for many readers or one writer, made of a condition."""
    condition = threading.Condition()
    readers: list[int] = []

    def read() -> None:
        with condition:
            readers.append(1)
        time.sleep(pause)
        with condition:
            readers.pop()
            if not readers:
                condition.notify_all()

    def write() -> None:
        with condition:
            while readers:
                condition.wait()
            time.sleep(pause)

    pause = rng.choice(SHORT)
    join(start(*[read, write] * rng.randint(1, 3)))


def logged(rng: random.Random) -> None:
    """A queue listener that stops."""
    channel: queue.Queue[Any] = queue.Queue(-1)
    listener = logging.handlers.QueueListener(channel, logging.NullHandler())
    listener.start()
    handler = logging.handlers.QueueHandler(channel)
    record = logging.LogRecord("fuzz", 20, "", 0, "text", None, None)
    join(start(*[lambda: handler.handle(record)] * rng.randint(1, 3)))
    listener.stop()


def pool_of_threads(rng: random.Random) -> None:
    """``multiprocessing``'s pool of threads: four helpers that are idle most of the time."""
    with multiprocessing.pool.ThreadPool(rng.randint(1, 3)) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
        assert pool.apply_async(abs, (-3,)).get() == 3


def shut_down_queue(rng: random.Random) -> None:
    """Getters and putters that a queue's shutdown sends home (from 3.13 on; a sentinel each before)."""
    if not hasattr(queue, "ShutDown"):
        idle_daemons(rng)
        return
    channel: Any = queue.Queue(1)
    shut_down: type[Exception] = queue.ShutDown

    def work(act: Callable[[], object]) -> None:
        try:
            while True:
                act()
        except shut_down:
            pass

    getting = rng.random() < 0.5
    many = rng.randint(1, 3)
    threads = start(*[lambda: work(channel.get if getting else lambda: channel.put(1))] * many)
    time.sleep(rng.choice(SHORT))
    channel.shutdown(immediate=rng.random() < 0.5)
    join(threads)


def contention(rng: random.Random) -> None:
    """Many threads on few locks, by all ways of taking them."""
    locks: list[Any] = [rng.choice([threading.Lock, threading.RLock])() for _ in range(rng.randint(1, 3))]

    def body(seed: int) -> None:
        for turn in range(10):
            first = locks[seed % len(locks)]
            if turn % 3 == 0:
                with first:
                    pass
            elif turn % 3 == 1:
                first.acquire()
                first.release()
            elif first.acquire(timeout=0.001):
                first.release()

    join(start(*[lambda seed=seed: body(seed) for seed in range(rng.randint(2, 6))]))


SCENES: tuple[Callable[[random.Random], None], ...] = (
    many_to_many,
    idle_daemons,
    bounded_buffer,
    ping_pong,
    permits,
    room_and_items,
    broken_barrier,
    rounds_with_action,
    nested_pool,
    two_pools,
    cancelled,
    dropped_pools,
    callbacks,
    timers,
    generations,
    endings,
    readers_writers,
    logged,
    pool_of_threads,
    shut_down_queue,
    contention,
)
