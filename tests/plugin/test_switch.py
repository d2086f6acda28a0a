"""Switched off the plugin is nothing; what it can be told, and who is heard."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import SELF, RunTests

LOADED = """
import sys

def test_loaded():
    ours = sorted(name for name in sys.modules if name.split(".")[0] == "lockwatch")
    assert ours == {expected!r}, ours

def test_locks():
    import threading
    assert type(threading.Lock()).__module__ == {module!r}
"""


def test_off_it_imports_and_changes_nothing(run_tests: RunTests) -> None:
    """Without --lockwatch nothing of the package is loaded but the plugin's module and the lazy package, nothing is patched or said."""
    source = LOADED.format(expected=["lockwatch", "lockwatch.pytest_plugin"], module="_thread")
    run = run_tests(source, watched=False)
    assert run.outcomes() == {"passed": 2}, run.out
    assert "lockwatch:" not in run.out


def test_ini_switches_it_on_and_the_environment_off(run_tests: RunTests) -> None:
    """Ini ``lockwatch = true`` is enough; ``LOCKWATCH=off`` counts more."""
    source = LOADED.format(expected=["lockwatch", "lockwatch.pytest_plugin"], module="_thread")
    assert "lockwatch: order=error" in run_tests(source, ini="lockwatch = true", watched=False).out
    off = run_tests(source, ini="lockwatch = true", watched=False, env={"LOCKWATCH": "off"})
    assert off.outcomes() == {"passed": 2}, off.out


def test_locks_of_conftests_and_of_modules_are_watched(run_tests: RunTests) -> None:
    """It is installed before any conftest is imported: what that makes at once is watched; the header says how it is set."""
    source = """
    import threading
    from conftest import lock as early
    late = threading.Lock()

    def test_it(lockwatch):
        with early, late:
            assert len(lockwatch.holders()) == 2
        assert lockwatch.statistics().findings == {}
        lockwatch.assert_no_findings()
    """
    files = {"conftest.py": "from threading import Lock\nlock = Lock()\n"}
    run = run_tests(source, "--lockwatch-stall=30", files=files)
    assert run.outcomes() == {"passed": 1}, run.out
    assert "lockwatch: order=error stall=30s engine=" in run.out
    assert "= lockwatch =" not in run.out, "quiet when there is nothing to say"


def test_the_fixture_skips_when_it_is_off(run_tests: RunTests) -> None:
    """A test that asks for the fixture needs lockwatch, and says so."""
    run = run_tests("def test_it(lockwatch): pass", "-rs", watched=False)
    assert run.outcomes() == {"skipped": 1}
    assert "needs --lockwatch" in run.out


WHO_IS_HEARD = """
import pytest

def test_session(lockwatch):
    print("SESSION", lockwatch.settings.order, lockwatch.settings.stall)

@pytest.mark.lockwatch(order="off", stall=7)
def test_marker(lockwatch):
    print("MARKER", lockwatch.settings.order, lockwatch.settings.stall)
"""


@pytest.mark.parametrize(
    ("args", "env", "expected"),
    [
        (["--lockwatch-order=warn", "--lockwatch-stall=3"], {"LOCKWATCH_STALL": "4"}, "warn 3.0"),
        ([], {"LOCKWATCH_ORDER": "warn", "LOCKWATCH_STALL": "4"}, "warn 4.0"),
        ([], {}, "error 5.0"),
    ],
    ids=["command line", "environment", "ini"],
)
def test_marker_command_line_environment_ini(
    run_tests: RunTests, args: list[str], env: dict[str, str], expected: str
) -> None:
    """Marker before command line before environment before ini before [tool.lockwatch]."""
    files = {"pyproject.toml": '[tool.lockwatch]\norder = "off"\nstall = 6\n'}
    ini = "lockwatch_order = error\nlockwatch_stall = 5"
    run = run_tests(WHO_IS_HEARD, "-s", *args, ini=ini, env=env, files=files)
    assert run.outcomes() == {"passed": 2}, run.out
    assert f"SESSION {expected}" in run.out
    assert "MARKER off 7.0" in run.out


def test_tool_lockwatch_is_the_last_to_be_heard(run_tests: RunTests) -> None:
    """What nobody else says, [tool.lockwatch] does."""
    files = {"pyproject.toml": '[tool.lockwatch]\norder = "warn"\nstall = 6\n'}
    run = run_tests(WHO_IS_HEARD, "-s", files=files)
    assert "SESSION warn 6.0" in run.out


def test_wrong_values_are_refused(run_tests: RunTests) -> None:
    """A value that cannot be is an error that says where it stands; a marker's fails its test alone."""
    for env, ini, text in [
        ({}, "lockwatch_stall = soon", "ini: lockwatch_stall cannot be 'soon'"),
        ({"LOCKWATCH_STAL": "3"}, "", "did you mean 'LOCKWATCH_STALL'?"),
    ]:
        run = run_tests(SELF, ini=ini, env=env)
        assert run.status == pytest.ExitCode.USAGE_ERROR
        assert text in run.err + run.out


def test_wrong_markers_fail_their_tests(run_tests: RunTests) -> None:
    """The marker is registered (--strict-markers); an argument that does not exist is named."""
    source = """
    import pytest

    @pytest.mark.lockwatch(allow="leaks")
    def test_a(): pass

    @pytest.mark.lockwatch(alow="leak")
    def test_b(): pass

    @pytest.mark.lockwatch(allow=["leak", "0123456789abcdef"])
    def test_c(): pass
    """
    run = run_tests(source, "--strict-markers")
    assert run.outcomes() == {"errors": 2, "passed": 1}, run.out
    assert "allow cannot hold 'leaks'" in run.out
    assert "does not take the argument 'alow'" in run.out
    assert "lockwatch(enabled=True" in run_tests(source, "--markers", watched=False).out


def test_enabled_false_leaves_a_test_alone(run_tests: RunTests) -> None:
    """``enabled=False``: findings do not fail the test, and nothing is looked for after it."""
    source = """
    import threading, pytest

    @pytest.mark.lockwatch(enabled=False)
    def test_it():
        lock = threading.Lock()
        with pytest.raises(RuntimeError):
            with lock, lock:
                pass
    """
    assert run_tests(source).outcomes() == {"passed": 1}
