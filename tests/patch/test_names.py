"""Names bound early are swept, wherever Python keeps them; names bound later are right by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunPython

EARLY = """
import _thread, dataclasses, threading
from _thread import RLock as CRLock, allocate_lock
from collections import defaultdict
from threading import Lock, RLock
from threading import Lock as Mutex


class Class:
    factory = Lock
    reentrant = RLock


class Meta(type):
    def __setattr__(cls, name, value):
        raise AssertionError("user code ran")


class Strict(metaclass=Meta):
    factory = Lock


def default(number=1, make=Lock, other=RLock):
    return make()


def keyword(*, make=Lock):
    return make()


def closure():
    make = Lock
    class Inner:
        inner = Lock
        def method(self):
            return make()
    return Inner, lambda: make()


Inner, variable = closure()


@dataclasses.dataclass
class Data:
    lock: object = dataclasses.field(default_factory=Lock)


by_default = defaultdict(Lock)
namespace = {"__name__": "generated", "Lock": Lock}
exec("def generated(): return Lock()", namespace)
generated = namespace["generated"]
instance = Class()
instance.attribute = Lock
table = {"Lock": Lock}
NAMES = {"Lock", "RLock", "Mutex", "CRLock", "allocate_lock"}


def makers():
    return {
        "module": Lock, "alias": Mutex, "reentrant": RLock, "c": CRLock, "allocate": allocate_lock,
        "class": Class.factory, "class reentrant": Class.reentrant, "strict": Strict.factory, "default": default,
        "keyword": keyword, "method": Inner().method, "inner": Inner.inner, "variable": variable,
        "data": lambda: Data().lock, "defaultdict": lambda: by_default[len(by_default)], "generated": generated,
        "field": Data.__dataclass_fields__["lock"].default_factory,
    }
"""


def check(run_python: RunPython, tmp_path: Path, program: str) -> None:
    """Run a program that asserts, with the module ``early`` beside it."""
    (tmp_path / "early.py").write_text(EARLY)
    done = run_python(program)
    assert done.returncode == 0, done.stderr


def test_every_kind_of_early_name(run_python: RunPython, tmp_path: Path) -> None:
    """All makers give watched locks while installed, raw ones after, and hold the very originals then."""
    check(
        run_python,
        tmp_path,
        """
        import early, lockwatch
        before = early.makers()

        def kept():
            names = [vars(early)[name] for name in sorted(early.NAMES)]
            return repr([names, early.default.__defaults__, early.keyword.__kwdefaults__])

        state = kept()
        kinds = (lockwatch.Lock, lockwatch.RLock)
        for _ in range(2):
            lockwatch.install()
            for name, make in early.makers().items():
                assert issubclass(type(make()), kinds), name
            for make in (early.RLock, early.CRLock):
                assert issubclass(type(make()), lockwatch.RLock)
            assert early.default.__defaults__[0] == 1 and early.Class.factory is early.Lock
            lockwatch.uninstall()
            for name, make in early.makers().items():
                assert not issubclass(type(make()), kinds), name
            assert early.makers()["class"] is before["class"]
            assert kept() == state
        """,
    )


def test_what_is_not_a_name_stays(run_python: RunPython, tmp_path: Path) -> None:
    """Attributes of instances, entries of tables, ``_thread`` and threading's internals keep the originals."""
    check(
        run_python,
        tmp_path,
        """
        import _thread, threading, early, lockwatch
        kept = [threading.Lock]  # a global name would be swept


        def internals():
            return [
                threading._allocate_lock, threading._CRLock, threading._PyRLock, _thread.allocate_lock, _thread.RLock
            ]

        before = internals()
        lockwatch.install()
        assert early.instance.attribute is early.table["Lock"] is kept[0]
        assert internals() == before
        condition = threading.Condition()
        assert type(condition._lock) is threading.RLock
        with condition:
            assert condition.wait(0.01) is False
        """,
    )


