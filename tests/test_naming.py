"""Locks are named as the source names them where they are made."""

from __future__ import annotations

import linecache
import sys
import textwrap
import types
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from lockwatch import naming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import RunPython

PRELUDE = """\
from collections import defaultdict
from dataclasses import dataclass, field

class Condition:
    def __init__(self, lock=None): pass

class Worker(Condition): pass

def use(lock): pass

"""

SOURCES = {
    "self attribute": (
        "class Client:\n    def __init__(self):\n        self._lock = Lock()\nClient()",
        "Client._lock",
    ),
    "nested class": (
        "class A:\n    class B:\n        def __init__(me):\n            me.x = Lock()\nA.B()",
        "A.B.x",
    ),
    "class in a function": (
        "def f():\n    class A:\n        def __init__(self):\n            self.x = Lock()\n    A()\nf()",
        "A.x",
    ),
    "classmethod": (
        "class A:\n    @classmethod\n    def make(cls):\n        cls.x = Lock()\nA.make()",
        "A.x",
    ),
    "closure in a method": (
        "class A:\n    def m(self):\n        def inner():\n            self.x = Lock()\n        inner()\nA().m()",
        "A.x",
    ),
    "class attribute": ("class A:\n    x = Lock()", "A.x"),
    "annotated class attribute": ("class A:\n    x: object = Lock()", "A.x"),
    "dataclass factory": (
        "@dataclass\nclass A:\n    x: object = field(default_factory=lambda: Lock())\nA()",
        "A.x",
    ),
    "module variable": ("client_lock = Lock()", "client_lock"),
    "local variable": ("def f():\n    client_lock = Lock()\nf()", "client_lock"),
    "module attribute": ("import types\nlib = types.SimpleNamespace(Lock=Lock)\nx = lib.Lock()", "x"),
    "several lines": ("x = (\n    Lock(\n    )\n)", "x"),
    "method over several lines": (
        "import types\nlib = types.SimpleNamespace(Lock=Lock)\nx = lib.Lock(\n    1,\n    2,\n)",
        "x",
    ),
    "two targets": (
        "class A:\n    def __init__(self):\n        lock = self.x = Lock()\nA()",
        "A.x",
    ),
    "chained attribute": (
        "class S: pass\nclass A:\n    def __init__(self):\n        self.s = S()\n        self.s.x = Lock()\nA()",
        "A.s.x",
    ),
    "walrus": ("if (x := Lock()): pass", "x"),
    "or": ("x = None or Lock()", "x"),
    "conditional": ("x = Lock() if 1 else None", "x"),
    "constant key": ("locks = {}\nlocks['a'] = Lock()", "locks['a']"),
    "other key": ("locks = {}\nkey = 'secret'\nlocks[key] = Lock()", "locks[...]"),
    "long key": (f"locks = {{}}\nlocks['{'k' * 90}'] = Lock()", "locks[...]"),
    "dict literal": ("locks = {'a': Lock()}", "locks['a']"),
    "dict call": ("locks = dict(a=Lock())", "locks['a']"),
    "dict comprehension": ("locks = {i: Lock() for i in range(1)}", "locks[...]"),
    "list": ("locks = [None, Lock()]", "locks[1]"),
    "list comprehension": ("locks = [Lock() for _ in range(1)]", "locks[...]"),
    "generator": ("locks = tuple(Lock() for _ in range(1))", "locks[...]"),
    "unpacking": ("a, b = None, Lock()", "b"),
    "unpacking with a star": ("a, *b = None, Lock()", None),
    "append": ("locks = []\nlocks.append(Lock())", "locks[...]"),
    "setdefault": ("locks = {}\nlocks.setdefault('a', Lock())", "locks['a']"),
    "defaultdict": ("locks = defaultdict(Lock)\nlocks['a']", "locks['a']"),
    "defaultdict of a lambda": ("locks = defaultdict(lambda: Lock())\nlocks['a']", "locks[...]"),
    "condition": ("x = Condition(Lock())", "x"),
    "condition by keyword": ("x = Condition(lock=Lock())", "x"),
    "keyword argument": ("x = Worker(lock=Lock())", "Worker(lock)"),
    "default argument": ("def f(a, lock=Lock()): pass", "f(lock)"),
    "keyword-only default": ("def f(*, a, lock=Lock()): pass", "f(lock)"),
    "returned": ("class A:\n    def make(self):\n        return Lock()\nA().make()", "A.make()"),
    "with": ("from contextlib import nullcontext\nwith nullcontext(Lock()) as x: pass", "x"),
    "argument": ("use(Lock())", None),
    "dropped": ("Lock()", None),
    "another attribute": ("x = Lock().made", None),
    "bad escape beside it": ("text = '\\\\d'; x = Lock()", "x"),
    "non-ASCII before it": ("text = 'äöü€'; x = Lock()", "x"),
}


class Maker:
    """Stands for a lock class; remembers where it was called from."""

    def __init__(self) -> None:
        self.calls: list[tuple[types.CodeType, int]] = []
        self.made = None

    def __call__(self, *args: object, **kwargs: object) -> Maker:
        frame = sys._getframe(1)
        self.calls.append((frame.f_code, frame.f_lasti))
        return self


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """No names or sources from another test."""
    naming.clear()
    yield
    naming.clear()


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], Maker]:
    """Runs source from a file of its own and returns the maker of its locks."""

    def run(source: str) -> Maker:
        path = tmp_path / "program.py"
        path.write_text(source, encoding="utf-8")
        linecache.checkcache(str(path))
        maker = Maker()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the bad escape: Python's own, when it compiles
            code = compile(source, str(path), "exec")
        module: dict[str, Any] = {"__name__": "program", "Lock": maker}
        sys.modules["program"] = types.ModuleType("program")  # dataclasses look there
        try:
            exec(code, module)
        finally:
            del sys.modules["program"]
        return maker

    return run


