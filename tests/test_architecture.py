"""The house rules that a machine can check: import direction, lazy import, names, sizes, docstrings, paths."""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lockwatch
from lockwatch._core import fastpath

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import RunPython

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "lockwatch"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = sorted(
    path for folder in ("lockwatch", "tests", "benchmarks") for path in (REPOSITORY / folder).rglob("*.py")
)

MAX_LINES = {"lockwatch": 400, "benchmarks": 400, "tests": 600}

MIDDLE = {
    "_labels",
    "_reading",
    "_values",
    "advice",
    "config",
    "delivery",
    "diagnosis",
    "errors",
    "findings",
    "naming",
}
MIDDLE |= {"leaks", "misuse", "releases"}
MIDDLE |= {"dump", "loglines", "orderfile", "ordering", "orders", "remarks", "tables", "weights"}
MAY_IMPORT: dict[str, set[str]] = {
    "_core": set(),
    **{name: {"_core"} | MIDDLE for name in MIDDLE},
    "report": {"findings"},
    "locks": {"_core"} | MIDDLE,
    "aio": {"_core", "locks"} | MIDDLE,
    "patch": {"_core", "locks", "aio"} | MIDDLE,
    "cli": {"_core", "locks", "aio", "patch", "report"} | MIDDLE,
    "pytest_support": {"_core", "locks", "aio", "patch", "report"} | MIDDLE,
    "pytest_plugin": {"pytest_support"} | MIDDLE,
    "testing": {"_core", "patch"} | MIDDLE,
    "__main__": {"cli"},
    "__init__": {"_core", "locks", "aio", "patch", "report"} | MIDDLE,
}
"""What each part may import besides itself: _core <- middle layer <- locks <- aio <- patch <- cli; reports know findings."""
for _name in ("errors", "delivery", "diagnosis", "dump"):  # notes, log lines and dumps are the text report
    MAY_IMPORT[_name] |= {"report"}

WATCHED = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier", "Timer"}
"""Names of ``threading`` that are patched, or made of patched ones: our own code must not build on them."""

NOT_OURS = {
    "lockwatch/_core/originals.py": "this is where the originals are captured",
    "lockwatch/cli/philosophers.py": "the demo is a user's program: its locks are there to be watched",
}
"""Modules that may use ``threading``'s locks, and why."""


def name_of(path: Path) -> str:
    """A short name for a test's id and messages: the path from the repository."""
    return path.relative_to(REPOSITORY).as_posix()