def test_sweep_can_be_switched_off(run_python: RunPython, tmp_path: Path) -> None:
    """``sweep=False`` replaces the names in ``threading`` only; adopting is another matter."""
    check(
        run_python,
        tmp_path,
        """
        import early, threading, lockwatch
        kept = [threading.Lock]
        lockwatch.install(sweep=False)
        assert threading.Lock is not kept[0] and early.Lock is early.Class.factory is kept[0]
        lockwatch.uninstall()
        assert threading.Lock is kept[0]
        """,
    )


def test_modules_loaded_later(run_python: RunPython, tmp_path: Path) -> None:
    """A module that is loaded while installed gets watched locks, and the originals when lockwatch goes."""
    check(
        run_python,
        tmp_path,
        """
        import lockwatch
        lockwatch.install()
        import early
        assert issubclass(type(early.Lock()), lockwatch.Lock) and issubclass(type(early.default()), lockwatch.Lock)
        assert issubclass(type(early.Data().lock), lockwatch.Lock)
        lockwatch.uninstall()
        import _thread, threading
        assert early.Lock is early.Mutex is early.Class.factory is threading.Lock
        for make in (early.Lock, early.default, early.keyword, early.variable, lambda: early.Data().lock):
            assert type(make()) is _thread.LockType, make
        """,
    )


def test_lockwatch_is_never_swept(run_python: RunPython) -> None:
    """No module of lockwatch holds a class of the patch where it held an original."""
    done = run_python("""
        import sys
        import lockwatch, lockwatch.patch
        from lockwatch._core import originals
        before = dict(vars(originals))
        lockwatch.install()
        assert all(vars(originals)[name] is value for name, value in before.items())
    """)
    assert done.returncode == 0, done.stderr


def test_mock_patches_survive(run_python: RunPython) -> None:
    """What ``mock.patch`` puts back when it ends is what it found, whatever happened in between."""
    done = run_python("""
        import threading, types, unittest.mock
        module = types.ModuleType("module")
        module.Lock = threading.Lock
        kept = [threading.Lock]
        import sys; sys.modules["module"] = module
        import lockwatch
        with unittest.mock.patch("module.Lock"):
            lockwatch.install()
        assert module.Lock is kept[0]
        lockwatch.uninstall()
        assert module.Lock is kept[0] and threading.Lock is kept[0]
    """)
    assert done.returncode == 0, done.stderr


def test_frozen_programs_are_swept(run_python: RunPython, tmp_path: Path) -> None:
    """After ``gc.freeze()``, which hides objects from the collector, the usual kinds of names are still found."""
    check(
        run_python,
        tmp_path,
        """
        import early, gc, lockwatch
        gc.freeze()
        lockwatch.install()
        for name in ("module", "c", "class", "strict", "default", "keyword", "variable"):
            make = early.makers()[name]
            assert issubclass(type(make()), (lockwatch.Lock, lockwatch.RLock)), name
        lockwatch.uninstall()
        for make in early.makers().values():
            assert not issubclass(type(make()), (lockwatch.Lock, lockwatch.RLock))
        """,
    )


def test_names_are_swept_with_threads_about(run_python: RunPython, tmp_path: Path) -> None:
    """Names are swept while other threads run, too (free-threaded 3.13 hides modules from the collector then)."""
    check(
        run_python,
        tmp_path,
        """
        import early, threading, lockwatch
        go_on = threading.Event()
        thread = threading.Thread(target=go_on.wait)
        thread.start()
        lockwatch.install()
        for name in ("module", "c", "class", "strict", "default", "keyword"):
            make = early.makers()[name]
            assert issubclass(type(make()), (lockwatch.Lock, lockwatch.RLock)), name
        lockwatch.uninstall()
        for make in early.makers().values():
            assert not issubclass(type(make()), (lockwatch.Lock, lockwatch.RLock))
        go_on.set()
        thread.join()
        """,
    )
