"""Lock objects that exist already: adopted where that can be proved safe, else left alone and listed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import RunPython

TOOLS = """
import functools, gc, sys, threading, weakref
import lockwatch, lockwatch.patch
make, make_r = [threading.Lock], [threading.RLock]  # in lists, so that they stay what they are

def watched(lock):
    return issubclass(type(lock), (lockwatch.Lock, lockwatch.RLock))

def refused(where):
    found = [one for one in lockwatch.unwatched_locks() if where in one.where]
    assert len(found) == 1, (where, lockwatch.unwatched_locks())
    return found[0]
"""


def check(run_python: RunPython, program: str) -> None:
    """Run a program that asserts, with ``watched`` and ``refused`` defined in it."""
    done = run_python(TOOLS.replace("\n", "\n    ") + program, timeout=90)
    assert done.returncode == 0, done.stderr


ADOPTED = {
    "global": ("lock = make[0]()", "lock", "lock"),
    "reentrant": ("lock = make_r[0]()", "lock", "lock"),
    "class attribute": ("class Class:\n        lock = make[0]()", "Class.lock", "Class.lock"),
    "attribute": (
        "class Class:\n        def __init__(self): self.lock = make_r[0]()\n    one = Class()",
        "one.lock",
        "Class.lock",
    ),
    "slot": (
        "class Class:\n        __slots__ = ('lock',)\n    one = Class(); one.lock = make[0]()",
        "one.lock",
        "Class.lock",
    ),
    "default": (
        "def function(a=1, lock=make[0](), b=2): return lock",
        "function()",
        "function.lock",
    ),
    "keyword default": ("def function(*, lock=make[0]()): return lock", "function()", "function.lock"),
    "closure": (
        "def outer():\n        lock = make[0]()\n        return lambda: lock\n    function = outer()",
        "function()",
        "outer.<locals>.<lambda>.lock",
    ),
    "list": ("forks = [make[0]() for _ in range(3)]", "forks[1]", "forks[1]"),
    "dict": ("locks = {'a': make[0](), 'b': 3}", "locks['a']", "locks['a']"),
    "list of an object": (
        "class Table:\n        def __init__(self): self.forks = [make[0]()]\n    one = Table()",
        "one.forks[0]",
        "Table.forks[0]",
    ),
    "event": ("stop = threading.Event()", "stop._cond._lock", "stop._cond._lock"),
    "semaphore": ("free = threading.Semaphore(2)", "free._cond._lock", "free._cond._lock"),
    "several": (
        "class Class: pass\n    Class.lock = lock = make[0]()\n    one = Class(); one.lock = lock",
        "Class.lock is lock is one.lock and lock",
        "lock",
    ),
}


@pytest.mark.parametrize("case", ADOPTED)
def test_adopted(run_python: RunPython, case: str) -> None:
    """A free lock is replaced wherever it is kept, gets the name of that place, and is raw again after uninstall."""
    setup, expression, name = ADOPTED[case]
    check(
        run_python,
        f"""
    {setup}
    kind = type({expression})
    for _ in range(2):
        assert not watched({expression})
        lockwatch.install()
        assert watched({expression}), lockwatch.unwatched_locks()
        assert ({expression}).name == {name!r}, ({expression}).name
        with ({expression}): pass
        lockwatch.uninstall()
        assert type({expression}) is kind
        with ({expression}): pass
    """,
    )


def test_names_in_modules_have_the_module(run_python: RunPython) -> None:
    """Locks of the standard library that were made early are adopted under their full names; handlers' locks, too."""
    check(
        run_python,
        """
    import logging
    handler = logging.StreamHandler()
    lockwatch.install()
    assert watched(logging._lock) and logging._lock.name == "logging._lock"
    assert watched(handler.lock) and handler.lock.name == "StreamHandler.lock"
    logging.getLogger().addHandler(handler)
    logging.warning("said")
    """,
    )


