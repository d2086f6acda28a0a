"""The fast path: which twin is chosen, and what the C twin must keep though it notes next to nothing.

The whole suite is run with either twin; what stands here is true of both, or says that it is about the C twin.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
import tracemalloc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import lockwatch
from lockwatch._core import agents, fastpath
from lockwatch._core.handover import OWNED
from lockwatch._core.holds import AGENT, CODE, HOW, LASTI, LOCK, SINCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import RunPython

KINDS: list[Any] = [lockwatch.Lock, lockwatch.RLock]
KIND = pytest.mark.parametrize("kind", KINDS)
PARALLEL = not getattr(sys, "_is_gil_enabled", lambda: True)()
needs_c = pytest.mark.skipif(fastpath.IMPLEMENTATION != "c", reason=f"Python twin: {fastpath.REASON}")


@pytest.fixture(autouse=True)
def hold_nothing() -> None:
    """Begin with a thread that holds nothing: other tests may have left entries of locks that they made by hand."""
    dict.clear(agents.current().holds)


def in_thread(body: Callable[[], object]) -> None:
    """Runs ``body`` in a thread that has ended, with its local storage, when this returns."""
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    while any(agent.thread() is thread for agent in agents.living()):
        time.sleep(0)


# --- which one runs ---


def test_pure_forces_the_twin(run_python: RunPython) -> None:
    """``LOCKWATCH_PURE=1`` forces the Python twin; the reason is told."""
    program = "from lockwatch._core import fastpath; print(fastpath.IMPLEMENTATION, fastpath.REASON)"
    done = run_python(program, env={"LOCKWATCH_PURE": "1"})
    assert done.stdout == "python LOCKWATCH_PURE is set\n", done.stderr


@pytest.mark.parametrize("missing", ["not built", "other frames"])
def test_falls_back(run_python: RunPython, missing: str) -> None:
    """Without the compiled module, or where it does not find the call sites, the twin does the work; doctor says so."""
    spoil = {
        "not built": "sys.modules['lockwatch._core._fastpath'] = None",
        "other frames": """
        import types
        wrong = types.ModuleType("lockwatch._core._fastpath")
        wrong.where = lambda: (None, 0)
        import lockwatch._core
        sys.modules["lockwatch._core._fastpath"] = lockwatch._core._fastpath = wrong
        """,
    }[missing]
    done = run_python(
        f"""
        import sys
        {spoil.strip()}
        import lockwatch
        from lockwatch.cli import main
        with lockwatch.Lock() as taken:
            assert taken
        sys.exit(main(["doctor"]))
        """,
        env={"LOCKWATCH_PURE": ""},
    )
    assert done.returncode == 1, done.stderr
    assert "fast path   Python: " in done.stdout


def test_doctor(run_python: RunPython) -> None:
    """``lockwatch doctor`` says which twin runs, what the locks are made of, how the GIL is, and what is patched."""
    done = run_python(None, "-m", "lockwatch", "doctor", env={"LOCKWATCH_PURE": ""})
    titles = [line.split("  ")[0] for line in done.stdout.splitlines()]
    assert titles == ["lockwatch", "python", "fast path", "locks", "GIL", "patched", "unwatched"], done.stderr
    assert "threading.Lock, threading.RLock" in done.stdout
    assert ("fast path   C\n" in done.stdout) == (done.returncode == 0)


@needs_c
@pytest.mark.skipif(sys.version_info < (3, 13), reason="the module that makes them has another name before")
def test_subinterpreters_use_the_python_twin(run_python: RunPython) -> None:
    """A subinterpreter with a GIL of its own, and one that shares it, get the twin; the main one goes on in C."""
    done = run_python(
        """
        import sys
        import lockwatch
        from lockwatch._core import fastpath
        try:
            import _interpreters
        except ImportError:
            import _xxsubinterpreters as _interpreters
        inner = '''
        import sys
        sys.path[:] = %r
        from lockwatch._core import fastpath
        assert fastpath.IMPLEMENTATION == "python" and "cannot be loaded" in fastpath.REASON, fastpath.REASON
        import lockwatch.locks
        with lockwatch.locks.Lock():
            print("inner", flush=True)
        ''' % sys.path
        import textwrap
        for config in ("isolated", "legacy"):
            one = _interpreters.create(config)
            print(_interpreters.run_string(one, textwrap.dedent(inner)))
        with lockwatch.Lock():
            print(fastpath.IMPLEMENTATION)
        """
    )
    assert done.stdout.splitlines() == ["inner", "None", "inner", "None", "c"], (
        f"{done.stdout}\n{done.stderr}"
    )


# --- holds ---


@KIND
def test_a_hold_is_one_object_while_it_lasts(kind: Any) -> None:
    """Looked at twice, a hold is the same object; the next acquisition's is another, and free is None."""
    lock = kind()
    assert lock._state.get(OWNED) is None
    with lock:
        first = lock._state.get(OWNED)
        assert first is lock._state.get(OWNED) is agents.current().holds.copy()[lock._key]
    assert lock._state.get(OWNED) is None
    with lock:
        assert lock._state.get(OWNED) is not first


