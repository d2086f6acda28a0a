"""``lockwatch run`` starts a program exactly as plain Python does: compared side by side."""

from __future__ import annotations

import json
import os
import py_compile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import RunBoth, RunWatched, Write

DESCRIBE = """
import json, os, sys

def shown(value):
    if isinstance(value, (str, dict, list, type(None))):
        return repr(value)
    if hasattr(value, "origin"):
        return [value.name, value.origin, value.cached, value.parent, value.has_location, type(value.loader).__name__]
    if hasattr(value, "path"):
        return [type(value).__name__, value.name, value.path]
    return getattr(value, "__name__", repr(type(value)))

own = {name: value for name, value in dict(globals()).items() if name.startswith("__")}
print(json.dumps({
    "argv": sys.argv,
    "path": sys.path,
    "cwd": os.getcwd(),
    "main": [(name, shown(value)) for name, value in own.items()],
    "is main": sys.modules["__main__"].__dict__ is globals(),
    "repr": repr(sys.modules["__main__"]).partition(" at 0x")[0],
    "builtins": __builtins__ is sys.modules["builtins"],
    "flags": str(sys.flags),
}))
"""

ARGUMENTS = ["-h", "--report", "x", "--", "-m", "", "ä b", "--quiet", "-"]


@pytest.fixture
def targets(write: Write, tmp_path: Path) -> dict[str, list[str]]:
    """The same program in every form in which Python takes one."""
    script = write("script.py", DESCRIBE)
    write("folder/inner/script.py", DESCRIBE)
    write("module.py", DESCRIBE)
    write("package/__init__.py", "import sys; print(sys.argv, file=sys.stderr)")
    write("package/__main__.py", DESCRIBE)
    write("package/part.py", DESCRIBE)
    write("namespace/part.py", DESCRIBE)
    write("application/__main__.py", DESCRIBE)
    with zipfile.ZipFile(tmp_path / "application.pyz", "w") as archive:
        archive.writestr("__main__.py", DESCRIBE)
        archive.writestr("inside.py", DESCRIBE)
    py_compile.compile(str(script), str(tmp_path / "compiled.pyc"))
    (tmp_path / "link.py").symlink_to("folder/inner/script.py")
    return {
        "script": ["script.py"],
        "script, absolute": [str(script)],
        "script in .": ["./script.py"],
        "script below": ["folder/inner/script.py"],
        "script beside": ["folder/../script.py"],
        "symlink": ["link.py"],
        "compiled": ["compiled.pyc"],
        "-m": ["-m", "module"],
        "-mMODULE": ["-mmodule"],
        "-m package": ["-m", "package"],
        "-m package.part": ["-m", "package.part"],
        "-m namespace.part": ["-m", "namespace.part"],
        "-c": ["-c", DESCRIBE],
        "-cCODE": ["-c" + DESCRIBE],
        "folder": ["application"],
        "archive": ["application.pyz"],
    }


FORMS = [
    "script",
    "script, absolute",
    "script in .",
    "script below",
    "script beside",
    "symlink",
    "compiled",
    "-m",
    "-mMODULE",
    "-m package",
    "-m package.part",
    "-m namespace.part",
    "-c",
    "-cCODE",
    "folder",
    "archive",
]


@pytest.mark.parametrize("form", FORMS)
def test_looks_the_same_from_inside(form: str, targets: dict[str, list[str]], run_both: RunBoth) -> None:
    """sys.argv, sys.path and every dunder of __main__, in their order, are those of plain Python."""
    plain, watched = run_both(*targets[form], *ARGUMENTS)
    assert plain.returncode == 0, plain.stderr
    assert watched.stderr == plain.stderr
    assert watched.returncode == 0
    assert json.loads(watched.stdout) == json.loads(plain.stdout)


@pytest.mark.parametrize("flag", ["-P", "-O", "-B", "-u", "-s", "-bb"])
@pytest.mark.parametrize("form", ["script", "-m", "-c", "folder", "archive"])
def test_interpreter_flags_are_honoured(
    flag: str, form: str, targets: dict[str, list[str]], run_both: RunBoth
) -> None:
    """With each of Python's flags the program sees the same as under plain Python with that flag."""
    plain, watched = run_both(
        *targets[form], flags=[flag], env={"PYTHONPATH": None} if flag == "-P" else None
    )
    if flag == "-P" and watched.returncode and "lockwatch" in watched.stderr:
        pytest.skip("lockwatch is not installed here")
    if form == "-m" and flag == "-P":
        assert watched.returncode == plain.returncode == 1
        assert watched.stderr == plain.stderr
    else:
        assert json.loads(watched.stdout) == json.loads(plain.stdout)


@pytest.mark.parametrize("form", ["script", "-m package", "-c", "folder", "archive"])
def test_isolated_mode(
    form: str, targets: dict[str, list[str]], run_both: RunBoth, isolated_works: bool
) -> None:
    """``python -I`` puts nothing in front of sys.path, unless the program is a folder or an archive."""
    if not isolated_works:
        pytest.skip("lockwatch is not installed here")
    plain, watched = run_both(*targets[form], flags=["-I"])
    assert (watched.stdout, watched.stderr) == (plain.stdout, plain.stderr)
    assert watched.returncode == plain.returncode


