"""The values that a run of the benchmarks leaves behind, to JSON and back.

Guarantee: ``Result.from_json(result.to_json()) == result``; files are written whole or not at all (written
beside the target, then renamed). All values are frozen. The keys are documented in ``docs/benchmarks.md``.
"""

from __future__ import annotations

import json
import os
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SCHEMA = 1
RESULTS = Path(__file__).parent / "results"
"""Where recorded results live."""

Side = Literal["raw", "lockwatch"]
SIDES: tuple[Side, Side] = ("raw", "lockwatch")


@dataclass(frozen=True, slots=True)
class Stats:
    """Samples of one quantity and what is said about them.

    Attributes:
        median: The middle of the samples: the number to quote.
        low: First quartile.
        high: Third quartile.
        min: Smallest sample.
        max: Largest sample.
        samples: All of them, in the order in which they were taken.
    """

    median: float
    low: float
    high: float
    min: float
    max: float
    samples: tuple[float, ...]

    @classmethod
    def of(cls, samples: Iterable[float]) -> Stats:
        """Sums up ``samples``; at least one is needed."""
        values = tuple(float(sample) for sample in samples)
        if len(values) > 1:
            low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        else:
            low = median = high = values[0]
        return cls(median, low, high, min(values), max(values), values)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a row has to stay within.

    Attributes:
        on: The quantity that is bounded: ``ratio``, ``difference``, or the ``lockwatch`` side's own value.
        limit: Its bound; an upper one where lower is better, a lower one where higher is better.
        of: Whether the ``median`` of the rounds has to keep it, or the ``worst`` of them.
    """

    on: Literal["ratio", "difference", "lockwatch"]
    limit: float
    of: Literal["median", "worst"] = "median"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing measured.

    Attributes:
        name: Stable key, unique in its topic.
        title: The same for people.
        unit: Unit of the values of both sides and of their difference.
        better: Which way is good: ``lower`` or ``higher``.
        params: What distinguishes this row from its neighbours (number of threads, chain length, ...).
        raw: The baseline's samples, or None where there is nothing to compare with.
        lockwatch: lockwatch's samples, or None if it could not be measured.
        ratio: lockwatch divided by raw, pair by pair in the same round.
        difference: lockwatch minus raw, pair by pair.
        budget: What it has to stay within, if anything.
        detail: Whatever else the measurement knows, for each side one entry per round.
        failed: Why it could not be measured, or None.
    """

    name: str
    title: str
    unit: str
    better: Literal["lower", "higher"] = "lower"
    params: Mapping[str, int | float | str] = field(default_factory=dict)
    raw: Stats | None = None
    lockwatch: Stats | None = None
    ratio: Stats | None = None
    difference: Stats | None = None
    budget: Budget | None = None
    detail: Mapping[str, Sequence[object]] = field(default_factory=dict)
    failed: str | None = None

    @property
    def within(self) -> bool | None:
        """Whether the budget is kept; None without a budget or a value."""
        if self.budget is None:
            return None
        stats: Stats | None = getattr(self, self.budget.on)
        if stats is None:
            return None
        worst, upper = (stats.max, True) if self.better == "lower" else (stats.min, False)
        value = worst if self.budget.of == "worst" else stats.median
        return value <= self.budget.limit if upper else value >= self.budget.limit

    def to_json(self) -> dict[str, object]:
        """The row as a JSON object; ``within`` is added for readers without this module."""
        return {**asdict(self), "within": self.within}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        """The row that ``to_json`` made ``data`` from; unknown keys are ignored."""
        known = {key: data[key] for key in cls.__dataclass_fields__ if key in data}
        for key in ("raw", "lockwatch", "ratio", "difference"):
            if known.get(key) is not None:
                known[key] = Stats(**{**known[key], "samples": tuple(known[key]["samples"])})
        if known.get("budget") is not None:
            known["budget"] = Budget(**known["budget"])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Topic:
    """All rows of one topic.

    Attributes:
        name: The module's name, as given on the command line.
        title: One line.
        notes: What a reader must know to read the numbers.
        rounds: Counted rounds that were taken.
        seconds: How long it all took.
        rows: The results.
    """

    name: str
    title: str
    notes: tuple[str, ...]
    rounds: int
    seconds: float
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row | None:
        """The row called ``name``, or None."""
        return next((row for row in self.rows if row.name == name), None)

    def to_json(self) -> dict[str, object]:
        """The topic as a JSON object."""
        return {
            "title": self.title,
            "notes": list(self.notes),
            "rounds": self.rounds,
            "seconds": round(self.seconds, 3),
            "rows": [row.to_json() for row in self.rows],
        }

    @classmethod
    def from_json(cls, name: str, data: Mapping[str, Any]) -> Topic:
        """The topic that ``to_json`` made ``data`` from."""
        rows = tuple(Row.from_json(row) for row in data["rows"])
        return cls(name, data["title"], tuple(data["notes"]), data["rounds"], data["seconds"], rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run of the benchmarks on one interpreter.

    Attributes:
        date: ISO 8601, UTC, when the run began.
        lockwatch: lockwatch's version.
        implementation: Which fast path it ran: ``python`` or ``c``.
        subject: The module whose ``Lock`` and ``RLock`` stood on lockwatch's side.
        quick: Whether this was a trial run whose numbers mean nothing.
        python: The interpreter; see ``machine.python()``.
        machine: Where it ran; see ``machine.machine()``.
        topics: What was measured.
    """

    date: str
    lockwatch: str
    implementation: str
    subject: str
    quick: bool
    python: Mapping[str, object]
    machine: Mapping[str, object]
    topics: tuple[Topic, ...]

    @property
    def label(self) -> str:
        """Short name of the interpreter, such as ``3.13.0`` or ``3.14.1t`` (free-threaded)."""
        return f"{self.python['version']}{'' if self.python['gil'] else 't'}"

    def topic(self, name: str) -> Topic | None:
        """The topic called ``name``, or None."""
        return next((topic for topic in self.topics if topic.name == name), None)

    def to_json(self) -> dict[str, object]:
        """The result as a JSON object, as documented in ``docs/benchmarks.md``."""
        return {
            "schema": SCHEMA,
            "date": self.date,
            "lockwatch": self.lockwatch,
            "implementation": self.implementation,
            "subject": self.subject,
            "quick": self.quick,
            "python": dict(self.python),
            "machine": dict(self.machine),
            "topics": {topic.name: topic.to_json() for topic in self.topics},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Result:
        """The result that ``to_json`` made ``data`` from.

        Raises:
            ValueError: It has another schema.
        """
        if data.get("schema") != SCHEMA:
            raise ValueError(
                f"benchmark results of schema {data.get('schema')!r}; this program reads {SCHEMA}"
            )
        topics = tuple(Topic.from_json(name, topic) for name, topic in data["topics"].items())
        keys = ("date", "lockwatch", "implementation", "subject", "quick", "python", "machine")
        return cls(topics=topics, **{key: data[key] for key in keys})

    def save(self, path: Path) -> None:
        """Writes the result to ``path``, whole or not at all."""
        beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        beside.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")
        beside.replace(path)


def load(paths: Iterable[Path]) -> list[Result]:
    """Reads result files and sorts them by Python version, GIL builds first, then by date.

    Raises:
        ValueError: A file is not a result of the benchmarks; the message names it.
        OSError: A file cannot be read.
    """
    found = []
    for path in paths:
        try:
            found.append(Result.from_json(json.loads(path.read_text(encoding="utf-8"))))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error
    return in_order(found)


def in_order(results: Iterable[Result]) -> list[Result]:
    """``results`` by Python version, GIL builds first, then by date."""
    return sorted(results, key=lambda result: (version_key(result), result.date))


def version_key(result: Result) -> tuple[object, ...]:
    """Sorts 3.9 before 3.11 before 3.11t."""
    numbers = []
    for part in str(result.python["version"]).split("."):
        digits = "".join(character for character in part if character.isdigit())
        numbers.append(int(digits or 0))
    return (tuple(numbers), not result.python["gil"])


def latest(results: Iterable[Result], topic: str) -> dict[str, tuple[Result, Topic]]:
    """For each interpreter the newest measurement of ``topic``, by the interpreter's label, in order."""
    newest: dict[str, tuple[Result, Topic]] = {}
    for result in in_order(results):
        found = result.topic(topic)
        if found is not None:
            newest[result.label] = (result, found)
    return newest
