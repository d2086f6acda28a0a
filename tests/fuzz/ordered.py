"""Random programs that end by themselves, by construction: every wait is for something that is done earlier.

A program is made as one sequence of steps, each given to one *lane* (a thread, a task of a pool, a timer). A step
may wait only for what earlier steps of the sequence do, and what they do is never undone: an event stays set, a
counter only grows, each queue, semaphore and signal lock has one consumer. So by induction over the sequence every
step ends, however the lanes are interleaved (a Kahn network). Locks are taken on top of that, in the order of their
rank, and while one is held nothing is waited for but locks of higher rank and what a timer does that takes none.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from concurrent.futures import (
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    Step = Callable[[], object]

PAUSES = (0.0, 0.0, 0.0, 0.0002, 0.001, 0.003)


class Lane:
    """One party: its steps in order, and how it is waited for once it has no more of them."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.steps: list[Step] = []
        self.begun = self.closed = False
        self.started = threading.Event()
        self.thread: Any = None
        self.future: Any = None

    def start(self) -> None:
        """Start the lane's thread."""
        self.thread.start()
        self.started.set()

    def end(self) -> None:
        """Wait for the lane's end; another one starts it."""
        self.started.wait()
        if self.future is not None:
            self.future.result()
        else:
            self.thread.join()

    def run(self) -> int:
        """Take all the steps."""
        for step in self.steps:
            step()
        return len(self.steps)


class Pool:
    """An executor with a worker for each of its tasks that may wait."""

    def __init__(self, size: int) -> None:
        self.executor = ThreadPoolExecutor(size)
        self.free = size


class Counter:
    """A number that only grows, under a condition."""

    def __init__(self, lock: Any) -> None:
        self.condition = threading.Condition(lock)
        self.value = 0

    def add(self) -> None:
        """Count one, and say so."""
        with self.condition:
            self.value += 1
            self.condition.notify_all()

    def reach(self, value: int) -> None:
        """Wait until ``value`` is reached."""
        with self.condition:
            self.condition.wait_for(lambda: self.value >= value)


