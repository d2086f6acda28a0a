"""A program as plain ``python`` would start it: found, read, and then run as ``__main__`` in this very process.

Guarantees, each tested side by side with plain Python: ``sys.argv`` and ``sys.path[0]`` (``-I``, ``-P`` and
``PYTHONSAFEPATH`` honoured); a ``__main__`` module with the attributes that this version of CPython gives it, so that
pickling, ``multiprocessing`` and ``python -m package`` find what they look for; scripts, compiled scripts, folders and
zip files with a ``__main__.py``, standard input (``-``), ``-m`` and ``-c``. Modules, folders and archives go through
the function of ``runpy`` that the interpreter itself calls, so their errors read the same.

Not the same: ``sys.orig_argv`` and ``sys.flags`` are those of the lockwatch command; a few frames of ours lie below the
program's (``ending`` keeps them out of tracebacks); a script whose bytes do not fit its encoding fails with the words
of ``compile()``, not those of the interpreter's file reader.

Assumption: the frame that calls ``Program.start`` belongs to the main thread.
"""

import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from types import CodeType, ModuleType


class StartError(Exception):
    """The program cannot be started; ``str()`` is the one line to show."""


class Program:
    """A program that is there and can be read, but does not run yet.

    Attributes:
        argv: its ``sys.argv``.
        path0: what the interpreter would put in front of ``sys.path``, or None for nothing.
    """

    def __init__(self, argv: list[str], path0: str | None, body: Callable[[dict[str, object]], None]) -> None:
        self.argv = argv
        self.path0 = path0
        self._body = body
        self._main = ModuleType("__main__")

    def enter(self) -> None:
        """Gives this process to the program: ``sys.argv``, ``sys.path`` and a fresh ``sys.modules["__main__"]``."""
        _leave_own_path()
        if self.path0 is not None:
            sys.path.insert(0, self.path0)
        sys.argv = self.argv
        namespace = self._main.__dict__
        namespace["__loader__"] = BuiltinImporter
        if sys.version_info < (3, 14):
            namespace["__annotations__"] = {}
        namespace["__builtins__"] = sys.modules["builtins"]
        sys.modules["__main__"] = self._main

    def start(self) -> None:
        """Runs the program to the end of its main module.

        Raises:
            BaseException: whatever it does not catch, SystemExit and SyntaxError included.
        """
        self._body(self._main.__dict__)


def load(words: Sequence[str]) -> Program:
    """Finds and reads a program.

    Args:
        words: ``["-m", module, *args]``, ``["-c", code, *args]``, or ``[script, *args]`` where the script may also be
            a folder, a zip file, or ``-`` for standard input.

    Returns:
        The program, ready to ``enter()`` and ``start()``.

    Raises:
        StartError: there is no program in ``words``, or its file cannot be read.
    """
    if not words:
        raise StartError("no program given: name a SCRIPT, -m MODULE or -c CODE")
    first, arguments = words[0], list(words[1:])
    if first in {"-m", "-c"}:
        if not arguments:
            raise StartError(f"argument expected for the {first} option")
        return (_module if first == "-m" else _command)(arguments[0], arguments[1:])
    if first == "-":
        return _script("-", "<stdin>", _read(0, "<stdin>"), arguments)
    path = os.path.join(os.getcwd(), first)  # the interpreter's way: absolute, but not normalised
    if _holds_modules(path):
        return Program([first, *arguments], path, _module_body("__main__", alter_argv=False))
    return _script(first, path, _read(path, path), arguments)


def _module(name: str, arguments: list[str]) -> Program:
    return Program(["-m", *arguments], _unless_safe(os.getcwd), _module_body(name, alter_argv=True))


def _module_body(name: str, *, alter_argv: bool) -> Callable[[dict[str, object]], None]:
    def body(_: dict[str, object]) -> None:
        import runpy

        runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]

    return body


def _command(code: str, arguments: list[str]) -> Program:
    def body(namespace: dict[str, object]) -> None:
        source = _dedented(code) + "\n"
        compiled = compile(source, "<string>", "exec", dont_inherit=True)
        _show_source(compiled, source)
        exec(compiled, namespace)

    return Program(["-c", *arguments], _unless_safe(str), body)


def _script(name: str, path: str, source: bytes, arguments: list[str]) -> Program:
    def body(namespace: dict[str, object]) -> None:
        namespace["__file__"] = path
        if sys.version_info < (3, 15):
            namespace["__cached__"] = None
        if path == "<stdin>":
            exec(compile(source, path, "exec", dont_inherit=True), namespace)
        elif path.endswith(".pyc"):
            namespace["__loader__"] = SourcelessFileLoader("__main__", path)
            exec(_compiled(source), namespace)
        else:
            namespace["__loader__"] = SourceFileLoader("__main__", path)
            exec(compile(source, path, "exec", dont_inherit=True), namespace)

    folder = "" if name == "-" else os.path.dirname(os.path.realpath(path))
    return Program([name, *arguments], _unless_safe(lambda: folder), body)


def _read(file: str | int, name: str) -> bytes:
    try:
        with open(file, "rb", closefd=file != 0) as stream:
            return stream.read()
    except OSError as error:
        raise StartError(f"can't open file {name!r}: [Errno {error.errno}] {error.strerror}") from error


def _compiled(data: bytes) -> CodeType:
    import marshal
    from importlib.util import MAGIC_NUMBER

    if data[:4] != MAGIC_NUMBER:
        raise RuntimeError("Bad magic number in .pyc file")
    code = marshal.loads(data[16:])  # noqa: S302 - the user has asked for this file to be run
    if not isinstance(code, CodeType):
        raise RuntimeError("Bad code object in .pyc file")  # noqa: TRY004 - the interpreter's words
    return code


def _holds_modules(path: str) -> bool:
    """Whether the import system takes ``path`` for a folder or an archive: the interpreter's own test."""
    for hook in sys.path_hooks:
        try:
            hook(path)
        except ImportError:
            continue
        return True
    return False


def _unless_safe(folder: Callable[[], str]) -> str | None:
    if sys.flags.safe_path:
        return None
    try:
        return folder()
    except OSError:  # the working directory is gone
        return None


def _leave_own_path() -> None:
    """Removes what the interpreter put in front of ``sys.path`` for the lockwatch command."""
    if sys.flags.safe_path or not sys.path:
        return
    own = {"", os.path.dirname(os.path.realpath(sys.argv[0])), os.path.abspath(sys.argv[0])}
    try:
        own.add(os.getcwd())
    except OSError:
        pass
    if sys.path[0] in own:
        del sys.path[0]


def _dedented(code: str) -> str:
    """``code`` without common indentation where ``python -c`` removes it: from 3.14."""
    if sys.version_info >= (3, 14) and code.lstrip("\n")[:1].isspace():
        import textwrap

        code = textwrap.dedent(code)
    return code


def _show_source(compiled: CodeType, source: str) -> None:
    """Lets tracebacks show the lines of ``-c CODE`` where plain Python does: from 3.13."""
    if sys.version_info >= (3, 13):
        import linecache

        register = getattr(linecache, "_register_code", None)
        if register is not None:
            register(compiled if hasattr(linecache, "_interactive_cache") else "<string>", source, "<string>")
