"""``install()``: a program's own locks become watched ones.

    import lockwatch
    lockwatch.install()

What it replaces, and in which module that is explained: the names that lead to ``threading.Lock`` and
``RLock`` (`names`, with the classes in `classes`), lock objects that exist already (`adopt`), the wait at
exit (`exits`), the methods of asyncio's locks (`aio`), and the way to children of ``multiprocessing``
(`children`). Condition, Event, Semaphore,
Queue, Timer and executors are made of these locks, so they are watched with them. `guards` says when none of
this is possible.

Guarantees:
  * Idempotent and thread-safe: a second `install` only applies its settings.
  * `uninstall` puts everything back that is still ours; watched locks that exist then go on working, and
    watching.
  * All or nothing: an `install` that fails has changed nothing.
  * Whatever a report needs is loaded now: nothing is imported in a program that is stuck.
  * lockwatch's own locks are the raw ones of `lockwatch._core.originals`, and never watched.

Cost: about 10 to 50 ms, once; see `references`.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lockwatch import config, delivery, dump, orderfile
from lockwatch import diagnosis as diagnosis
from lockwatch._core import originals
from lockwatch.errors import InstallError
from lockwatch.patch import adopt, aio, children, exits, guards, names, waits
from lockwatch.patch.adopt import UnwatchedLock, unwatched_locks

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["UnwatchedLock", "install", "installed", "is_installed", "uninstall", "unwatched_locks"]


class _State:
    """What is installed; changed only with the guard."""

    def __init__(self) -> None:
        self.installed = False
        self.blocks = 0
        """How many `installed()` blocks are open."""
        self.by_block = False
        """Whether such a block did the installing."""
        self.reports = False
        """Whether `install` opened the report file."""


_state = _State()
_guard: Any = originals.RLockType()  # no code of the program runs while it is held
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_guard._at_fork_reinit)


def install(**settings: Any) -> None:
    """Replace the locks of ``threading`` by watched ones, in this process and its ``multiprocessing`` children.

    Call it early: locks that exist already can be replaced only while no other thread runs; `unwatched_locks`
    lists those that could not. With ``mode="off"`` nothing is installed. If lockwatch is installed already,
    only the settings are applied.

    Args:
        settings: Fields of `lockwatch.Config`; they count more than ``pyproject.toml`` and the environment.

    Raises:
        ConfigError: An unknown setting or a bad value.
        InstallError: gevent, eventlet or another tool has replaced the locks of ``threading`` before.
    """
    present = config.configure(**settings)
    if present.mode == "off":
        return
    if present.cpu:
        _load_if_there("psutil")
    with _guard:
        if present.dump_signal is not None and originals.get_ident() != threading.main_thread().ident:
            raise InstallError("only the main thread can set a dump_signal: install() there, or leave it out")
        if not _state.installed:
            guards.check()
            _state.installed = True
            try:
                names.replace(sweep=present.sweep)
                adopt.adopt(allowed=present.adopt)
                waits.replace()
                aio.replace()
                exits.replace()
                children.replace()
            except BaseException:
                uninstall()
                raise
        if present.dump_signal is not None:
            dump.on_signal(present.dump_signal)
        orderfile.begin(present.order_file)
        if present.report is not None and (_state.reports or delivery._report_sink is None):
            delivery.report_to(present.report)
            _state.reports = True


def uninstall() -> None:
    """Put back what `install` replaced, as far as nobody else has replaced it since. Does nothing if not installed.

    Watched locks that the program has made go on working. Adopted ones become raw again where that is
    provably safe.
    """
    with _guard:
        if _state.installed:
            _state.installed = _state.by_block = False
            children.restore()
            exits.restore()
            aio.restore()
            waits.restore()
            dump.no_signals()
            orderfile.begin(None)
            names.restore()
            adopt.give_back()
            if _state.reports:
                delivery.report_to(None)
                _state.reports = False


def is_installed() -> bool:
    """Return whether the locks of ``threading`` are replaced by watched ones now."""
    return _state.installed


@contextmanager
def installed(**settings: Any) -> Iterator[None]:
    """Install lockwatch for a block.

    When the block ends, everything is as it was before: installed or not, with the settings of before. Blocks
    may be nested and may overlap in several threads; the last one to end uninstalls.

    Args:
        settings: As for `install`.

    Raises:
        ConfigError, InstallError: As `install`.
    """
    with _guard:
        before = config.explicit()
        was_installed = _state.installed
        install(**settings)
        _state.blocks += 1
        _state.by_block = _state.by_block or (_state.installed and not was_installed)
    try:
        yield
    finally:
        with _guard:
            _state.blocks -= 1
            if not _state.blocks and _state.by_block:
                uninstall()
            config.reset(before)


def _load_if_there(module: str) -> None:
    try:
        import_module(module)
    except Exception:  # not installed, or broken: reports do without
        pass
