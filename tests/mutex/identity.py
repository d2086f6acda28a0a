"""When two states of a run are the same: everything that can still matter, as one number.

What tells two states apart: where each thread stands and what its frames may still read, the locks, and every object
that can be reached from there, numbered in the order in which it is met; so two runs that made the same things in
another order come to the same state. The number is a hash of 64 bits: that two states of one search share it by chance
is as good as impossible (about 1 in 10**8 for a million states).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.mutex.liveness import live_variables
    from tests.mutex.simulation import Agent, Parker
    from tests.mutex.world import World
else:
    from mutex_liveness import live_variables
    from mutex_simulation import Agent, Parker


def key(world: World) -> int:
    """Return a hash of everything that can still matter; threads with one program are interchangeable."""
    ids: dict[int, int] = {}
    seen: list[Any] = []

    def name(value: Any) -> Any:
        kind = type(value)
        if value is None or kind is int or kind is str or kind is bool:
            return value
        number = ids.get(id(value))
        if number is None:
            number = ids[id(value)] = len(ids)
            seen.append(value)
        return (number,)

    places: dict[Agent, tuple[int, ...]] = {}
    for lock in world.locks:
        for place, waiter in enumerate(lock._queue):
            places[waiter.agent] = (*places.get(waiter.agent, ()), place)
    rows = []
    for thread in world.threads:
        frames = [frame for generator in thread.stack for frame in frames_of(generator)]
        where = tuple([(id(frame.f_code), frame.f_lasti) for frame in frames])
        rows.append((thread.role, where, places.get(thread.agent, ()), thread.number, thread, frames))
    rows.sort()
    last = -1
    for rank, row in enumerate(rows):
        ids[id(row[4].agent)] = -1 - rank
        if row[3] == world.last:
            last = rank
    parts: list[Any] = [world.ticks, world.interrupts, world.knot]
    if world.bounded:
        parts += [last, world.preemptions]
    for role, where, _, _, thread, frames in rows:
        parts += [
            role,
            where,
            thread.expired,
            thread.handled,
            thread.interrupted,
            thread.busy,
            thread.busy_below,
        ]
        parts += [tuple(thread.within), name(thread.won)]
        for frame in frames:
            if frame.f_code.co_filename not in _OPERATIONS:
                values = frame.f_locals
                for variable in live_variables(frame.f_code, frame.f_lasti):
                    if variable in values:
                        parts.append(name(values[variable]))
        parts += [name(pending) for pending in thread.pending]
        parts += [name(wait) for wait in thread.agent.waits]
        parts.append(len(thread.agent.holds))
    for lock in world.locks:
        parts += [name(lock._state.get(0)), tuple([name(waiter) for waiter in lock._queue])]
        parts += [lock._starving, lock._taken, getattr(lock, "_count", 0)]
    for value in seen:  # grows while we go
        parts.append(_content(value, name))
    return hash(tuple(parts))


def frames_of(generator: Any) -> list[Any]:
    """Return the frames of a suspended generator and of those that it delegates to, outermost first."""
    frames = []
    while generator is not None and getattr(generator, "gi_frame", None) is not None:
        frames.append(generator.gi_frame)
        generator = generator.gi_yieldfrom
    return frames


def _content(value: Any, name: Callable[[Any], Any]) -> Any:
    """Return what tells an object from another one in its place."""
    kind = type(value)
    if kind is tuple or kind is list:
        if len(value) >= 6 and type(value[0]) is Agent:  # a hold
            return ("hold", name(value[0]), value[4], *map(name, value[6:7]))
        return (kind.__name__, *map(name, value))
    if kind is dict:
        return tuple((key, name(content)) for key, content in value.items())
    if kind is Parker:
        return value.permit
    if hasattr(value, "leaving"):  # a waiter
        references = value.agent, value.slot, value.hold, value.parker
        return (*map(name, references), value.leaving, value.since_ns, value.deadline_ns)
    return kind.__name__


_OPERATIONS = {__file__.replace("identity.py", "world.py"), __file__.replace("identity.py", "programs.py")}
"""Files whose local variables follow from where they stand, and from what is hashed anyway."""
