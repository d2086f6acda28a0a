"""asyncio's locks, fair and with an owner: what a program uses in place of ``asyncio``'s.

    from lockwatch.aio import Lock

Guarantee: each class is a subclass of asyncio's of the same name and keeps its whole contract; the difference is
that a deadlock of tasks, or of tasks and threads, raises `lockwatch.DeadlockError` in one of them.

Importing this lets the detector read what tasks await, and who may cancel them.
"""

from lockwatch import delivery as delivery  # the detector's voice: nothing may be imported in a deadlock
from lockwatch.aio import awaits as awaits
from lockwatch.aio import cancels as cancels
from lockwatch.aio.lock import Lock
from lockwatch.aio.primitives import Barrier, BoundedSemaphore, Condition, Event, Semaphore
from lockwatch.aio.queues import LifoQueue, PriorityQueue, Queue
from lockwatch.aio.rlock import RLock

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "LifoQueue",
    "Lock",
    "PriorityQueue",
    "Queue",
    "RLock",
    "Semaphore",
]
