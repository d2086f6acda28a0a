"""Results as tables: plain text after a run, Markdown for the documentation. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.results import Budget, Result, Row, Stats, Topic, latest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def text(result: Result) -> str:
    """One run as plain text: medians, the comparison with its middle half, what was not within budget."""
    measured = f"Python {result.label} ({result.python['lock']} lock), lockwatch {_ours(result)}"
    lines = [f"{measured}, {_place(result)}, {result.date}"]
    if result.quick:
        lines.append("quick: a trial run, the numbers mean nothing")
    for topic in result.topics:
        lines += ["", f"{topic.title} ({topic.rounds} rounds, {topic.seconds:.1f} s)"]
        width = max((len(row.title) for row in topic.rows), default=0)
        for row in topic.rows:
            lines.append(f"  {row.title:{width}}  {_line(row)}")
    return "\n".join(lines)


def _line(row: Row) -> str:
    if row.failed:
        return f"not measured: {row.failed}"
    parts = []
    if row.raw is not None:
        parts.append(f"raw {number(row.raw.median):>8} ({number(row.raw.min)} to {number(row.raw.max)})")
    if row.lockwatch is not None:
        spread = f"({number(row.lockwatch.min)} to {number(row.lockwatch.max)})"
        parts.append(f"lockwatch {number(row.lockwatch.median):>8} {row.unit} {spread}")
    if row.ratio is not None:
        parts.append(
            f"ratio {number(row.ratio.median)} ({number(row.ratio.low)} to {number(row.ratio.high)})"
        )
    if row.difference is not None:
        parts.append(f"difference {number(row.difference.median)} {row.unit}")
    if row.within is False and row.budget is not None:
        parts.append(f"OVER BUDGET ({budget_text(row, row.budget)})")
    return "  ".join(parts)


_IMPLEMENTATIONS = {"c": "The C fast path", "python": "The Python twin (`LOCKWATCH_PURE=1`)"}


def markdown(results: Iterable[Result], topics: Sequence[str]) -> str:
    """One part per fast path that ran; in it one table per topic, a column per interpreter, its newest measurement.

    Args:
        results: The results.
        topics: The topics to show, in this order.
    """
    results = sorted(results, key=lambda result: result.implementation)
    parts = []
    for ran in dict.fromkeys(result.implementation for result in results):
        mine = [result for result in results if result.implementation == ran]
        measured = {topic.name for result in mine for topic in result.topics}
        parts += [
            f"### {_IMPLEMENTATIONS.get(ran, ran)}",
            _sources(mine),
            *(_topic(mine, name) for name in topics if name in measured),
        ]
    return "\n\n".join(parts)


def _sources(results: Sequence[Result]) -> str:
    rows = [
        [
            result.label,
            str(result.python["lock"]),
            _place(result),
            result.date[:10],
            _ours(result),
            ", ".join(topic.name for topic in result.topics),
        ]
        for result in results
    ]
    return _table(["Python", "its lock", "machine", "date", "lockwatch", "topics"], rows)


def _topic(results: Sequence[Result], name: str) -> str:
    columns = latest(results, name)
    newest = max(columns.values(), key=lambda column: column[0].date)[1]
    topics: list[Topic] = [topic for _, topic in columns.values()]
    keys = list(dict.fromkeys(row.name for topic in (newest, *topics) for row in topic.rows))
    lines = []
    for key in keys:
        rows = [topic.row(key) for topic in topics]
        shown = next(row for row in rows if row is not None)
        budgets = dict.fromkeys(
            budget_text(row, row.budget) for row in rows if row is not None and row.budget
        )
        lines.append([shown.title, shown.unit, *(cell(row) for row in rows), " / ".join(budgets)])
    header = ["", "unit", *columns, "budget"]
    notes = "\n".join(f"- {note}" for note in newest.notes)
    return f"#### {newest.title}\n\n{notes}\n\n{_table(header, lines)}"


def cell(row: Row | None) -> str:
    """One row on one interpreter: ``raw → lockwatch, comparison``.

    Bold if it is not within its budget; the worst round in brackets where the budget is about that.
    """
    if row is None:
        return ""
    if row.failed or row.lockwatch is None:
        return "not measured"
    shown = _median(row, row.lockwatch)
    if row.raw is not None:
        shown = f"{_median(row, row.raw)} → {shown}"
    if row.ratio is not None:
        shown += f", {number(row.ratio.median)}\N{MULTIPLICATION SIGN}"
    elif row.difference is not None:
        shown += f", {_signed(row.difference)}"
    return f"**{shown}**" if row.within is False else shown


def _median(row: Row, stats: Stats) -> str:
    shown = number(stats.median)
    if row.budget is not None and row.budget.of == "worst" and row.better == "lower":
        shown += f" (≤ {number(stats.max)})"
    return shown


def _signed(stats: Stats) -> str:
    return f"{'+' if stats.median >= 0 else ''}{number(stats.median)}"


def budget_text(row: Row, budget: Budget) -> str:
    """Such as ``ratio ≤ 4`` or ``lockwatch, worst ≤ 10 ms``."""
    sign = "≤" if row.better == "lower" else "≥"
    unit = "" if budget.on == "ratio" else f" {row.unit}"
    of = ", worst" if budget.of == "worst" else ""
    return f"{budget.on}{of} {sign} {number(budget.limit)}{unit}"


def number(value: float) -> str:
    """``value`` to three figures, in plain digits, with separators from ten thousand on."""
    size = abs(value)
    if size >= 10_000:
        digits = 10 ** (len(str(int(size))) - 3)
        return f"{round(value / digits) * digits:,}"
    if size >= 100 or value == 0:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}".removesuffix(".0")
    if size >= 1:
        return f"{value:.2f}".rstrip("0").removesuffix(".")
    return f"{value:.3g}"


def _ours(result: Result) -> str:
    """What stood on lockwatch's side."""
    if result.subject == "lockwatch.locks":
        return f"{result.lockwatch}, {result.implementation}"
    return f"({result.subject})"


def _place(result: Result) -> str:
    return f"{result.machine['cpu']}, {result.machine['cores']} cores"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    escaped = [[text.replace("|", "\\|") for text in row] for row in (header, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    lines.insert(1, "|" + "---|" * len(header))
    return "\n".join(lines)
