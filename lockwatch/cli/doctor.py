"""``lockwatch doctor``: say what this installation runs on: fast path, lock engine, GIL, what is patched.

For bug reports, and to see whether the C fast path was built. Installs lockwatch in its own process to see what that
changes; nothing else of the process is used.

Cost: a tenth of a second.
"""

import argparse
import sys

_MODULES = ("threading", "_thread", "queue", "concurrent.futures", "concurrent.futures.thread")
_CLASSES = ("Thread", "Condition", "Event", "Semaphore", "Barrier")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the doctor has no options."""
    parser.epilog = "exit status: 0 if the C fast path runs, 1 if the one in Python does"


def execute(options: argparse.Namespace) -> int:  # noqa: ARG001 - the interface of a verb
    """Prints the findings.

    Args:
        options: not used.

    Returns:
        0 if the C fast path runs, else 1.
    """
    from lockwatch._core import fastpath

    for title, text in facts():
        print(f"{title:11} {text}")
    return 0 if fastpath.IMPLEMENTATION == "c" else 1


def facts() -> list[tuple[str, str]]:
    """Returns what there is to say, as (title, text)."""
    import platform

    import lockwatch
    from lockwatch import config
    from lockwatch._core import fastpath

    twin = "C" if fastpath.IMPLEMENTATION == "c" else f"Python: {fastpath.REASON}"
    changed, unwatched = _patched()
    return [
        ("lockwatch", f"{lockwatch.__version__}, mode {config.current().mode}"),
        ("python", f"{platform.python_implementation()} {platform.python_version()} ({sys.platform})"),
        ("fast path", twin),
        ("locks", f"threading.Lock is a {lock_engine()}"),
        ("GIL", gil()),
        ("patched", ", ".join(changed) or "nothing"),
        ("unwatched", unwatched),
    ]


def lock_engine() -> str:
    """Returns what ``threading.Lock`` is made of here.

    Decided by version, as ``sys.thread_info.lock`` tells of the old engine also where the locks are new already.
    """
    if sys.version_info >= (3, 13, 1):
        return "PyMutex"
    return {"semaphore": "semaphore (futex)", "mutex+cond": "mutex and condition variable"}.get(
        str(sys.thread_info.lock), str(sys.thread_info.lock)
    )


def gil() -> str:
    """Returns whether threads run in parallel."""
    import sysconfig

    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "on"
    on = getattr(sys, "_is_gil_enabled", lambda: True)()
    return "on, in a free-threaded build: something has switched it on" if on else "off (free-threaded)"


def _patched() -> tuple[list[str], str]:
    """Returns the names that `install()` changes, and a word on the locks that were there before."""
    import lockwatch

    before = _names()
    lockwatch.install()
    try:
        now = _names()
        changed = sorted(name for name, value in now.items() if before.get(name, value) is not value)
        left = len(lockwatch.unwatched_locks())
    finally:
        lockwatch.uninstall()
    return changed, f"{left} of the locks made before install()"


def _names() -> dict[str, object]:
    import importlib

    found: dict[str, object] = {}
    for module in _MODULES:
        for name, value in vars(importlib.import_module(module)).items():
            if callable(value):
                found[f"{module}.{name}"] = value
                if module == "threading" and name in _CLASSES:
                    found |= {
                        f"{module}.{name}.{key}": one for key, one in vars(value).items() if callable(one)
                    }
    return found
