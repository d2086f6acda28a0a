"""Depth-first search through all schedules of a small program of simulated threads.

A *run* is replayed from its list of choices; states are told apart by a hash of everything that can still matter
(`identity.key`), and a state met before is not searched again. So the search is exhaustive within what the program
allows (interrupts, ticks of the clock; preemptions where it bounds them).

`World` checks each step, each state and the end. Over the whole graph it is checked here that the end can be
reached from every state: a thread that spins, or two that wake each other for ever, are found by that.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.mutex.identity import key
    from tests.mutex.programs import Program
    from tests.mutex.simulation import Mutation, Simulation, simulation
    from tests.mutex.world import Choice, Violation, World
else:
    from mutex_identity import key
    from mutex_simulation import simulation
    from mutex_world import Violation, World

LIMIT = 3_000_000


@dataclass(frozen=True)
class Result:
    """How much a search went through."""

    states: int
    steps: int
    ends: int


def explore(program: Program, mutation: Mutation | None = None, limit: int = LIMIT) -> Result:
    """Search all schedules of ``program``.

    Args:
        program: What the threads do.
        mutation: A change to the code under test.
        limit: How many states to give up after.

    Raises:
        Violation: A schedule breaks a rule; a note lists it.
        RuntimeError: There are too many states.
    """
    sim = simulation(mutation, fine=program.fine, clock=program.ticks > 0)
    numbers: dict[int, int] = {}
    reached_from: list[list[int]] = []
    samples: list[Any] = []
    ends: list[int] = []
    steps = 0
    todo: list[tuple[Any, int]] = [(None, -1)]
    while todo:
        path, parent = todo.pop()
        world = World(program, sim)
        try:
            for choice in _unroll(path):
                world.step(choice)
            while True:
                steps += 1
                number = numbers.setdefault(key(world), len(numbers))
                if number < len(reached_from):
                    reached_from[number].append(parent)
                    break
                reached_from.append([parent])
                samples.append(path)
                choices = world.choices()
                world.check(choices)
                if world.finished():
                    ends.append(number)
                    break
                if number > limit:
                    raise RuntimeError(f"more than {limit} states")
                for choice in choices[:0:-1]:
                    todo.append(((path, choice), number))
                path = (path, choices[0])
                parent = number
                world.step(choices[0])
        except Exception as error:
            error.add_note(_schedule(program, sim, _unroll(path)))
            raise
    dead = _cut_off(reached_from, ends)
    if dead:
        violation = Violation(f"livelock: the end cannot be reached from {len(dead)} states")
        shortest = min((_unroll(samples[number]) for number in dead), key=len)
        violation.add_note(_schedule(program, sim, shortest))
        raise violation
    return Result(len(numbers), steps, len(ends))


def _unroll(path: Any) -> list[Choice]:
    """Turn nested pairs, which share their beginnings, into a list."""
    choices: list[Choice] = []
    while path is not None:
        path, choice = path
        choices.append(choice)
    return choices[::-1]


def _cut_off(reached_from: list[list[int]], ends: list[int]) -> list[int]:
    """Return the states from which no end can be reached."""
    alive = set(ends)
    work = deque(ends)
    while work:
        for previous in reached_from[work.popleft()]:
            if previous >= 0 and previous not in alive:
                alive.add(previous)
                work.append(previous)
    return [number for number in range(len(reached_from)) if number not in alive]


def _schedule(program: Program, sim: Simulation, choices: list[Choice]) -> str:
    """Render a schedule: who took which step, where, and what came of it. A star is a permit."""
    world = World(program, sim)
    lines = ["schedule:"]
    for choice in choices:
        kind, number = choice
        step = f"  T{number} {kind:9} {world.where(number)}" if number >= 0 else f"  {kind}"
        try:
            world.step(choice)
        except Exception as error:
            lines += [step, f"    {type(error).__name__}: {error}"]
            break
        lines.append(f"{step:45} {world.describe()}")
    return "\n".join(lines)