def test_condition_keeps_one_lock(run_python: RunPython) -> None:
    """A Condition and a Queue made early use one and the same watched lock afterwards, in all their bound methods."""
    check(
        run_python,
        """
    import queue
    lock = make_r[0]()
    condition, plain, jobs = threading.Condition(lock), threading.Condition(make[0]()), queue.Queue(1)
    lockwatch.install()
    for one in (condition, plain, jobs.not_empty, jobs.not_full, jobs.all_tasks_done):
        assert watched(one._lock) and one.acquire.__self__ is one.release.__self__ is one._lock
    assert condition._lock is lock and condition._release_save.__self__ is lock
    assert jobs.mutex is jobs.not_empty._lock is jobs.not_full._lock and jobs.mutex.name == "jobs.mutex"
    got = []
    thread = threading.Thread(target=lambda: got.append((jobs.get(), jobs.get())))
    thread.start()
    jobs.put(1); jobs.put(2)
    thread.join()
    assert got == [(1, 2)]
    with condition:
        with condition:
            assert not condition.wait(0.01)
    with plain:
        plain.notify()
    """,
    )


def test_held_locks_stay(run_python: RunPython) -> None:
    """A lock that is held is left alone, listed as such, and still the same lock."""
    check(
        run_python,
        """
    lock, lock_r = make[0](), make_r[0]()
    with lock, lock_r:
        lockwatch.install()
        assert not watched(lock) and not watched(lock_r)
        assert refused("lock").locked and refused("lock_r").locked and "held" in refused("lock").reason
        assert (refused("lock").kind, refused("lock_r").kind) == ("Lock", "RLock")
    assert not refused("lock").locked and not refused("lock_r").locked
    """,
    )


