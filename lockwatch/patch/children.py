"""Children of ``multiprocessing``: lockwatch is installed there, too, with the same settings and report file.

A forked child has everything already. A child of the start methods ``spawn`` and ``forkserver`` is a new
interpreter, to which ``multiprocessing.spawn.get_preparation_data`` sends a dict (pickled; all three
``popen_*`` modules call it, on every version), and ``prepare()`` there ignores the keys that it does not
know. So one entry is added, whose unpickling installs lockwatch, before the program's ``__main__`` is
imported. If that fails in the child, it says so on stderr and goes on without.

``multiprocessing`` is often imported after `install()`; `lockwatch.patch.postimport` waits for it.

Not followed: Pythons started by ``subprocess`` or ``os.exec``; use ``lockwatch run`` in their command line.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

from lockwatch import config, delivery
from lockwatch.patch import postimport

if TYPE_CHECKING:
    from collections.abc import Callable

_MODULE: Final = "multiprocessing.spawn"
_KEY: Final = "lockwatch"
_ROOT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Executed by pickle in the child, where sys.path is not yet the parent's. Nothing it does may fail: the child
# would not start.
_BEGIN: Final = """\
try:
    import sys
    path = sys.path[:]
    sys.path.append({root!r})
    try:
        from lockwatch.patch.children import begin
    finally:
        sys.path[:] = path
    begin({settings!r}, {printing!r})
except Exception as error:
    print(f"lockwatch: not installed in this child process: {{type(error).__name__}}: {{error}}", file=sys.stderr)
"""


class _Begin:
    """Installs lockwatch where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        settings = config.current().to_dict()
        printing = delivery._print_sink is not None
        return exec, (_BEGIN.format(root=_ROOT, settings=settings, printing=printing), {})


def begin(settings: dict[str, object], printing: bool) -> None:
    """Install lockwatch in a child process.

    Args:
        settings: The parent's configuration.
        printing: Whether the parent prints findings to stderr.
    """
    from lockwatch import patch

    patch.install(**settings)
    if printing:
        delivery.print_to(2)


class _Wrapper:
    """One replacement of ``get_preparation_data``, and whether it is in force."""

    __slots__ = ("active", "original")

    def __init__(self, original: Callable[[str], dict[str, object]]) -> None:
        self.original = original
        self.active = True

    def __call__(self, name: str) -> dict[str, object]:
        data = self.original(name)
        return {**data, _KEY: _Begin()} if self.active else data


_wrapper: _Wrapper | None = None


def replace() -> None:
    """Have children install lockwatch, now or as soon as ``multiprocessing`` is loaded."""
    postimport.when_loaded(_MODULE, _wrap)


def restore() -> None:
    """Let children start as they would without lockwatch."""
    global _wrapper
    postimport.forget(_MODULE)
    if _wrapper is not None:
        _wrapper.active = False
        module: Any = sys.modules.get(_MODULE)
        if module is not None and module.get_preparation_data is _wrapper:
            module.get_preparation_data = _wrapper.original
    _wrapper = None


def _wrap(module: Any) -> None:
    global _wrapper
    _wrapper = module.get_preparation_data = _Wrapper(module.get_preparation_data)
