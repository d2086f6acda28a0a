"""The unpatched primitives, captured once, before anything is replaced.

Guarantee: whatever ``lockwatch.install()`` (or another tool that came later) puts into ``threading``, our own
    code keeps
using these objects, so that lockwatch never watches or blocks on its own locks.

Assumption: this module is imported before ``install()`` replaces anything; ``lockwatch.patch`` imports it
    first.

Cost: attribute look-ups at import, nothing later.
"""

import _thread
import sys
import threading

allocate_lock = _thread.allocate_lock
get_ident = _thread.get_ident
start_new_thread = _thread.start_new_thread
ThreadLocal = _thread._local

LockType = _thread.LockType
"""The C type of a plain lock."""
RLockType: type = _thread.RLock
"""The C type of a re-entrant lock."""

Lock = threading.Lock
"""``threading.Lock`` as it was: a builtin function up to 3.12, the type itself from 3.13."""
RLock = threading.RLock
"""``threading.RLock`` as it was: a Python function in every version so far."""

TIMEOUT_MAX: float = threading.TIMEOUT_MAX
"""Longest time-out in seconds that a lock takes."""

HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether one thread at a time runs Python."""