@KIND
def test_a_hold_says_who_where_when_and_how(kind: Any) -> None:
    """Agent, lock, call site and manner are those of the acquire, although they are put together later."""
    lock = kind()
    frame = sys._getframe()
    began = time.monotonic_ns()
    before = frame.f_lasti
    lock.acquire()
    after = frame.f_lasti
    hold = lock._state.get(OWNED)
    assert (hold[AGENT], hold[LOCK](), hold[CODE], hold[HOW]) == (agents.current(), lock, frame.f_code, False)
    assert before < hold[LASTI] < after
    assert began <= hold[SINCE] <= time.monotonic_ns()
    lock.release()
    with lock:
        assert lock._state.get(OWNED)[HOW] is True
    assert lock.try_acquire()
    assert after < lock._state.get(OWNED)[LASTI]
    lock.release()
    del frame  # a cycle


def test_holds_in_the_order_taken() -> None:
    """The table of holds lists locks in the order taken, whatever the order of releases and of looks at them."""
    locks = [kind() for kind in KINDS * 10]
    me = agents.current()
    assert me.holds == {}
    for lock in locks:
        lock.acquire()
        if lock is locks[7]:
            lock._state.get(OWNED)
    assert list(me.holds) == [lock._key for lock in locks]
    for lock in locks[::3]:
        lock.release()
    rest = [lock for index, lock in enumerate(locks) if index % 3]
    assert [hold[LOCK]() for hold in me.holds.copy().values()] == rest
    for lock in rest:
        lock.release()
    assert not me.holds


@KIND
def test_dropped_while_held(kind: Any) -> None:
    """A lock that is dropped while held is gone at once, and from its owner's table."""
    lock = kind()
    lock.acquire()
    gone = weakref.ref(lock)
    del lock
    gc.collect()
    assert gone() is None
    assert not agents.current().holds


def test_released_by_another_thread() -> None:
    """A plain lock released elsewhere is free, out of its owner's table, and known as a signal."""
    lock = lockwatch.Lock()
    lock.acquire()
    in_thread(lock.release)
    assert not lock.locked()
    assert not agents.current().holds
    assert lock._signal


@KIND
def test_left_by_a_thread_that_ended(kind: Any) -> None:
    """What an ended thread holds stays its: a hold, in the lock and in its agent's table, that lasts."""
    lock, found = kind(), []

    def body() -> None:
        found.append(agents.current())
        lock.acquire()

    in_thread(body)
    (agent,) = found
    assert agent.ended
    hold = lock._state.get(OWNED)
    assert hold[AGENT] is agent
    assert agent.holds.get(lock._key) is hold
    lock._at_fork_reinit()
    assert not agent.holds
    assert lock.try_acquire()
    lock.release()


@KIND
def test_agents_die(kind: Any) -> None:
    """Nothing of the fast path keeps the agent of an ended thread: not the lock, not the record of its holds."""
    lock, found = kind(), []

    def body() -> None:
        found.append(weakref.ref(agents.current()))
        with lock:
            lock._state.get(OWNED)

    in_thread(body)
    while agents.any_dying():  # whoever asks next lets those go whose threads are gone
        time.sleep(0.001)
    gc.collect()
    assert found[0]() is None


# --- arguments, leaks, what runs in between ---


