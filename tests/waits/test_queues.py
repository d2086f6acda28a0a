"""``queue.Queue`` and its kin: ``get``, ``put`` on a full one and ``join`` could be ended by anybody; ``SimpleQueue.get`` too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.waits.conftest import Outcome, Watched

OPERATIONS = {
    "get": ("jobs = queue.{kind}()", "jobs.get()", "jobs.put(1)"),
    "put": ("jobs = queue.{kind}(1); jobs.put(1)", "jobs.put(2)", "jobs.get()"),
    "join": ("jobs = queue.{kind}(); jobs.put(1); jobs.get()", "jobs.join()", "jobs.task_done()"),
}
KINDS = pytest.mark.parametrize("kind", ["Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"])


def operations(kind: str) -> list[str]:
    """What can be waited for in a queue of that kind."""
    return ["get"] if kind == "SimpleQueue" else list(OPERATIONS)


def parts(kind: str, operation: str) -> tuple[str, str, str]:
    """The statements that make a queue, wait for it, and end the wait."""
    make, wait, end = OPERATIONS[operation]
    return make.format(kind=kind), wait, end


@KINDS
def test_alone(watched: Watched, kind: str) -> None:
    """The last thread awake waits for a queue: found at once, at the line that called the queue."""
    program = ["from scene import *"]
    for operation in operations(kind):
        make, wait, _ = parts(kind, operation)
        program += [make, "def body():", f"    {wait}  # {operation}", "attempt(body)"]
    outcome = watched("\n".join(program))
    assert [found[:2] for found in outcome.deadlocks] == [("asleep", "MainThread")] * len(operations(kind))
    for operation, found in zip(operations(kind), outcome.deadlocks, strict=True):
        resource, line = found.waits["MainThread"]
        assert resource.startswith("SimpleQueue" if kind == "SimpleQueue" else "Queue 'jobs'")
        assert line == operation
    assert outcome.said == sorted(f"MainThread: DeadlockError at {name}" for name in operations(kind))


@KINDS
def test_not_while_somebody_is_awake(watched: Watched, kind: str) -> None:
    """All seven ways to be awake end the wait, without a word."""
    program = ["from scene import *"]
    for operation in operations(kind):
        make, wait, end = parts(kind, operation)
        program += [
            "def make():",
            f"    {make}",
            f"    return lambda: {wait}, lambda: {end}",
            "rescues(make)",
        ]
    outcome = watched("\n".join(program))
    assert outcome.findings == []
    assert outcome.said == ["rescued"] * len(operations(kind))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_made_before_install(watched: Watched, operation: str) -> None:
    """A queue that exists already is watched as well: the wait is found."""
    make, wait, _ = parts("Queue", operation)
    outcome = watched(
        f"""
        import queue
        {make}
        from scene import *
        def body():
            {wait}  # the wait
        attempt(body)
        """
    )
    (found,) = outcome.deadlocks
    assert found[:2] == ("asleep", "MainThread")
    assert found.waits["MainThread"][0].startswith("Queue")
    assert found.waits["MainThread"][1] == "the wait"


def test_a_simple_queue_made_before_install(watched: Watched) -> None:
    """A C queue from before blocks inside C: who waits there counts as awake. Nothing is said, and it works."""
    outcome = watched(
        """
        import queue
        early = queue.SimpleQueue()
        from scene import *
        thread = go("getter", early.get)
        ready = threading.Event()
        other = go("waiter", ready.wait)
        waiting(other, "Event")
        time.sleep(0.1)
        early.put(1)
        ready.set()
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["getter: went on", "waiter: went on"]


def test_join_after_the_worker_died(watched: Watched) -> None:
    """``join()`` for a task whose worker died of an error: found when the last runnable thread ends."""
    outcome = watched(
        """
        from scene import *
        jobs = queue.Queue()
        def worker():
            jobs.get()
            waiting(threading.main_thread(), "Queue")
            raise KeyError("bad job")
        go("worker", worker)
        def main():
            jobs.put(1)
            jobs.join()  # joins
        attempt(main)
        """
    )
    assert outcome.deadlocks == [("asleep", "MainThread", {"MainThread": ("Queue 'jobs'", "joins")})]
    assert outcome.said == ["MainThread: DeadlockError at joins", "worker: KeyError: 'bad job'"]


def test_both_full(watched: Watched) -> None:
    """Two threads that both put into the other's full queue: both asleep; the one that closed it gets the error, the other goes on."""
    outcome = watched(
        """
        from scene import *
        requests, answers = queue.Queue(1), queue.Queue(1)
        requests.put(0), answers.put(0)
        def server():
            answers.put(1)  # server puts
        def client():
            try:
                requests.put(1)  # client puts
            finally:
                answers.get()
        one = go("server", server)
        waiting(one, "Queue")
        go("client", client).join()
        """
    )
    (found,) = outcome.deadlocks
    assert found[:2] == ("asleep", "client")
    assert found.waits["server"] == ("Queue 'answers'", "server puts")
    assert found.waits["client"] == ("Queue 'requests'", "client puts")
    assert outcome.said == ["client: DeadlockError at client puts", "server: went on"]


