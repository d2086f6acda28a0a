"""What makes installing pointless or harmful, and how to say so.

gevent and eventlet can replace ``threading`` and ``_thread`` by versions for greenlets ("monkey patching").
Many greenlets share one thread then, so that "which thread holds the lock" no longer says who does, and a
wait that looks endless may be ended by another greenlet of the same thread. And if some other tool has
replaced ``threading.Lock``, the locks are no longer the ones whose contract lockwatch keeps, and undoing
could not tell whose turn it is.

Not detected: monkey patching after `install()`; its locks are then simply not watched.

Other interpreters of the process (``concurrent.interpreters``) have a ``threading`` module of their own:
`install()` concerns the interpreter that calls it.

Cost: a few look-ups.
"""

from __future__ import annotations

import _thread
import sys
import threading
from types import BuiltinFunctionType
from typing import Final

from lockwatch._core import originals
from lockwatch.errors import InstallError
from lockwatch.patch.classes import Lock, RLock

_GREEN: Final = {
    "gevent": ("gevent.monkey", "is_module_patched", "gevent.monkey.patch_all()", "patch_all(thread=False)"),
    "eventlet": (
        "eventlet.patcher",
        "is_monkey_patched",
        "eventlet.monkey_patch()",
        "monkey_patch(thread=False)",
    ),
}


def check() -> None:
    """Make sure that ``threading`` is the one that came with Python.

    Raises:
        InstallError: It is not; the message says who replaced what, and what to do.
    """
    for tool, (module, question, call, instead) in _GREEN.items():
        if _monkey_patched(module, question):
            raise InstallError(
                f"lockwatch cannot be installed: {tool} has replaced the locks of threading ({call}). They belong to "
                "greenlets, which share one thread, so it cannot be told who holds what. Run this program without "
                f"lockwatch, or keep {tool} away from threads with {instead}."
            )
    for name, ours in (("Lock", Lock), ("RLock", RLock)):
        present = getattr(threading, name)
        if present is not getattr(originals, name) and present is not ours:
            raise InstallError(
                f"lockwatch cannot be installed: threading.{name} has been replaced by {_whose(present)}. "
                "Install lockwatch before the tool that did this, or do without one of the two."
            )
    if (
        type(originals.allocate_lock) is not BuiltinFunctionType
        or _thread.allocate_lock is not originals.allocate_lock
    ):
        raise InstallError(
            "lockwatch cannot be installed: _thread.allocate_lock has been replaced by "
            f"{_whose(_thread.allocate_lock)}. "
            "Install lockwatch before the tool that did this, or do without one of the two."
        )


def _monkey_patched(module: str, question: str) -> bool:
    ask = getattr(sys.modules.get(module), question, None)
    return ask is not None and any(bool(ask(name)) for name in ("thread", "threading"))


def _whose(thing: object) -> str:
    kind = thing if isinstance(thing, type) or hasattr(thing, "__qualname__") else type(thing)
    return f"{getattr(kind, '__qualname__', '?')!r} of {getattr(kind, '__module__', '?')}"