@pytest.mark.parametrize("form", FORMS)
def test_no_warning_is_ours(form: str, targets: dict[str, list[str]], run_both: RunBoth) -> None:
    """Development mode with warnings as errors finds nothing to say about us."""
    plain, watched = run_both(*targets[form], flags=["-X", "dev", "-W", "error"])
    assert plain.returncode == 0, plain.stderr
    assert watched.stderr == plain.stderr
    assert watched.returncode == 0
    assert json.loads(watched.stdout) == json.loads(plain.stdout)


def test_program_from_standard_input(run_both: RunBoth) -> None:
    """``-`` reads the program from standard input, as ``python -`` does."""
    plain, watched = run_both("-", "-x", stdin=DESCRIBE)
    assert (watched.returncode, watched.stderr) == (0, "")
    assert json.loads(watched.stdout) == json.loads(plain.stdout)


def test_options_stop_at_the_program(run_watched: RunWatched, write: Write) -> None:
    """Our options are read up to the program, with or without ``--`` before it; all later words are the program's."""
    write("show.py", "import sys; print(sys.argv)")
    for words in (
        ["--quiet", "show.py"],
        ["--stack-depth", "5", "--", "show.py"],
        ["--mode=observe", "show.py"],
    ):
        done = run_watched(*words, "--mode", "nonsense", "--", "--version")
        assert done.stderr == ""
        assert done.stdout == "['show.py', '--mode', 'nonsense', '--', '--version']\n"


def test_classes_of_main_can_be_pickled(run_both: RunBoth, write: Write) -> None:
    """Instances of classes defined in the script go through pickle, by the name __main__."""
    write(
        "pickles.py",
        """
        import pickle
        class Thing:
            pass
        data = pickle.dumps(Thing())
        print(type(pickle.loads(data)) is Thing, b"__main__" in data)
        """,
    )
    assert run_both("pickles.py").watched.stdout == "True True\n"


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("form", ["workers.py", "-m workers", "-m team", "team"])
def test_multiprocessing_finds_main(method: str, form: str, run_watched: RunWatched, write: Write) -> None:
    """Workers find functions and classes of the main module again, whichever way the program was started."""
    program = f"""
        import multiprocessing

        class Result:
            def __init__(self, value):
                self.value = value

        def work(value):
            return Result(value * 2)

        if __name__ == "__main__":
            with multiprocessing.get_context({method!r}).Pool(2) as pool:
                print([result.value for result in pool.map(work, [1, 2, 3])])
        """
    write("workers.py", program)
    write(
        "team/__main__.py",
        f"""
        import multiprocessing
        if __name__ == "__main__":
            with multiprocessing.get_context({method!r}).Pool(2) as pool:
                # (multiprocessing itself does not look for functions in a __main__.py)
                print(pool.map(int, ["2", "4", "6"]))
        """,
    )
    done = run_watched(*form.split(), timeout=60)
    assert (done.returncode, done.stdout) == (0, "[2, 4, 6]\n"), done.stderr


def test_modules_beside_the_script_are_found(run_both: RunBoth, write: Write) -> None:
    """The script's folder is where its imports are looked up, not the working directory."""
    write("app/start.py", "import neighbour")
    write("app/neighbour.py", "print('found', __name__)")
    write("neighbour.py", "print('the wrong one')")
    assert run_both("app/start.py").watched.stdout == "found neighbour\n"


def test_folder_of_the_script_may_shadow_what_we_use(run_watched: RunWatched, write: Write) -> None:
    """Modules of the program with names of modules that lockwatch needs early do not break lockwatch."""
    for name in ("json", "argparse", "config", "delivery", "run", "errors"):
        write(f"app/{name}.py", "raise SystemExit('loaded by lockwatch')")
    write("app/start.py", "print('ran')")
    done = run_watched("app/start.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")


def test_installed_before_the_program_imports(run_watched: RunWatched, write: Write) -> None:
    """Whatever module the program imports first already gets watched locks."""
    write("first.py", "from threading import Lock, RLock\nlocks = [Lock(), RLock()]")
    write("start.py", "import first\nprint(*map(repr, first.locks))")
    done = run_watched("start.py")
    assert done.stdout.count("<unlocked ") == 2
    assert "_thread." not in done.stdout


def test_off_runs_the_program_unwatched(run_watched: RunWatched, write: Write, tmp_path: Path) -> None:
    """LOCKWATCH=off installs nothing, and still writes an empty report."""
    write("start.py", "import threading\nprint(type(threading.Lock()).__module__)")
    done = run_watched("--report", "report.json", "start.py", env={"LOCKWATCH": "off"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "_thread\n", "")
    assert json.loads((tmp_path / "report.json").read_text())["findings"] == []


def test_little_is_loaded_before_the_program(run_watched: RunWatched) -> None:
    """The runner loads none of the modules that make locks and that programs like to import themselves."""
    late = {"logging", "asyncio", "tempfile", "multiprocessing", "concurrent.futures"}
    code = f"import sys; print(*sorted({late} & set(sys.modules)))"
    assert run_watched("-c", code).stdout == os.linesep
