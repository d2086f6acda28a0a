"""The classes that stand in for ``threading.Lock`` and ``RLock`` are used like these."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import RunPython


def check(run_python: RunPython, program: str, *args: str) -> None:
    """Run a program that asserts, with lockwatch installed after the types were bound early."""
    done = run_python(
        f"""
        import _thread, threading
        LockType, RLockType = type(threading.Lock()), type(threading.RLock())
        raw, raw_r = threading.Lock(), threading.RLock()
        raw_keeper, raw_r_keeper = {{raw}}, {{raw_r}}  # a set: they are not adopted
        import lockwatch
        lockwatch.install()
        lock, rlock = threading.Lock(), threading.RLock()
        assert type(raw) is _thread.LockType and type(lock) is threading.Lock
        {program}""",
        *args,
    )
    assert done.returncode == 0, done.stderr


def test_isinstance(run_python: RunPython) -> None:
    """Old and new locks are instances of ``threading.Lock`` and of types bound early; other things are not."""
    check(
        run_python,
        """
        for one in (lock, raw, lockwatch.Lock()):
            assert isinstance(one, threading.Lock) and not isinstance(one, threading.RLock)
        for one in (rlock, raw_r, lockwatch.RLock()):
            assert isinstance(one, threading.RLock) and not isinstance(one, threading.Lock)
        for one in (lock, raw):
            assert isinstance(one, LockType) and isinstance(one, _thread.LockType)
            assert not isinstance(one, RLockType)
        for one in (rlock, raw_r):
            assert isinstance(one, RLockType) and not isinstance(one, LockType)
        for one in (1, None, threading.Lock, threading.Condition()):
            assert not isinstance(one, threading.Lock) and not isinstance(one, threading.RLock)
        assert issubclass(LockType, threading.Lock) and issubclass(RLockType, threading.RLock)
        assert issubclass(type(lock), threading.Lock) and not issubclass(int, threading.Lock)
        """,
    )


def test_unions_and_annotations(run_python: RunPython) -> None:
    """``Lock | None`` works as a type and in isinstance, as on 3.13; singledispatch finds the raw type's function."""
    check(
        run_python,
        """
        import functools, typing
        maybe = threading.Lock | None
        assert isinstance(lock, maybe) and isinstance(None, maybe) and isinstance(raw, maybe)
        assert not isinstance(rlock, maybe)
        assert typing.Optional[threading.Lock] == maybe

        def f(lock: threading.Lock | None = None): pass
        assert typing.get_type_hints(f)["lock"] == maybe

        @functools.singledispatch
        def g(value): return "?"
        g.register(type(raw))(lambda value: "lock")
        assert g(lock) == g(raw) == "lock" and g(rlock) == "?"
        """,
    )


def test_subclasses_see_themselves(run_python: RunPython) -> None:
    """A subclass is an ordinary class: its instances only are its instances, and ``__class__`` is the truth."""
    check(
        run_python,
        """
        class Mine(threading.RLock):
            def __init__(self, extra):
                super().__init__()
                self.extra = extra
        mine = Mine(3)
        assert mine.__class__ is Mine and mine.extra == 3 and isinstance(mine, threading.RLock)
        assert not isinstance(rlock, Mine) and not issubclass(RLockType, Mine)
        with mine:
            assert mine._is_owned()
        class Other(Mine): pass
        mine.__class__ = Other
        assert type(mine) is Other
        assert type(lock) is threading.Lock and lock.__class__ is _thread.LockType
        """,
    )


def test_lock_cannot_be_subclassed(run_python: RunPython) -> None:
    """A program that subclasses ``threading.Lock`` fails without lockwatch; so it does with it."""
    check(
        run_python,
        """
        try:
            class Mine(threading.Lock): pass
        except TypeError as error:
            assert "not an acceptable base type" in str(error)
        else:
            raise AssertionError
        """,
    )


def test_arguments(run_python: RunPython) -> None:
    """Lock refuses arguments; RLock ignores them, warns, or refuses them, as this version's own does."""
    check(
        run_python,
        """
        import sys, warnings
        from lockwatch._core import originals

        def outcome(make, *args, **kwargs):
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                try:
                    made = make(*args, **kwargs)
                except TypeError:
                    return "refused"
                assert made.acquire(False)
            return [(one.category, str(one.message), one.lineno) for one in seen]

        for args, kwargs in (((), {}), ((1, 2), {}), ((), {"x": 1}), ((5,), {"x": 1})):
            assert outcome(threading.Lock, *args, **kwargs) == outcome(originals.Lock, *args, **kwargs)
            assert outcome(threading.RLock, *args, **kwargs) == outcome(originals.RLock, *args, **kwargs)
        """,
    )


def test_repr_and_pickle(run_python: RunPython) -> None:
    """Locks look like locks and refuse to be copied; the classes are pickled by their public name."""
    check(
        run_python,
        """
        import copy, pickle, re
        for one in (lock, rlock):
            assert re.match("<unlocked .* object .*at .*>", repr(one)), repr(one)
            one.acquire()
            assert re.match("<locked .* object .*at .*>", repr(one)), repr(one)
            for use in (copy.copy, copy.deepcopy, pickle.dumps):
                try:
                    use(one)
                except TypeError:
                    pass
                else:
                    raise AssertionError(use)
        data = pickle.dumps([threading.Lock, threading.RLock])
        assert pickle.loads(data) == [threading.Lock, threading.RLock]
        lockwatch.uninstall()
        assert pickle.loads(data) == [threading.Lock, threading.RLock]
        """,
    )


def test_creation_site(run_python: RunPython) -> None:
    """The place where a lock was made is the program's line, not ours."""
    check(
        run_python,
        """
        for made in (lock, rlock, threading.RLock(name="given")):
            code, _ = made._created
            assert code.co_filename == __file__, code
        assert made.name == "given"
        """,
    )
