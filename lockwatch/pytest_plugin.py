"""The pytest plugin: a test that deadlocks fails, with the reason, and the run goes on.

This module is what pytest loads (entry point ``pytest11``): options, inis, the marker, the fixture, one hook of
its own. All that does something lies in `lockwatch.pytest_support`, which is imported when it is switched on, by
``--lockwatch`` or ini ``lockwatch = true``.

Guarantee: until then nothing of lockwatch is imported but this module and the package ``lockwatch`` itself, which
Python imports before any module in it and which is empty (its names are loaded at their first use); nothing is
patched, and no hook does more than a look at the options.

Cost: that of this module, under a millisecond.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lockwatch.findings import Finding
    from lockwatch.pytest_support.view import View

NAME = "lockwatch-session"
"""The name under which the part that does something is registered."""

MARKER = (
    "lockwatch(enabled=True, order=None, stall=None, allow=()): settings of lockwatch for this test; `allow` names"
    " what is no failure: kinds of findings ('deadlock', 'lock-order', 'leak', 'misuse', 'stall'), kinds of leaks"
    " ('threads', 'tasks', 'locks') or fingerprints"
)

OFF_WORDS = frozenset({"off", "0", "false", "no"})


class Hooks:
    """The hook that lockwatch offers."""

    @pytest.hookspec(firstresult=True)
    def pytest_lockwatch_finding(self, item: pytest.Item | None, finding: Finding) -> bool | Finding | None:
        """Veto or enrich a finding; called in the test's own thread when a phase of it is over.

        Args:
            item: The test that the finding was made in, or None for one outside of any test.
            finding: What was found.

        Returns:
            False to have it forgotten, another Finding to have that in its place, None or True to leave it.
        """


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hook."""
    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options and the inis of the same names."""
    group = parser.getgroup("lockwatch", "lockwatch, the lock sanitizer")
    switch = "watch locks: a test that deadlocks fails, with the reason, and the run goes on"
    group.addoption("--lockwatch", action="store_true", default=None, help=switch)
    order = "whether conflicting lock orders go unnoticed, are told, or fail the test (error)"
    group.addoption("--lockwatch-order", choices=("off", "warn", "error"), default=None, help=order)
    stall = "fail a test whose threads have stood still for so long, and go on or end the run; 0: never (0)"
    group.addoption("--lockwatch-stall", type=float, metavar="SECONDS", default=None, help=stall)
    report = "write all findings to FILE as JSON"
    group.addoption("--lockwatch-report", metavar="FILE", default=None, help=report)
    parser.addini("lockwatch", switch, type="bool", default=False)
    for name, text in (("order", order), ("stall", stall), ("report", report)):
        parser.addini(f"lockwatch_{name}", text, type="string", default="")


def _wanted(config: pytest.Config, options: Any) -> bool:
    if getattr(options, "lockwatch", None):
        return True
    off = os.environ.get("LOCKWATCH", "").strip().lower() in OFF_WORDS
    return bool(config.getini("lockwatch")) and not off


def _begin(config: pytest.Config, options: Any) -> None:
    manager = config.pluginmanager
    if _wanted(config, options) and not manager.has_plugin(NAME):
        try:
            from lockwatch.pytest_support import watch
        except ValueError as error:  # a setting that cannot be
            raise pytest.UsageError(f"lockwatch: {error}") from error
        manager.register(watch.begin(config, options), NAME)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Begin before any conftest is imported: the locks that it makes are watched."""
    _begin(early_config, early_config.known_args_namespace)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; begin now if this plugin was loaded too late to do it before."""
    config.addinivalue_line("markers", MARKER)
    _begin(config, config.option)


@pytest.fixture
def lockwatch(request: pytest.FixtureRequest) -> View:
    """The session's view of this test: findings, waits, statistics; skips the test unless lockwatch is on."""
    plugin: Any = request.config.pluginmanager.get_plugin(NAME)
    if plugin is None:
        pytest.skip("needs --lockwatch")
    view: View = plugin.view(request.node)
    return view