REFUSED = {
    "local variable": "def function():\n        kept = lock\n        lockwatch.install()\n        return kept",
    "generator": (
        "def function():\n        def generator():\n            kept = lock\n            yield kept\n"
        "        running = generator(); next(running)\n        lockwatch.install()\n        return next(generator())"
    ),
    "bound method": (
        "def function():\n        kept = lock.acquire\n        lockwatch.install()\n        return kept.__self__"
    ),
    "partial": (
        "kept = functools.partial(lock.acquire)\n"
        "    def function():\n        lockwatch.install()\n        return kept.func.__self__"
    ),
    "tuple": "kept = (lock,)\n    def function():\n        lockwatch.install()\n        return kept[0]",
    "set": "kept = {lock}\n    def function():\n        lockwatch.install()\n        return next(iter(kept))",
    "key": "kept = {lock: 1}\n    def function():\n        lockwatch.install()\n        return next(iter(kept))",
    "weak": "kept = weakref.ref(lock)\n    def function():\n        lockwatch.install()\n        return kept()",
    "weak set": (
        "kept = weakref.WeakSet([lock])\n"
        "    def function():\n        lockwatch.install()\n        return next(iter(kept))"
    ),
    "frozen": "kept = [lock]; gc.freeze()\n    def function():\n        lockwatch.install()\n        return kept[0]",
    "anonymous": (
        "kept = iter([[lock]])\n    def function():\n        lockwatch.install()\n        return next(kept)[0]"
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(run_python: RunPython, case: str) -> None:
    """A lock that somebody else refers to in a way that cannot be changed stays one lock everywhere."""
    check(
        run_python,
        f"""
    lock = make[0]()
    class Class:
        also = lock
    {REFUSED[case]}
    assert function() is lock is Class.also and not watched(lock)
    assert gc.isenabled()
    """,
    )


def test_refusals_are_explained(run_python: RunPython) -> None:
    """Each lock left unwatched is listed with its places and the reason, also where no place is known."""
    check(
        run_python,
        """
    import concurrent.futures.thread
    lock = make[0]()
    kept = (lock,)

    def function():
        unknown = make_r[0]()
        lockwatch.install()
        [one] = [one for one in lockwatch.unwatched_locks() if not one.where]
        assert one.kind == "RLock" and "local variables" in one.reason, one

    function()
    assert "tuple" in refused("lock").reason and str(refused("lock")).startswith("Lock lock: ")
    assert "list" in refused("concurrent.futures.thread._global_shutdown_lock").reason
    assert len(lockwatch.unwatched_locks()) == 2, lockwatch.unwatched_locks()  # those of dead locks are gone
    lockwatch.uninstall()
    assert lockwatch.unwatched_locks() == ()
    """,
    )


def test_other_threads_forbid_adopting(run_python: RunPython) -> None:
    """While a second thread runs, nothing is adopted and nothing given back; what is said tells so."""
    check(
        run_python,
        """
    lock = make[0]()
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait)
    thread.start()
    lockwatch.install()
    assert not watched(lock) and "2 threads" in refused("lock").reason
    go_on.set(); thread.join()
    lockwatch.uninstall()
    lockwatch.install()
    assert watched(lock)
    go_on.clear()
    thread = threading.Thread(target=go_on.wait)
    thread.start()
    lockwatch.uninstall()
    assert watched(lock)  # and goes on working
    with lock:
        assert not lock.acquire(False)
    go_on.set(); thread.join()
    """,
    )


def test_adopting_can_be_switched_off(run_python: RunPython) -> None:
    """``adopt=False`` leaves all locks raw and lists them."""
    check(
        run_python,
        """
    lock = make[0]()
    lockwatch.install(adopt=False)
    assert not watched(lock) and "switched off" in refused("lock").reason
    """,
    )


def test_internals_are_left_alone(run_python: RunPython) -> None:
    """Locks of threading, of Thread objects and of lockwatch itself are neither adopted nor listed."""
    check(
        run_python,
        """
    import importlib, io, json
    class Worker(threading.Thread):
        def __init__(self):
            super().__init__()
            self.mine = make[0]()
    worker = Worker()
    internals = (
        threading._active_limbo_lock, threading.main_thread()._started._cond._lock, worker._started._cond._lock,
        lockwatch.patch._guard,
    )
    kinds = list(map(type, internals))
    mine = lockwatch.Lock()
    with mine:
        thread = threading.Thread(target=mine.acquire, daemon=True)  # parks on a raw lock of ours
        thread.start()
        lockwatch.install()
    thread.join()
    lockwatch.uninstall()
    lockwatch.install()
    assert kinds == list(map(type, internals))
    assert threading._active_limbo_lock is internals[0] and lockwatch.patch._guard is internals[3]
    assert worker._started._cond._lock is internals[2] and watched(worker.mine)
    assert {one.where for one in lockwatch.unwatched_locks()} <= {("ownership",)}, lockwatch.unwatched_locks()
    """,
    )


def test_no_code_of_the_program_runs(run_python: RunPython) -> None:
    """Proxies and classes that answer every question with code of their own are walked past."""
    check(
        run_python,
        """
    class Trap:
        armed = False
        def __getattribute__(self, name):
            if Trap.armed:
                raise SystemExit(f"asked for {name}")
            return object.__getattribute__(self, name)
        __class__ = property(lambda self: self.nothing)
        def __eq__(self, other): raise SystemExit("compared")
        def __hash__(self): return 1
        def __setattr__(self, name, value): raise SystemExit("set")
    trap = Trap()
    object.__getattribute__(trap, "__dict__")["lock"] = make[0]()
    locks = {trap: make[0](), "a": trap}
    Trap.armed = True
    lockwatch.install()
    Trap.armed = False
    assert watched(trap.lock) and watched(locks[trap]), lockwatch.unwatched_locks()
    """,
    )


@pytest.mark.parametrize("proved", [True, False], ids=["adopted", "refused"])
def test_a_signal_in_the_middle_undoes_the_exchange(run_python: RunPython, proved: bool) -> None:
    """An exception out of a signal handler, at any line of the exchange, leaves one and the same lock everywhere."""
    check(
        run_python,
        f"""
    from lockwatch.patch import adopt
    lock = make[0]()
    class Class:
        also = lock
    condition = threading.Condition(lock)
    code = {{adopt._exchange.__code__, adopt._put.__code__, adopt._put_back.__code__, adopt._settle.__code__}}
    left = 0
    if not {proved}:
        adopt._references = id  # a different number for each

    def tracer(frame, event, arg):
        global left
        if frame.f_code not in code:
            return None
        if event == "line":
            left -= 1
            if not left:
                raise KeyboardInterrupt
        return tracer

    def attempt():
        sys.settrace(tracer)
        try:
            lockwatch.install()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
        return False

    for lines in range(1, 1000):
        left = lines
        interrupted = attempt()
        assert lock is Class.also is condition._lock, lines
        assert condition.acquire.__self__ is condition.release.__self__ is lock, lines
        gc.enable()  # the handler may have struck just before the line that does this
        if not interrupted:
            break
        lockwatch.uninstall()
    assert lines > 20, lines
    assert watched(lock) == {proved}, lock
    """,
    )


def test_reinstalling(run_python: RunPython) -> None:
    """Adopted, given back and adopted again: the same places, no matter how often."""
    check(
        run_python,
        """
    lock = make_r[0]()
    for _ in range(5):
        lockwatch.install()
        assert watched(lock) and not lockwatch.unwatched_locks()
        lockwatch.uninstall()
        assert not watched(lock)
    """,
    )
