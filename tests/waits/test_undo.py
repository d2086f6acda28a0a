"""``uninstall()`` puts back every method that was replaced for waits, and what was made meanwhile goes on working."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import RunPython

SNAPSHOT = """
import importlib._bootstrap, queue, sys, threading

def classes():
    names = ("Condition", "Event", "Semaphore", "BoundedSemaphore", "Barrier", "Thread", "Timer", "_RLock")
    yield from ((threading, name) for name in names if hasattr(threading, name))
    yield from ((queue, name) for name in ("Queue", "LifoQueue", "PriorityQueue", "SimpleQueue", "_PySimpleQueue"))
    yield importlib._bootstrap, "_ModuleLock"
    base, pool = sys.modules.get("concurrent.futures._base"), sys.modules.get("concurrent.futures.thread")
    if base is not None:
        yield from ((base, name) for name in ("Future", "Executor"))
    if pool is not None:
        yield from ((pool, name) for name in ("ThreadPoolExecutor", "_WorkItem"))

def snapshot():
    found = {"SimpleQueue": queue.SimpleQueue, "finders": list(sys.meta_path)}
    for module, name in classes():
        for key, value in vars(getattr(module, name)).items():
            if not key.startswith("__abc") and key not in ("_abc_impl", "__dict__", "__weakref__"):
                found[module.__name__, name, key] = value
    for name in ("concurrent.futures._base", "concurrent.futures.thread"):
        if name in sys.modules:
            found |= {(name, key): value for key, value in vars(sys.modules[name]).items() if callable(value)}
    return found

def changed(before, after):
    return sorted(
        str(key) for key in before.keys() | after.keys()
        if before.get(key) is not after.get(key) and before.get(key) != after.get(key)
    )
"""


@pytest.mark.parametrize("early", [True, False], ids=["futures first", "install first"])
def test_everything_is_put_back(run_python: RunPython, early: bool) -> None:
    """All classes hold the very objects that they held before; twice over, also those of modules loaded since."""
    done = run_python(
        SNAPSHOT
        + f"""
EARLY = {early}
if EARLY:
    import concurrent.futures.thread
import lockwatch
import lockwatch.patch
before = snapshot()
for _ in range(2):
    lockwatch.install(cpu=False)
    import concurrent.futures.thread
    during = snapshot()
    expected = [
        ("threading", "Condition", "wait"), ("threading", "Thread", "join"), ("threading", "Semaphore", "__enter__"),
        ("importlib._bootstrap", "_ModuleLock", "acquire"), ("concurrent.futures.thread", "ThreadPoolExecutor", "submit"),
        ("concurrent.futures.thread", "_WorkItem", "run"),
    ]
    different = changed(before, during)
    assert all(str(key) in different for key in expected), different
    lockwatch.uninstall()
    after = snapshot()
    assert concurrent.futures.thread._WorkItem.run.__module__ == "concurrent.futures.thread"
    assert concurrent.futures.thread.ThreadPoolExecutor.submit.__module__ == "concurrent.futures.thread"
    if EARLY:
        assert not changed(before, after), changed(before, after)
    else:
        assert not [key for key in changed(before, after) if "concurrent" not in key], changed(before, after)
    EARLY, before = True, after
"""
    )
    assert done.returncode == 0, done.stderr


def test_what_was_made_goes_on(run_python: RunPython) -> None:
    """Things made under install work after uninstall, and waits that were under way are still ended."""
    done = run_python(
        """
        import queue, threading, time
        from concurrent.futures import ThreadPoolExecutor
        import lockwatch
        lockwatch.install(cpu=False)
        ready, changed, room = threading.Event(), threading.Condition(), threading.Semaphore(1)
        jobs, simple, pool, gate = queue.Queue(1), queue.SimpleQueue(), ThreadPoolExecutor(2), threading.Barrier(2)
        flag, got = [], []
        def on_condition():
            with changed:
                changed.wait_for(lambda: flag)
        def with_room():
            with room:
                got.append(1)
        room.__enter__()
        begun = threading.Event()
        running = pool.submit(lambda: (begun.set(), ready.wait(), 7))
        begun.wait()
        crew = [
            threading.Thread(target=target)
            for target in (ready.wait, on_condition, with_room, jobs.get, simple.get, gate.wait, running.result)
        ]
        for thread in crew:
            thread.start()
        joiner = threading.Thread(target=crew[0].join)
        joiner.start()
        time.sleep(0.2)
        lockwatch.uninstall()
        assert type(simple) is not queue.SimpleQueue and isinstance(simple, queue.SimpleQueue)
        time.sleep(0.1)
        ready.set(), jobs.put(1), simple.put(1), gate.wait(5)
        room.__exit__(None, None, None)
        with changed:
            flag.append(1)
            changed.notify_all()
        for thread in (*crew, joiner):
            thread.join(5)
            assert not thread.is_alive(), thread
        assert got == [1] and running.result()[2] == 7
        with room, changed:
            pass
        assert pool.submit(int, 5).result() == 5
        pool.shutdown()
        ready.clear()
        assert not ready.wait(0.01)
        assert not lockwatch.recorded_findings()
        """
    )
    assert done.returncode == 0, done.stderr


def test_a_patch_on_top_stays(run_python: RunPython) -> None:
    """What somebody else put over ours is not taken away; it goes on calling ours, which goes on working."""
    done = run_python(
        """
        import threading
        import lockwatch
        lockwatch.install(cpu=False)
        ours, calls = threading.Condition.wait, []
        def theirs(self, timeout=None):
            calls.append(1)
            return ours(self, timeout)
        threading.Condition.wait = theirs
        lockwatch.uninstall()
        assert threading.Condition.wait is theirs
        assert not threading.Event().wait(0.01)
        assert calls
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        """
    )
    assert done.returncode == 0, done.stderr


def test_instances_and_subclasses(run_python: RunPython) -> None:
    """A subclass with a wait, join or __enter__ of its own keeps it; what it calls by super() is watched."""
    done = run_python(
        """
        import queue, threading
        calls = []
        class Event(threading.Event):
            def wait(self, timeout=None):
                calls.append("wait")
                return super().wait(timeout)
        class Thread(threading.Thread):
            def join(self, timeout=None):
                calls.append("join")
                super().join(timeout)
        class Room(threading.Semaphore):
            def __enter__(self):
                calls.append("enter")
                return super().__enter__()
        class Jobs(queue.Queue):
            pass
        early = Event()
        import lockwatch
        lockwatch.install(cpu=False)
        thread = Thread(target=int)
        thread.start()
        thread.join()
        with Room(1):
            pass
        for call in (early.wait, Jobs().get):
            try:
                call()
            except lockwatch.DeadlockError:
                calls.append("found")
        assert calls == ["join", "enter", "wait", "found", "found"], calls
        """
    )
    assert done.returncode == 0, done.stderr
