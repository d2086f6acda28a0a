"""The picture for the README: the victim's worst wait beside a hog, per Python, as an SVG written by hand.

Pure: results in, text out. The picture carries its own light and dark colours (``prefers-color-scheme``,
which also works in an ``<img>``), has no background, needs no font of its own, and has a title and a
description for those who can't see it.

Layout: one group per interpreter, one line each for the raw lock and lockwatch's; a dot for each round, a bar
at the median; at the right the median and the worst of the rounds in figures. The scale is logarithmic, in
milliseconds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from benchmarks.results import SIDES, Result, Row, Side, Stats, latest
from benchmarks.tables import number

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDTH = 760
MARGIN = 16
LEFT, RIGHT = 176, 158
MEDIAN, WORST = WIDTH - 84, WIDTH - MARGIN
"""Right edges of the two columns of numbers."""
TOP, BOTTOM = 106, 46
GROUP, LINE = 50, 17
"""Height of one interpreter's group, and from one line in it to the next."""

NAMES: dict[Side, str] = {"raw": "threading.Lock", "lockwatch": "lockwatch.Lock"}

STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; fill:
  #24292f } .title { font-size: 17px; font-weight: 600 } .small { font-size: 12px; fill: #57606a } .python {
  font-weight: 600 } .value { font-size: 12px; font-weight: 600; font-variant-numeric: tabular-nums } .grid {
  stroke: #d8dee4; stroke-width: 1 } .budget { stroke: #57606a; stroke-width: 1; stroke-dasharray: 4 3 } .raw
  { fill: #bc4c00 } .lockwatch { fill: #0969da } @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .small { fill: #9198a1 }
    .grid { stroke: #30363d }
    .budget { stroke: #9198a1 }
    .raw { fill: #f0883e } .lockwatch { fill: #58a6ff }
  }
"""


def draw(results: Iterable[Result], row: str = "lock_working") -> str:
    """Draws one row of the topic ``fairness`` for all interpreters of which there is a result.

    Args:
        results: Results of any kind; those without fairness are passed over, the newest of each interpreter
            counts.
        row: Name of the row.

    Returns:
        An SVG document.

    Raises:
        ValueError: No result has that row, measured on both sides.
    """
    groups: dict[str, tuple[Result, Row]] = {}
    for label, (result, topic) in latest(results, "fairness").items():
        found = topic.row(row)
        if found is not None and found.raw is not None and found.lockwatch is not None:
            groups[label] = (result, found)
    if not groups:
        raise ValueError(
            f"no result has the row {row!r} of the topic 'fairness'; run: python -m benchmarks fairness"
        )
    rows = [row for _, row in groups.values()]
    scale = _Scale([sample for row in rows for side in SIDES for sample in _stats(row, side).samples])
    bottom = TOP + GROUP * len(groups)
    height = bottom + BOTTOM
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title description">'
        ),
        '<title id="title">Longest wait for a lock beside a thread that takes it again at once</title>',
        f'<desc id="description">{escape(_description(groups))}</desc>',
        f"<style>{STYLE}</style>",
        *_heading(rows[0]),
        *_axis(scale, bottom),
        *_budget(scale, rows, bottom),
    ]
    for index, (label, (result, found)) in enumerate(groups.items()):
        parts += _group(label, result, found, scale, TOP + GROUP * index)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


class _Scale:
    """Milliseconds to x, logarithmic, over whole decades."""

    def __init__(self, samples: Iterable[float]) -> None:
        values = [max(sample, 1e-4) for sample in samples]
        self.first = math.floor(math.log10(min(values)))
        self.last = max(math.ceil(math.log10(max(values))), self.first + 1)

    def x(self, value: float) -> float:
        decades = math.log10(max(value, 1e-4)) - self.first
        return round(LEFT + decades * (WIDTH - LEFT - RIGHT) / (self.last - self.first), 1)

    def ticks(self) -> list[float]:
        return [10.0**exponent for exponent in range(self.first, self.last + 1)]


def _stats(row: Row, side: Side) -> Stats:
    stats: Stats | None = getattr(row, side)
    if stats is None:
        raise ValueError(f"{row.name}: {side} was not measured")
    return stats


def _description(groups: dict[str, tuple[Result, Row]]) -> str:
    said = [
        f"Python {label}: "
        + ", ".join(
            f"{NAMES[side]} {milliseconds(stats.median)} (worst {milliseconds(stats.max)})"
            for side in SIDES
            for stats in [_stats(row, side)]
        )
        for label, (_, row) in groups.items()
    ]
    return "Median over the rounds of the worst wait. " + "; ".join(said) + "."


def _text(x: float, y: float, content: str, look: str = "", anchor: str = "start") -> str:
    return f'<text class="{look}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(content)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, look: str) -> str:
    return f'<line class="{look}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _dot(x: float, y: float, radius: float, look: str, opacity: float = 1) -> str:
    return f'<circle class="{look}" cx="{x}" cy="{y}" r="{radius}" fill-opacity="{opacity}"/>'


def _heading(row: Row) -> list[str]:
    held, how, wanted = number(float(row.params["held_us"])), row.params["how"], row.params["wanted"]
    what = (
        f"A hog holds the lock for {held} µs ({how}) and takes it again at once; "
        f"a victim wants it {wanted} times: its worst single wait."
    )
    parts = [
        _text(MARGIN, 27, "How long can one thread keep another from a lock?", "title"),
        _text(MARGIN, 48, what, "small"),
    ]
    x = MARGIN
    for side in SIDES:
        parts += [_dot(x + 5, 69, 5, side), _text(x + 16, 73.5, NAMES[side])]
        x += 134
    parts.append(_text(x, 73.5, "a dot per round, a bar at the median", "small"))
    parts += [
        _text(edge, TOP - 1, head, "small", "end") for edge, head in ((MEDIAN, "median"), (WORST, "worst"))
    ]
    return parts


def _axis(scale: _Scale, bottom: int) -> list[str]:
    parts = []
    for tick in scale.ticks():
        x = scale.x(tick)
        parts.append(_line(x, TOP - 8, x, bottom, "grid"))
        parts.append(_text(x, bottom + 17, milliseconds(tick), "small", "middle"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(_text(middle, bottom + 36, "worst wait, logarithmic scale", "small", "middle"))
    return parts


def _budget(scale: _Scale, rows: Iterable[Row], bottom: int) -> list[str]:
    """The line that the worst wait must not cross, if it is one and the same for all."""
    limits = {row.budget.limit for row in rows if row.budget is not None}
    if len(limits) != 1:
        return []
    limit = limits.pop()
    if not scale.ticks()[0] < limit < scale.ticks()[-1]:
        return []
    x = scale.x(limit)
    return [
        _line(x, TOP - 8, x, bottom, "budget"),
        _text(x + 4, TOP - 1, f"promised: {milliseconds(limit)}", "small"),
    ]


def _group(label: str, result: Result, row: Row, scale: _Scale, top: int) -> list[str]:
    middle = top + GROUP / 2
    parts = [
        _text(MARGIN, middle, f"Python {label}", "python"),
        _text(MARGIN, middle + 15, _engine(result), "small"),
    ]
    if top > TOP:
        parts.append(_line(MARGIN, top, WIDTH - MARGIN, top, "grid"))
    for index, side in enumerate(SIDES):
        stats = _stats(row, side)
        y = middle + (index - 0.5) * LINE
        parts += [_dot(scale.x(sample), y, 4, side, 0.5) for sample in stats.samples]
        x = round(scale.x(stats.median) - 1.5, 1)
        parts.append(f'<rect class="{side}" x="{x}" y="{y - 7}" width="3" height="14" rx="1"/>')
        parts.append(_text(MEDIAN, y + 4, milliseconds(stats.median), "value", "end"))
        parts.append(_text(WORST, y + 4, milliseconds(stats.max), "value", "end"))
    return parts


def _engine(result: Result) -> str:
    return "lock hands off by itself" if result.python["lock"] == "pymutex" else "lock has no fairness"


def milliseconds(value: float) -> str:
    """``value`` with its unit, as people write it."""
    if value >= 1000:
        return f"{number(value / 1000)} s"
    if value < 0.1:
        return f"{number(value * 1000)} µs"
    return f"{value:.2g} ms" if value < 10 else f"{value:.0f} ms"
