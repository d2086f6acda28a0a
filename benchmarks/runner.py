"""The runner: takes the samples of a topic's cases in interleaved rounds, A B A B, in this process.

A round measures each case once, both sides one after the other (raw, then lockwatch). A busy second of the
machine therefore falls on both sides and on few samples of each case. The ratio is taken pair by pair, within
one round, and its median is the number to quote. One round before the counted ones warms everything up and is
thrown away.

Guarantee: a case that fails becomes a row that says why; the others are still measured. The garbage collector
stays on, as in a program, but starts each round with nothing to collect.
"""

from __future__ import annotations

import gc
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar, cast

from benchmarks.results import SIDES, Budget, Row, Side, Stats, Topic


@dataclass(frozen=True, slots=True)
class Reading:
    """One sample with something to tell about it; ``detail`` must be fit for JSON."""

    value: float
    detail: object = None


Measure = Callable[[], "float | Reading"]
"""Takes one sample, in the case's unit."""


class UnavailableError(Exception):
    """Raised by a measurement that cannot be taken here; the text goes into the row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row to be: what is measured on lockwatch's side and, if there is a baseline, on the raw side.

    Attributes:
        name: Stable key, unique in the topic.
        title: The same for people.
        unit: Unit of the samples.
        lockwatch: Takes one sample of ours.
        raw: Takes one sample of the baseline, or None.
        better: ``lower`` or ``higher``.
        compare: How the sides are compared.
        budget: What it has to stay within, if anything.
        params: What distinguishes it from its neighbours.
    """

    name: str
    title: str
    unit: str
    lockwatch: Measure
    raw: Measure | None = None
    better: Literal["lower", "higher"] = "lower"
    compare: Literal["ratio", "difference"] = "ratio"
    budget: Budget | None = None
    params: Mapping[str, int | float | str] = field(default_factory=dict)


class LockLike(AbstractContextManager[object], Protocol):
    """What the benchmarks ask of a lock."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Takes the lock."""

    def release(self) -> None:
        """Lets it go."""


Factory = Callable[[], LockLike]
F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Locks:
    """The two classes of one side."""

    Lock: Factory
    RLock: Factory


@dataclass(frozen=True, slots=True)
class Setup:
    """What a topic is given.

    Attributes:
        quick: A trial run: the least work that goes through all the code; numbers mean nothing.
        raw: The interpreter's own locks.
        lockwatch: lockwatch's locks, or what was put in their place.
    """

    quick: bool
    raw: Locks
    lockwatch: Locks

    def sides(self) -> Iterator[tuple[Side, Locks]]:
        """Both sides by name."""
        yield "raw", self.raw
        yield "lockwatch", self.lockwatch


class TopicModule(Protocol):
    """What a topic's module offers."""

    TITLE: str
    NOTES: tuple[str, ...]
    ROUNDS: int

    def cases(self, setup: Setup, /) -> Sequence[Case]:
        """The cases, in the order of the table."""


def run(name: str, module: TopicModule, setup: Setup, *, rounds: int | None = None) -> Topic:
    """Measures one topic.

    Args:
        name: The topic's name.
        module: Its module.
        setup: What it measures.
        rounds: Counted rounds; the topic's own number if None.

    Returns:
        All rows. Those that could not be measured say so in ``failed``.
    """
    counted = rounds or (1 if setup.quick else module.ROUNDS)
    began = time.perf_counter()
    cases = module.cases(setup)
    samples: dict[str, dict[Side, list[Reading]]] = {case.name: {} for case in cases}
    failed: dict[str, str] = {}
    for turn in range(-1, counted):
        gc.collect()
        for position, case in enumerate(cases, 1):
            if case.name in failed:
                continue
            progress(f"{name}: round {turn + 1}/{counted}, {position}/{len(cases)} {case.name}")
            try:
                readings = one_round(case)
            except Exception as error:
                failed[case.name] = f"{type(error).__name__}: {error}"
                continue
            if turn >= 0:
                for side, reading in readings.items():
                    samples[case.name].setdefault(side, []).append(reading)
    progress("")
    rows = tuple(summary(case, samples[case.name], failed.get(case.name)) for case in cases)
    return Topic(name, module.TITLE, module.NOTES, counted, time.perf_counter() - began, rows)


def one_round(case: Case) -> dict[Side, Reading]:
    """One sample of each side, raw first."""
    readings: dict[Side, Reading] = {}
    for side in SIDES:
        measure: Measure | None = getattr(case, side)
        if measure is not None:
            sample = measure()
            readings[side] = sample if isinstance(sample, Reading) else Reading(sample)
    return readings


def summary(case: Case, samples: Mapping[Side, Sequence[Reading]], failed: str | None) -> Row:
    """What ``samples`` say about ``case``."""
    stats: dict[str, Stats] = {}
    if failed is None:
        values = {side: [reading.value for reading in readings] for side, readings in samples.items()}
        stats = {side: Stats.of(readings) for side, readings in values.items()}
        if len(values) == len(SIDES):
            pairs = list(zip(values["raw"], values["lockwatch"], strict=True))
            if case.compare == "difference":
                stats["difference"] = Stats.of(ours - raw for raw, ours in pairs)
            elif all(raw > 0 for raw, _ in pairs):
                stats["ratio"] = Stats.of(ours / raw for raw, ours in pairs)
    return Row(
        name=case.name,
        title=case.title,
        unit=case.unit,
        better=case.better,
        params=dict(case.params),
        raw=stats.get("raw"),
        lockwatch=stats.get("lockwatch"),
        ratio=stats.get("ratio"),
        difference=stats.get("difference"),
        budget=case.budget,
        detail={
            side: [reading.detail for reading in readings]
            for side, readings in samples.items()
            if any(reading.detail is not None for reading in readings)
        },
        failed=failed,
    )


def progress(text: str) -> None:
    """Shows where the run is, on a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def fresh(function: F) -> F:
    """A copy of ``function`` with bytecode of its own.

    The interpreter specialises bytecode for the types that it has seen. Both sides of a comparison through
    one function would spoil it for each other, which no program does to itself.
    """
    assert isinstance(function, types.FunctionType)
    return cast("F", types.FunctionType(function.__code__.replace(), function.__globals__, function.__name__))


def spins(seconds: float) -> int:
    """How many turns of an empty ``for`` loop over a range take ``seconds`` in one thread.

    Best of several tries: what the loop costs when nothing disturbs it.
    """
    turns = 20_000
    best = min(_spin(range(turns)) for _ in range(20))
    return max(1, round(turns * seconds / best))


def _spin(turns: range) -> float:
    start = time.perf_counter()
    for _ in turns:
        pass
    return time.perf_counter() - start