@KIND
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1, 2, 3), {}), ((), {"wait": True}), ((True,), {"blocking": True}), ((), {"timeout": "1"})],
)
def test_wrong_arguments(kind: Any, args: Any, kwargs: Any) -> None:
    """Too many, unknown, doubled and senseless arguments are TypeErrors, and take nothing."""
    lock = kind()
    with pytest.raises(TypeError):
        lock.acquire(*args, **kwargs)
    assert not lock.locked()
    with pytest.raises(TypeError):
        kind(*args, **kwargs) if args else kind(1)


@KIND
def test_use_leaves_nothing(kind: Any) -> None:
    """No reference and no memory is left behind, by any way through the fast path."""
    lock, other = kind(), kind()
    code = sys._getframe().f_code

    def use(times: int) -> None:
        for _ in range(times):
            with lock, other:
                lock._state.get(OWNED)
            lock.acquire(False)
            assert lock.acquire(timeout=0) is (kind is lockwatch.RLock)
            if kind is lockwatch.RLock:
                lock.release()
            lock.release()
            with pytest.raises(RuntimeError):
                lock.release()
            kind(name="one")

    def counts() -> tuple[int, ...]:
        things = (
            None,
            True,
            False,
            code,
            use.__code__,
            agents.current(),
            lock,
            type(lock),
            agents.current().holds,
        )
        return tuple(map(sys.getrefcount, things))

    use(10)
    gc.collect()
    before = counts()
    total = getattr(sys, "gettotalrefcount", int)()
    tracemalloc.start()
    use(3000)
    bytes_before = tracemalloc.get_traced_memory()[0]
    use(3000)
    gc.collect()
    left = tracemalloc.get_traced_memory()[0] - bytes_before
    tracemalloc.stop()
    assert left < 24_000  # less than one object for each
    assert getattr(sys, "gettotalrefcount", int)() - total < 1500
    for now, then in zip(counts(), before, strict=True):
        assert now - then < 1000 or now > 1 << 28  # immortal


@pytest.mark.skipif(PARALLEL, reason="code objects live longer without the GIL")
def test_callbacks_of_a_replaced_site(run_python: RunPython) -> None:
    """A code object that the lock alone kept may call back when it goes: into the very acquire that replaces it."""
    done = run_python(
        """
        import weakref, lockwatch
        lock = lockwatch.RLock()
        scope = {"lock": lock}
        exec("def take():\\n  with lock: pass", scope)
        scope["take"]()
        called = []
        def callback(_):
            with lock:
                called.append(lock._level())
        gone = weakref.ref(scope["take"].__code__, callback)
        del scope["take"]
        with lock:
            assert lock._level() == 1
        assert gone() is None and called and not lock.locked(), (gone(), called)
        """
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(__import__("signal"), "setitimer"), reason="needs interval timers")
def test_signals_lose_no_lock(run_python: RunPython) -> None:
    """An exception from a signal handler leaves a `with` block unlocked, wherever it strikes: C twin only."""
    if fastpath.IMPLEMENTATION != "c":
        pytest.skip("no Python code can guard the first instruction of __exit__ (F3)")
    if sys.version_info[:2] == (3, 14):
        pytest.skip(
            "this CPython looks for signals between __enter__ and the block: it loses its own locks, too"
        )
    done = run_python(
        """
        import signal, time, lockwatch
        class Struck(Exception): pass
        def strike(*_): raise Struck
        signal.signal(signal.SIGALRM, strike)
        locks = [lockwatch.Lock(), lockwatch.RLock()]
        one, two = locks
        struck, end = 0, time.monotonic() + 2
        while time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0003)
                while True:
                    with one:
                        with two, two:
                            pass
            except Struck:
                struck += 1
            assert not one.locked() and not two.locked(), (one, two, struck)
        assert struck > 50
        """,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_made_in_an_init_that_the_interpreter_inlines(run_python: RunPython) -> None:
    """The frames that 3.13 and later put beneath an inlined ``__init__`` are none of the program's."""
    done = run_python(
        """
        import lockwatch
        lockwatch.install()
        import queue, threading
        for _ in range(2_000):
            event, channel = threading.Event(), queue.Queue()
        print(event._cond._lock.lock_class == channel.mutex.lock_class)
        print(event._cond._lock.lock_class.rpartition("/")[2])
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "True"
    assert done.stdout.split("\n")[1].endswith(":5 in <module>"), done.stdout
