"""The locks for threads, and all else that threads wait for: what a program uses in place of ``threading``'s."""

from lockwatch import delivery as delivery  # the detector's voice: nothing may be imported in a deadlock
from lockwatch import leaks as leaks
from lockwatch import ordering as ordering
from lockwatch._core import watchdog as watchdog  # it looks after the threads that end
from lockwatch.locks.condition import Condition
from lockwatch.locks.lock import Lock
from lockwatch.locks.primitives import Barrier, BoundedSemaphore, Event, Semaphore
from lockwatch.locks.rlock import RLock

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]
