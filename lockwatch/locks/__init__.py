"""The locks for threads: what a program uses in place of those of ``threading``."""

from lockwatch import (
    delivery as delivery,
)  # the detector's way to say what it found; nothing may be imported in a deadlock
from lockwatch.locks.lock import Lock
from lockwatch.locks.rlock import RLock

__all__ = ["Lock", "RLock"]