@pytest.mark.parametrize("case", SOURCES)
def test_name(case: str, run: Callable[[str], Maker]) -> None:
    """The name is that of the assignment's target, with the class it belongs to."""
    source, expected = SOURCES[case]
    maker = run(PRELUDE + source + "\n")
    assert [naming.lock_name(*call) for call in maker.calls] == [expected]


def test_siblings_on_one_line_are_told_apart(run: Callable[[str], Maker]) -> None:
    """The column decides, not the line."""
    maker = run("a, b = Lock(), Lock(); c = {'x': Lock(), 'y': [Lock() for _ in '12']}")
    assert [naming.lock_name(*call) for call in maker.calls] == [
        "a",
        "b",
        "c['x']",
        "c['y'][...]",
        "c['y'][...]",
    ]


def test_second_call_is_a_look_up(run: Callable[[str], Maker], monkeypatch: pytest.MonkeyPatch) -> None:
    """A place is worked out once."""
    maker = run("for _ in '12':\n    x = Lock()")
    assert naming.lock_name(*maker.calls[0]) == "x"
    monkeypatch.setattr(naming, "_from_source", None)
    assert naming.lock_name(*maker.calls[1]) == "x"


def test_tables_are_bounded(run: Callable[[str], Maker], monkeypatch: pytest.MonkeyPatch) -> None:
    """A program with locks made at ever new places does not fill the memory with their names."""
    monkeypatch.setattr(naming, "_MOST_NAMES", 3)
    maker = run("\n".join(f"x{i} = Lock()" for i in range(10)))
    assert [naming.lock_name(*call) for call in maker.calls] == [f"x{i}" for i in range(10)]
    assert len(naming._names) <= 3


def test_no_warning_is_shown_for_the_programs_source(run: Callable[[str], Maker]) -> None:
    """Parsing the source again is our affair: no warning, also under -W error."""
    maker = run("x = '\\d'; y = Lock()")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert naming.lock_name(*maker.calls[0]) == "y"


def test_edited_source_gives_no_wrong_name(run: Callable[[str], Maker], tmp_path: Path) -> None:
    """A file that was changed after the program started does not lend its names to other code."""
    maker = run("def f():\n    x = Lock()\nf()")
    (tmp_path / "program.py").write_text("def g():\n    y = Lock()\ng()")
    linecache.checkcache(str(tmp_path / "program.py"))
    assert naming.lock_name(*maker.calls[0]) == "x"  # from the bytecode


def test_without_source_the_bytecode_tells() -> None:
    """Code from exec() has no file; the instruction after the call names the variable."""
    source = """
        x = Lock()
        class Client:
            def __init__(self):
                self._lock = Lock()
        Client()
        def f():
            y = Lock()
        f()
        def g(other):
            other.z = Lock()
        g(Client)
        use(Lock())
    """
    maker = Maker()
    exec(textwrap.dedent(source), {"Lock": maker, "use": id})
    assert [naming.lock_name(*call) for call in maker.calls] == ["x", "Client._lock", "y", "other.z", None]


@pytest.mark.parametrize(
    "content", ["def (", "\0", "", "x = " + "(" * 3000 + ")" * 3000], ids=["syntax", "null", "empty", "deep"]
)
def test_nothing_raises(content: str, run: Callable[[str], Maker], tmp_path: Path) -> None:
    """Source that is no Python is no reason to fail."""
    maker = run("use = id\nuse(Lock())")
    (tmp_path / "program.py").write_text(content)
    linecache.checkcache(str(tmp_path / "program.py"))
    code, _ = maker.calls[0]
    for lasti in (maker.calls[0][1], -1, 0, 10**6):
        naming.lock_name(code, lasti)
        naming.line_of(code, lasti)
        naming.site(code, lasti)


def test_site(run: Callable[[str], Maker], tmp_path: Path) -> None:
    """A place is file, line and function."""
    maker = run("def f():\n    x = Lock()\nf()\n")
    found = naming.site(*maker.calls[0])
    assert (found.file, found.line, found.function) == (str(tmp_path / "program.py"), 2, "f")
    assert naming.line_of(maker.calls[0][0], -1) == 1


def test_without_columns_the_line_tells(run_python: RunPython) -> None:
    """Under -X no_debug_ranges a line with one likely call still names it, and no other is guessed."""
    program = """
        import sys
        from lockwatch import naming

        def Lock():
            frame = sys._getframe(1)
            print(naming.lock_name(frame.f_code, frame.f_lasti))

        class Client:
            def __init__(self):
                self._lock = Lock()
                self.text = str(Lock())
                self.pair = [Lock(), Lock()]

        Client()
    """
    done = run_python(program, interpreter_args=["-X", "no_debug_ranges"])
    assert done.stdout.split() == ["Client._lock", "Client.text", "None", "None"], done.stderr


def test_naming_imports_nothing_when_called(run_python: RunPython) -> None:
    """A program that is stuck in an import can still be named: all modules needed are loaded before."""
    program = """
        import sys
        from lockwatch import naming

        def Lock():
            frame = sys._getframe(1)
            before = set(sys.modules)
            assert naming.lock_name(frame.f_code, frame.f_lasti) == "x"
            print(set(sys.modules) - before)

        x = Lock()
    """
    done = run_python(program)
    assert done.stdout.strip() == "set()", done.stderr
