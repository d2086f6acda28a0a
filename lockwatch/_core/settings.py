"""The few knobs that the mechanism itself reads, as plain module variables.

Guarantee: each is one immutable value that is replaced whole, so reading it needs no lock, with and without
the GIL.

Assumption: only ``lockwatch.config.apply`` writes here (and tests). Readers write ``settings.NAME`` each time
(never ``from ... import NAME``), so that a change takes effect at once.

Cost: one module attribute look-up for each read.
"""

starvation_threshold_ns: int = 1_000_000
"""Nanoseconds of waiting after which a waiter switches its lock to hand-off (starvation mode)."""

reacquire_grace_ns: int = 1_000_000_000
"""Nanoseconds for which a second bare ``acquire()`` by one thread may hope for another's release."""

watch: bool = True
"""Whether anything is looked for at all (any mode but ``off``)."""

raise_deadlocks: bool = True
"""Whether a victim gets the error (mode ``raise``); else the finding is only reported."""

stall_ns: int | None = None
"""Nanoseconds of waiting for a lock after which it is said to be stalled; None for never."""

stall_exit_ns: int | None = None
"""Nanoseconds of waiting for a lock after which the process is given up, with a full report; None for never."""

loop_block_ns: int | None = 100_000_000
"""Nanoseconds of waiting for a lock in an event loop's thread after which that is reported; None for never."""

respect_foreign_threads: bool = True
"""Whether a thread unknown to Python counts as able to end a wait that anybody could end."""

held_across_await: bool = False
"""Whether a task that awaits while it holds a thread's lock is reported."""

order: bool = True
"""Whether the order in which locks are taken is learned."""

order_raises: bool = False
"""Whether an acquire that closes a cycle of orders raises; else the finding is only reported."""

order_locks: int = 10_000
"""Locks, and lock classes, whose order is remembered."""

order_edges: int = 100_000
"""Orders of two locks, and of two lock classes, that are remembered."""
