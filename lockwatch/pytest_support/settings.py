"""The plugin's settings: marker > command line > environment > ini > ``[tool.lockwatch]`` > default.

Guarantee: a value that cannot be, wherever it stands, is a ``pytest.UsageError`` that says where and what is
allowed, before any test runs; for a marker, when its test begins.

Cost: read once for the session, and once for each test that has the marker.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from lockwatch import config as core
from lockwatch.errors import ConfigError
from lockwatch.findings import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ORDERS = ("off", "warn", "error")
"""What a conflict of lock orders is: not looked for, told, or a failure."""

LEAKS = ("threads", "tasks", "locks")
"""What a test can leave behind."""

_ARGUMENTS = ("enabled", "order", "stall", "allow")
_MOST_SECONDS = 1e9


@dataclass(frozen=True)
class Settings:
    """What holds for one test, or for the session.

    Attributes:
        order: one of ORDERS.
        stall: seconds for which a test's threads may stand still; 0 for ever.
        report: absolute path of the JSON report; None for none.
        mode: ``raise`` or ``observe``, as for `lockwatch.Config`.
        enabled: whether findings and leaks fail the test.
        allow: kinds of findings, kinds of leaks and fingerprints that are no failure.
    """

    order: str = "error"
    stall: float = 0.0
    report: str | None = None
    mode: str = "raise"
    enabled: bool = True
    allow: frozenset[str] = frozenset()


def of_session(config: pytest.Config, options: Any) -> Settings:
    """Read the settings of all layers but the markers.

    Args:
        config: pytest's, perhaps an early one: inis can be read.
        options: the parsed command line.

    Raises:
        pytest.UsageError: a value that cannot be.
    """
    try:
        table, loaded = core._from_pyproject(), core.Config.load()
    except ConfigError as error:
        raise pytest.UsageError(f"lockwatch: {error}") from error

    def first(name: str, check: Callable[[object, str], Any], fallback: Any) -> Any:
        for where, value in _layers(config, options, name):
            if value not in (None, ""):
                return check(value, where)
        return fallback

    return Settings(
        order=first("order", _order, _order(table.get("order", "error"), "[tool.lockwatch]: order")),
        stall=first("stall", _seconds, table.get("stall") or 0.0),
        report=first("report", lambda value, _where: _absolute(value), table.get("report")),
        mode="observe" if loaded.mode == "observe" else "raise",
    )


def of_test(base: Settings, item: pytest.Item) -> Settings:
    """Return the settings of one test: the session's, with what its markers say; the nearest one counts.

    Raises:
        pytest.UsageError: an argument that does not exist, or a value that cannot be.
    """
    for mark in reversed(list(item.iter_markers("lockwatch"))):
        where = f"{item.nodeid}: @pytest.mark.lockwatch"
        unknown = [name for name in mark.kwargs if name not in _ARGUMENTS]
        if mark.args or unknown:
            what = f"the argument {unknown[0]!r}" if unknown else "arguments without a name"
            raise pytest.UsageError(f"{where} does not take {what}; it takes {', '.join(_ARGUMENTS)}")
        given: dict[str, Any] = {name: value for name, value in mark.kwargs.items() if value is not None}
        if "order" in given:
            given["order"] = _order(given["order"], where)
        if "stall" in given:
            given["stall"] = _seconds(given["stall"], where)
        if "enabled" in given and not isinstance(given["enabled"], bool):
            raise pytest.UsageError(f"{where}: enabled cannot be {given['enabled']!r}; it is True or False")
        if "allow" in given:
            given["allow"] = base.allow | _allowed(given["allow"], where)
        base = replace(base, **given)
    return base


def _layers(config: pytest.Config, options: Any, name: str) -> Iterator[tuple[str, object]]:
    yield f"--lockwatch-{name}", getattr(options, f"lockwatch_{name}", None)
    yield f"environment: LOCKWATCH_{name.upper()}", os.environ.get(f"LOCKWATCH_{name.upper()}", "").strip()
    value = config.getini(f"lockwatch_{name}")
    if name == "report" and value and config.inipath is not None:
        value = os.path.join(config.inipath.parent, str(value))
    yield f"ini: lockwatch_{name}", value


def _order(value: object, where: str) -> str:
    word = str(value).strip().lower()
    word = "error" if word == "raise" else word  # as `lockwatch run` calls it
    if word not in ORDERS:
        raise pytest.UsageError(f"lockwatch: {where} cannot be {value!r}; it must be off, warn or error")
    return word


def _seconds(value: object, where: str) -> float:
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MOST_SECONDS:
        raise pytest.UsageError(f"lockwatch: {where} cannot be {value!r}; it must be a number of seconds")
    return seconds


def _absolute(value: object) -> str:
    return os.path.abspath(os.path.expanduser(str(value)))


def _allowed(value: object, where: str) -> frozenset[str]:
    names: Iterable[object] = (value,) if isinstance(value, str) else value  # type: ignore[assignment]
    try:
        found = frozenset(str(name) for name in names)
    except TypeError:
        raise pytest.UsageError(
            f"{where}: allow cannot be {value!r}; it is a name or a list of them"
        ) from None
    for name in found:
        if name not in KINDS and name not in LEAKS and not _is_fingerprint(name):
            words = ", ".join((*KINDS, *LEAKS))
            raise pytest.UsageError(f"{where}: allow cannot hold {name!r}; it takes {words} or a fingerprint")
    return found


def _is_fingerprint(name: str) -> bool:
    return len(name) == 16 and all(character in "0123456789abcdef" for character in name)
