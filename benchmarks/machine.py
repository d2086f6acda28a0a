"""What the numbers were measured on: interpreter, machine, lockwatch, date.

Reads, never fails: what cannot be found out is said to be unknown.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
import sys
import threading
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def python() -> dict[str, object]:
    """The interpreter: version, build, whether the GIL is on, its lock, its switch interval in seconds."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "build": " ".join(sys.version.split()),
        "compiler": platform.python_compiler(),
        "gil": bool(gil),
        "lock": lock_engine(),
        "switch_interval": sys.getswitchinterval(),
    }


def lock_engine() -> str:
    """What ``threading.Lock`` is made of: ``pymutex`` (hands off after 1 ms) or, say, ``semaphore``.

    Decided by version: ``sys.thread_info.lock`` says "semaphore" also where the lock is a PyMutex already
    (3.13.1 to 3.14).
    """
    return "pymutex" if sys.version_info >= (3, 13, 1) else str(sys.thread_info.lock)


def old_engine() -> bool:
    """Whether ``threading.Lock`` is that of before 3.13.1, against which pure Python has its budgets."""
    return sys.version_info < (3, 13, 1)


def machine() -> dict[str, object]:
    """The machine: processor, cores that this process may use, system, load average of the last minute."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 0
    try:
        load = round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        load = None
    return {
        "cpu": cpu_model(),
        "cores": cores,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": load,
        "threads_alive": threading.active_count(),
    }


def cpu_model() -> str:
    """The processor's name as the system gives it, or "unknown"."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def lockwatch_version() -> str:
    """The version of this checkout, from the package or else from ``pyproject.toml``."""
    import lockwatch

    version = getattr(lockwatch, "__version__", None)
    if version is None:
        with open(ROOT / "pyproject.toml", "rb") as file:
            version = tomllib.load(file)["project"]["version"]
    return str(version)


def implementation() -> str:
    """Which fast path lockwatch runs here: ``python`` or ``c``."""
    from lockwatch._core import fastpath

    return str(fastpath.IMPLEMENTATION)


def now() -> str:
    """The date and time, UTC, ISO 8601, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