def part_of(path: Path) -> str:
    """The part of the house that a module of the package belongs to: ``_core``, ``findings``, ``cli``..."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def parse(path: Path) -> ast.Module:
    """The module's tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def own_imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import of lockwatch in a module, function bodies and type-only ones included."""
    package = ("lockwatch", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*base, *filter(None, [node.module])])
            names = [f"{origin}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "lockwatch")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_one_way(path: Path) -> None:
    """A module imports only from the layers below its own, and names them by their module."""
    part = part_of(path)
    assert part in MAY_IMPORT, f"{name_of(path)}: say in MAY_IMPORT where {part} stands"
    wrong = []
    for line, name in own_imports(path):
        target = [*name.split("."), "__init__"][1]
        if target in {"__version__", "__init__"} and part != "_core":
            continue  # the package itself, for its version: loaded already, and nothing else with it
        if target not in MAY_IMPORT:
            wrong.append(f"line {line}: {name} (import it from the module that defines it)")
        elif target != part and target not in MAY_IMPORT[part]:
            wrong.append(f"line {line}: {name} ({part} may import {sorted(MAY_IMPORT[part])})")
    assert not wrong, "\n".join([name_of(path), *wrong])


def test_import_is_lazy(run_python: RunPython) -> None:
    """``import lockwatch`` loads no dependency, no heavy stdlib module, and nothing of ours but the package itself."""
    done = run_python("""
        import sys
        before = set(sys.modules)
        import lockwatch
        import json
        print(json.dumps(sorted(set(sys.modules) - before)))
    """)
    assert done.returncode == 0, done.stderr
    loaded: list[str] = json.loads(done.stdout)
    assert [name for name in loaded if name.split(".")[0] == "lockwatch"] == ["lockwatch"]
    heavy = {"wrapt", "psutil", "sortedcontainers", "asyncio", "logging", "dataclasses", "inspect", "typing"}
    assert not heavy.intersection(loaded)


def test_install_stays_light(run_python: RunPython) -> None:
    """``lockwatch.install()`` loads no thread-using part of the stdlib that the program did not ask for."""
    done = run_python("""
        import sys
        import lockwatch
        lockwatch.install()
        print(*{"asyncio", "concurrent.futures", "multiprocessing", "unittest"} & set(sys.modules))
    """)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_stdlib_name_is_shadowed(path: Path) -> None:
    """No module or folder has a stdlib module's name: a script run from its folder would import ours instead."""
    names = [path.stem, *path.relative_to(REPOSITORY).parent.parts]
    shadowed = [name for name in names if name in sys.stdlib_module_names and not name.startswith("__")]
    assert not shadowed, f"{name_of(path)} shadows {shadowed}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_are_short(path: Path) -> None:
    """A file does one job, in at most 400 lines (a test file: 600)."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES[path.relative_to(REPOSITORY).parts[0]], f"{name_of(path)} has {lines} lines"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_modules_have_docstrings(path: Path) -> None:
    """Every module opens with what it is for."""
    assert ast.get_docstring(parse(path)), f"{name_of(path)} has no module docstring"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_own_code_uses_the_originals(path: Path) -> None:
    """Our own locks are raw ones from ``_core.originals``: nothing else makes or subclasses ``threading``'s."""
    if name_of(path) in NOT_OURS:
        pytest.skip(NOT_OURS[name_of(path)])
    uses = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and node.module in {"threading", "queue"}:
            uses += [
                f"line {node.lineno}: {one.name}" for one in node.names if one.name in WATCHED | {"Queue"}
            ]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id == "threading" and node.func.attr in WATCHED:
                uses.append(f"line {node.lineno}: threading.{node.func.attr}()")
    assert not uses, "\n".join([name_of(path), *uses])


@pytest.mark.parametrize("name", lockwatch.__all__)
def test_public_names_resolve_and_are_documented(name: str) -> None:
    """Each name in ``lockwatch.__all__`` is there, is listed by dir(), and has a docstring of its own."""
    value = getattr(lockwatch, name)
    assert name in dir(lockwatch)
    if name != "__version__":
        assert (value.__doc__ or "").strip(), f"lockwatch.{name} has no docstring"


def test_unknown_names_are_refused_as_by_any_module() -> None:
    """The lazy package raises the usual AttributeError, so that hasattr() and star-imports behave."""
    assert not hasattr(lockwatch, "no_such_name")
    with pytest.raises(ImportError, match="no_such_name"):
        exec("from lockwatch import no_such_name", {})


def test_every_module_imports_on_its_own(run_python: RunPython) -> None:
    """Any module can be the first one imported: no import cycle needs a certain order."""
    names = [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if path.stem != "__main__" and (path.stem != "heldtable" or fastpath.IMPLEMENTATION == "c")
    ]
    done = run_python(
        """
        import importlib, sys
        failed = []
        for name in sys.argv[1:]:
            for loaded in [one for one in sys.modules if one.split(".")[0] == "lockwatch"]:
                del sys.modules[loaded]
            try:
                importlib.import_module(name)
            except Exception as problem:
                failed.append(f"{name}: {type(problem).__name__}: {problem}")
        print(*failed, sep="\\n")
        """,
        *names,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stdout.strip(), done.stdout


PROJECT_FILES = [
    path
    for pattern in ("*.toml", "*.md", ".ci/*", "lockwatch/**/*", "tests/**/*", "benchmarks/**/*", "docs/**/*")
    for path in sorted(REPOSITORY.glob(pattern))
    if path.is_file()
    and path.suffix not in {".pyc", ".png", ".so"}
    and not any(part.startswith(".") and part != ".ci" for part in path.relative_to(REPOSITORY).parts)
]
MACHINE_PATH = re.compile(r"(?<![\w.)}\]>-])/(?:tmp|work|root)/")


@pytest.mark.parametrize("path", PROJECT_FILES, ids=name_of)
def test_no_machine_paths(path: Path) -> None:
    """Nothing in the project names a folder of the machine it was written on."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [
        f"line {number}: {line.strip()}" for number, line in enumerate(lines, 1) if MACHINE_PATH.search(line)
    ]
    assert not found, "\n".join([name_of(path), *found])


def test_import_leaves_no_side_effect() -> None:
    """Importing the package again finds the same module and patches nothing."""
    assert importlib.import_module("lockwatch") is lockwatch
    assert not lockwatch.is_installed()