class Ordered:
    """Makes one program; ``run`` runs it to its end."""

    def __init__(self, rng: random.Random, *, main: bool) -> None:
        self.rng = rng
        self.main = Lane("main")
        self.lanes = [self.main]
        self.main.begun = True
        self.locks: list[Any] = [self._lock() for _ in range(rng.randint(1, 5))]
        self.pools: list[Pool] = []
        self.handled: list[threading.Event] = []
        self.tokens: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.owed: list[Step] = []
        self.signals = main and rng.random() < 0.15
        self.makers: list[Callable[[], None]] = [
            self._event, self._event, self._counter, self._queue, self._simple_queue, self._semaphore, self._barrier,
            self._by_hand, self._critical, self._critical, self._timed, self._timer, self._signal_lock, self._join,
            self._task, self._thread, self._leaves, self._gather,
        ]  # fmt: skip
        for _ in range(rng.randint(1, 4)):
            self._thread()
        for _ in range(rng.randint(4, 30)):
            self._pay(0.4)
            rng.choice(self.makers)()
        self._pay(1.0)
        self._finish()

    # -- the parts ---------------------------------------------------------------------------------------------------

    def _lock(self) -> Any:
        kind = self.rng.randrange(4)
        if kind == 0:
            return threading.RLock()
        if kind == 1:
            return threading.Semaphore(self.rng.randint(1, 2))
        return threading.Lock()

    def _open(self) -> list[Lane]:
        return [lane for lane in self.lanes if lane.begun and not lane.closed]

    def _any(self, *without: Lane) -> Lane:
        lanes = [lane for lane in self._open() if lane not in without]
        return self.rng.choice(lanes or [self.main])

    def _do(self, lane: Lane, step: Step) -> None:
        """Give a step to a lane; sometimes after a pause, sometimes under locks if it cannot wait."""
        if self.rng.random() < 0.15:
            lane.steps.append(partial(time.sleep, self.rng.choice(PAUSES)))
        lane.steps.append(step)

    def _owe(self, step: Step, *lanes: Lane) -> None:
        """Have some lane wait, now or later, for what has been done already."""
        chosen = lanes[0] if lanes else None

        def pay() -> None:
            lane = self._any() if chosen is None or chosen.closed else chosen
            self._do(lane, step)

        self.owed.append(pay)

    def _pay(self, share: float) -> None:
        later = []
        for pay in self.owed:
            if self.rng.random() < share:
                pay()
            else:
                later.append(pay)
        self.owed[:] = later

    # -- one maker for each kind of step -----------------------------------------------------------------------------

    def _event(self) -> None:
        event = threading.Event()
        how = self.rng.randrange(5)
        if how == 0 and self.signals:
            self.handled.append(event)
            for _ in range(self.rng.randint(1, 2)):
                lane = self._any(self.main)  # the handler must not find main inside the event
                if lane is not self.main:
                    self._do(lane, event.wait)
            return
        if how == 1:
            self._do(self._any(), threading.Timer(self.rng.choice(PAUSES), event.set).start)
        elif how == 2:
            self._do(self._any(), self._under_locks(event.set))
        else:
            self._do(self._any(), event.set)
        for _ in range(self.rng.randint(1, 3)):
            self._owe(event.wait)

    def _counter(self) -> None:
        counter = Counter(self.rng.choice([None, threading.Lock(), threading.RLock()]))
        many = self.rng.randint(1, 4)
        for _ in range(many):
            self._do(self._any(), counter.add)
        for _ in range(self.rng.randint(1, 3)):
            self._owe(partial(counter.reach, self.rng.randint(1, many)))

    def _queue(self) -> None:
        """One producer, one consumer, perhaps a bound: a put waits for an earlier get, a get for an earlier put."""
        bound = self.rng.choice([0, 1, 2])
        make = self.rng.choice([queue.Queue, queue.LifoQueue, queue.PriorityQueue])
        channel: Any = make(bound)
        producer = self._any()
        consumer = self._any(producer)
        inside = 0
        for number in range(self.rng.randint(1, 6)):
            if producer.closed or consumer.closed or (bound and producer is consumer):
                break
            self._do(producer, partial(channel.put, number))
            inside += 1
            if (bound and inside == bound) or self.rng.random() < 0.5:
                self._do(consumer, partial(_take, channel))
                inside -= 1
        for _ in range(inside):
            self._do(consumer if not consumer.closed else self._any(), partial(_take, channel))
        if self.rng.random() < 0.5:
            self._owe(channel.join)

    def _simple_queue(self) -> None:
        channel: queue.SimpleQueue[int] = queue.SimpleQueue()
        consumer = self._any()
        for number in range(self.rng.randint(1, 4)):
            self._do(self._any(), partial(channel.put, number))
            self._do(consumer, channel.get)

    def _semaphore(self) -> None:
        """A semaphore as a signal: released by some, acquired by one."""
        semaphore: Any = self.rng.choice([threading.Semaphore, threading.BoundedSemaphore])(3)
        for _ in range(3):
            semaphore.acquire()
        consumer = self._any()
        for _ in range(self.rng.randint(1, 3)):
            self._do(self._any(), semaphore.release)
            self._do(consumer, semaphore.acquire)

    def _barrier(self) -> None:
        lanes = self._open()
        parties = self.rng.sample(lanes, self.rng.randint(1, len(lanes)))
        barrier = threading.Barrier(len(parties))
        for _ in range(self.rng.randint(1, 2)):
            for lane in parties:
                lane.steps.append(barrier.wait)

    def _by_hand(self) -> None:
        """A future that no pool knows of."""
        future: Future[int] = Future()
        if self.rng.random() < 0.3:
            future.set_running_or_notify_cancel()
        done = partial(future.set_result, 1)
        if self.rng.random() < 0.3:
            done = partial(future.set_exception, KeyError("by hand"))
        event = threading.Event()
        future.add_done_callback(lambda _: event.set())
        self._do(self._any(), done)
        self._owe(partial(future.exception))
        self._owe(event.wait)

    def _critical(self) -> None:
        """Locks in their order, and inside nothing that waits but for a timer."""
        inside: list[Step] = [partial(time.sleep, self.rng.choice(PAUSES))]
        if self.rng.random() < 0.2:
            inside.append(partial(_wait_for_timer, self.rng.choice(PAUSES)))
        for _ in range(self.rng.randint(1, 3)):
            self._do(self._any(), self._under_locks(*inside))

    def _under_locks(self, *inside: Step) -> Step:
        ranks = sorted(self.rng.sample(range(len(self.locks)), self.rng.randint(1, len(self.locks))))
        chosen = [(self.locks[rank], self.rng.random() < 0.7) for rank in ranks]
        again = self.rng.random() < 0.3

        def step() -> None:
            with ExitStack() as stack:
                for lock, by_with in chosen:
                    _take_lock(stack, lock, by_with=by_with)
                    if again and type(lock).__name__ == "RLock":
                        _take_lock(stack, lock, by_with=by_with)
                for act in inside:
                    act()

        return step

    def _timed(self) -> None:
        """Waits that end by themselves."""
        seconds = self.rng.choice((0.0, 0.0005, 0.002))
        lock = self.rng.choice(self.locks)

        def try_lock() -> None:
            if lock.acquire(timeout=seconds):
                lock.release()

        def try_queue() -> None:
            try:
                queue.Queue().get(timeout=seconds)
            except queue.Empty:
                pass

        def try_condition() -> None:
            with condition:
                condition.wait(seconds)

        condition = threading.Condition()
        steps: list[Step] = [try_lock, try_queue, try_condition, partial(threading.Event().wait, seconds)]
        self._do(self._any(), self.rng.choice(steps))

    def _timer(self) -> None:
        """A timer that runs a lane of its own, or one that is called off."""
        if self.rng.random() < 0.3:
            idle = threading.Timer(60, print)
            lane = self._any()
            for step in (idle.start, idle.cancel, idle.join):
                self._do(lane, step)
            return
        lane = Lane("timer")
        lane.thread = threading.Timer(self.rng.choice(PAUSES), lane.run)
        self._begin(lane)

    def _thread(self) -> None:
        lane = Lane("thread")
        lane.thread = threading.Thread(target=lane.run, daemon=self.rng.random() < 0.3)
        self._begin(lane)

    def _begin(self, lane: Lane) -> None:
        self._do(self._any(), lane.start)
        lane.begun = True
        self.lanes.append(lane)

    def _task(self) -> None:
        """A task of a pool that has a worker for each of its tasks, so that they may wait for each other."""
        pools = [pool for pool in self.pools if pool.free]
        if not pools:
            pools = [Pool(self.rng.randint(1, 3))]
            self.pools += pools
        pool = self.rng.choice(pools)
        pool.free -= 1
        lane = Lane("task")

        def submit() -> None:
            lane.future = pool.executor.submit(lane.run)
            lane.started.set()

        self._do(self._any(), submit)
        lane.begun = True
        self.lanes.append(lane)

    def _leaves(self) -> None:
        """Tasks that wait for nothing but locks, however few workers there are."""
        pool = ThreadPoolExecutor(self.rng.randint(1, 3))
        steps = [
            self._under_locks(partial(time.sleep, self.rng.choice(PAUSES)))
            for _ in range(self.rng.randint(1, 5))
        ]
        how = self.rng.randrange(5)

        def run() -> None:
            futures = [pool.submit(step) for step in steps]
            if how == 0:
                list(pool.map(time.sleep, PAUSES))
            elif how == 1:
                wait(futures, return_when=FIRST_COMPLETED)
            elif how == 2:
                for future in as_completed(futures):
                    future.result()
            elif how == 3:
                wait(futures)
            for future in futures:
                future.result()
            if how != 4:
                pool.shutdown()  # else it stays, idle, until it is dropped

        self._do(self._any(), run)

    def _gather(self) -> None:
        """Wait for several lanes' futures at once, after their last step."""
        tasks = [lane for lane in self._open() if lane.kind == "task" and self.rng.random() < 0.5]
        for lane in tasks:
            lane.closed = True
        how = self.rng.randrange(3)

        def gather() -> None:
            for lane in tasks:
                lane.started.wait()
            futures = [lane.future for lane in tasks]
            if how == 0:
                wait(futures, return_when=FIRST_EXCEPTION)
            elif how == 1:
                list(as_completed(futures))
            else:
                wait(futures)

        if tasks:
            for _ in range(self.rng.randint(1, 2)):
                self._do(self._any(), gather)

    def _join(self) -> None:
        """Wait for the end of a lane, after its last step."""
        lanes = [lane for lane in self._open() if lane is not self.main]
        if len(lanes) < 2:
            return
        lane = self.rng.choice(lanes)
        lane.closed = True
        for _ in range(self.rng.randint(1, 2)):
            self._do(self._any(), lane.end)

    def _signal_lock(self) -> None:
        """A plain lock as a signal: taken here, released by one lane, taken by another."""
        lock = threading.Lock()
        lock.acquire()
        self._do(self._any(), lock.release)
        self._do(self._any(), lock.acquire)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        for lane in self.lanes:
            lane.closed = True
        for lane in self.rng.sample(self.lanes, len(self.lanes)):
            if lane is not self.main:
                self.main.steps.append(lane.end)
        if self.signals:
            self.main.steps.append(self.tokens.get)
        for pool in self.pools:
            if self.rng.random() < 0.7:
                self.main.steps.append(pool.executor.shutdown)

    def run(self) -> None:
        """Run the program in the calling thread and those that it starts."""
        if not self.signals:
            self.main.run()
            return

        begun = False

        def handler(*_: object) -> None:
            nonlocal begun
            if begun:
                return
            begun = True
            for event in self.handled:
                event.set()
            self.tokens.put(1)

        before = signal.signal(signal.SIGALRM, handler)
        # Again and again: a signal that comes between the interpreter's look for signals and the system call in which
        # main sleeps does not wake it.
        signal.setitimer(signal.ITIMER_REAL, self.rng.choice((0.001, 0.004, 0.01)), 0.02)
        try:
            self.main.run()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _take(channel: Any) -> None:
    channel.get()
    channel.task_done()


def _wait_for_timer(seconds: float) -> None:
    event = threading.Event()
    threading.Timer(seconds, event.set).start()
    event.wait()


def _take_lock(stack: ExitStack, lock: Any, *, by_with: bool) -> None:
    if by_with:
        stack.enter_context(lock)
    else:
        lock.acquire()
        stack.callback(lock.release)
