"""lockwatch, the lock sanitizer for Python: a deadlock raises an error that explains it, instead of hanging.

Three ways in: ``python -m lockwatch run SCRIPT`` runs a program under lockwatch; ``lockwatch.install()``
    replaces the locks of
``threading`` in the program that calls it; ``lockwatch.Lock`` and ``lockwatch.RLock`` are used by name.

Guarantee: importing this package loads nothing else of it and has no side effects; the names below are loaded
    when they are
first used (PEP 562). Cost: under 5 ms.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lockwatch.config import Config as Config
    from lockwatch.config import configure as configure
    from lockwatch.delivery import last_deadlock as last_deadlock
    from lockwatch.delivery import on_finding as on_finding
    from lockwatch.delivery import recorded_findings as recorded_findings
    from lockwatch.errors import ConfigError as ConfigError
    from lockwatch.errors import CopyError as CopyError
    from lockwatch.errors import DeadlockError as DeadlockError
    from lockwatch.errors import InstallError as InstallError
    from lockwatch.errors import LockOrderError as LockOrderError
    from lockwatch.errors import LockwatchError as LockwatchError
    from lockwatch.errors import MisuseError as MisuseError
    from lockwatch.findings import Finding as Finding
    from lockwatch.findings import Party as Party
    from lockwatch.locks import Barrier as Barrier
    from lockwatch.locks import BoundedSemaphore as BoundedSemaphore
    from lockwatch.locks import Condition as Condition
    from lockwatch.locks import Event as Event
    from lockwatch.locks import Lock as Lock
    from lockwatch.locks import RLock as RLock
    from lockwatch.locks import Semaphore as Semaphore
    from lockwatch.locks.base import LockStatistics as LockStatistics
    from lockwatch.orders import ignore as ignore
    from lockwatch.orders import lock_order as lock_order
    from lockwatch.orders import nested as nested
    from lockwatch.patch import UnwatchedLock as UnwatchedLock
    from lockwatch.patch import install as install
    from lockwatch.patch import installed as installed
    from lockwatch.patch import is_installed as is_installed
    from lockwatch.patch import uninstall as uninstall
    from lockwatch.patch import unwatched_locks as unwatched_locks
    from lockwatch.tables import holders as holders
    from lockwatch.tables import waits as waits
    from lockwatch.weights import deadlock_weight as deadlock_weight
    from lockwatch.weights import set_deadlock_weight as set_deadlock_weight

__version__ = "0.1.0"

_HOMES = {
    "Barrier": "locks",
    "BoundedSemaphore": "locks",
    "Condition": "locks",
    "Config": "config",
    "ConfigError": "errors",
    "CopyError": "errors",
    "DeadlockError": "errors",
    "Event": "locks",
    "Finding": "findings",
    "InstallError": "errors",
    "Lock": "locks",
    "LockOrderError": "errors",
    "LockStatistics": "locks.base",
    "LockwatchError": "errors",
    "MisuseError": "errors",
    "Party": "findings",
    "RLock": "locks",
    "Semaphore": "locks",
    "UnwatchedLock": "patch",
    "configure": "config",
    "deadlock_weight": "weights",
    "holders": "tables",
    "ignore": "orders",
    "install": "patch",
    "installed": "patch",
    "is_installed": "patch",
    "last_deadlock": "delivery",
    "lock_order": "orders",
    "nested": "orders",
    "recorded_findings": "delivery",
    "on_finding": "delivery",
    "set_deadlock_weight": "weights",
    "uninstall": "patch",
    "unwatched_locks": "patch",
    "waits": "tables",
}

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Config",
    "ConfigError",
    "CopyError",
    "DeadlockError",
    "Event",
    "Finding",
    "InstallError",
    "Lock",
    "LockOrderError",
    "LockStatistics",
    "LockwatchError",
    "MisuseError",
    "Party",
    "RLock",
    "Semaphore",
    "UnwatchedLock",
    "__version__",
    "configure",
    "deadlock_weight",
    "holders",
    "ignore",
    "install",
    "installed",
    "is_installed",
    "last_deadlock",
    "lock_order",
    "nested",
    "on_finding",
    "recorded_findings",
    "set_deadlock_weight",
    "uninstall",
    "unwatched_locks",
    "waits",
]


def __getattr__(name: str) -> object:
    """Load a public name from its module when it is first used."""
    home = _HOMES.get(name)
    if home is None and name != "aio":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if home is None:
        return import_module(f"{__name__}.{name}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