def test_idle_daemon_consumers(watched: Watched) -> None:
    """Daemon consumers that wait for work are no deadlock while the main thread is awake, nor when it ends."""
    outcome = watched(
        """
        from scene import *
        jobs, done, simple = queue.Queue(), queue.Queue(), queue.SimpleQueue()
        def consume(source):
            while True:
                done.put(source.get() * 2)
        for n in range(3):
            go(f"c{n}", consume, jobs, daemon=True)
            go(f"s{n}", consume, simple, daemon=True)
        for n in range(100):
            jobs.put(n)
            simple.put(n)
        say(sum(done.get() for _ in range(200)))
        time.sleep(0.05)
        say("last line")
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["19800", "last line"]


def test_a_pipeline(watched: Watched) -> None:
    """A pipeline of bounded queues, where someone waits at nearly every step, is never found asleep, and loses nothing."""
    outcome = watched(
        """
        from scene import *
        first, second, third = queue.Queue(1), queue.SimpleQueue(), queue.Queue(2)
        def stage(source, target):
            while (item := source.get()) is not None:
                target.put(item + 1)
            target.put(None)
        for n, (source, target) in enumerate([(first, second), (second, third)]):
            go(f"stage{n}", stage, source, target)
        def feed():
            for n in range(3000):
                first.put(n)
            first.put(None)
        go("feed", feed)
        total = 0
        while (item := third.get()) is not None:
            total += item
        say(total)
        """
    )
    assert outcome.findings == []
    assert "4504500" in outcome.said


def test_simple_queue_contract(watched: Watched) -> None:
    """The watched SimpleQueue keeps the contract of the C one: class, time-outs, order, errors, interruption."""
    outcome = watched(
        """
        import _queue
        from scene import *
        jobs = queue.SimpleQueue()
        assert isinstance(jobs, _queue.SimpleQueue) and jobs.empty() and jobs.qsize() == 0
        for call in (lambda: jobs.get(False), jobs.get_nowait, lambda: jobs.get(timeout=0.01), lambda: jobs.get(True, 0)):
            try:
                call()
            except queue.Empty:
                continue
            raise AssertionError(call)
        try:
            jobs.get(timeout=-1)
        except ValueError:
            pass
        jobs.put(1), jobs.put_nowait(2), jobs.put(3, True, 5)
        assert [jobs.get(), jobs.get_nowait(), jobs.get(timeout=1)] == [1, 2, 3] and not jobs.qsize()
        class Sub(queue.SimpleQueue):
            pass
        sub = Sub()
        sub.put(1)
        assert sub.get() == 1

        def interrupt(*_):
            raise KeyError("signal")
        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            jobs.get()
        except KeyError:
            say("interrupted")
        jobs.put(4)
        assert jobs.get() == 4
        """
    )
    assert outcome.findings == []
    assert outcome.said == ["interrupted"]


def test_an_item_for_each_victim(watched: Watched) -> None:
    """The victim's place in the queue is gone with it: a later item goes to the one who still waits."""
    outcome = watched(
        """
        from scene import *
        jobs = queue.SimpleQueue()
        got = []
        def first():
            try:
                jobs.get()  # first
            except lockwatch.DeadlockError:
                jobs.put("from the victim")
                raise
        def second():
            got.append(jobs.get())  # second
        one = go("first", first)
        waiting(one, "SimpleQueue")
        two = threading.Thread(target=attempt, args=(second,), name="second")
        lockwatch.set_deadlock_weight(5, two)
        two.start()
        one.join()
        two.join()
        say(got)
        """
    )
    assert [one.victim for one in outcome.deadlocks] == ["first"]
    assert outcome.said == ["['from the victim']", "first: DeadlockError at first", "second: went on"]


def _users(outcome: Outcome) -> dict[str, list[str]]:
    (found,) = (one for one in outcome.findings if one["kind"] == "deadlock")
    return {party["name"]: party["waits_for"]["users"] for party in found["parties"]}


def test_the_producer_that_is_gone_is_named(watched: Watched) -> None:
    """Who waits for an item is told who has put items in so far, and that it has ended."""
    outcome = watched(
        """
        from scene import *
        items = queue.Queue()
        feed = threading.Thread(target=items.put, args=(1,), name="feed")
        feed.start()
        feed.join()
        items.get()
        attempt(items.get)
        """
    )
    assert _users(outcome) == {"MainThread": ["Thread 'feed' (gone)"]}
    assert "used by   Thread 'feed' (gone)" in outcome.stderr or not outcome.stderr


@pytest.mark.parametrize("call", ["put(1)", "join()"])
def test_consumers_are_named_to_who_waits_for_room_or_for_the_last_task(watched: Watched, call: str) -> None:
    """A full queue, and ``join()``: those who have taken items out are named; at most eight, the last ones."""
    outcome = watched(
        f"""
        from scene import *
        items = queue.Queue(1)
        for number in range(10):
            items.put(number)
            thread = threading.Thread(target=items.get, name=f"eat {{number}}")
            thread.start()
            thread.join()
        items.put(1)
        attempt(lambda: items.{call})
        """
    )
    assert _users(outcome) == {"MainThread": [f"Thread 'eat {number}' (gone)" for number in range(2, 10)]}


def test_the_users_of_a_queue_are_not_kept_alive(watched: Watched) -> None:
    """A queue remembers names, not threads."""
    outcome = watched(
        """
        from scene import *
        import gc, weakref
        items = queue.Queue()
        thread = threading.Thread(target=items.put, args=(1,))
        thread.start()
        thread.join()
        gone = weakref.ref(thread)
        del thread
        until(lambda: gc.collect() >= 0 and gone() is None)
        say("gone")
        """
    )
    assert outcome.said == ["gone"]
