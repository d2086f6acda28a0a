"""Configuration: four layers, each key and value checked, and the mechanism told."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lockwatch import config
from lockwatch._core import settings
from lockwatch.config import Config
from lockwatch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import RunPython


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to be in, no variables set, and the defaults in force afterwards."""
    for name in list(os.environ):
        if name.startswith("LOCKWATCH"):
            monkeypatch.delenv(name)
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    before = config.explicit()
    config.reset()
    yield here
    monkeypatch.undo()
    config.reset(before)


def pyproject(folder: Path, text: str) -> None:
    """Write a pyproject.toml."""
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")


def test_defaults(folder: Path) -> None:
    """Without any setting the documented defaults hold."""
    assert Config.load() == Config()
    assert Config().to_dict() == {
        "mode": "raise",
        "report": None,
        "starvation_threshold": 0.001,
        "reacquire_grace": 1.0,
        "foreign_threads": "respect",
        "exit_status": 66,
        "stack_depth": 30,
        "sweep": True,
        "adopt": True,
        "cpu": True,
        "stall": None,
        "stall_exit": 0.0,
        "dump_signal": None,
        "loop_block": 0.1,
        "held_across_await": False,
        "order": "warn",
        "order_file": None,
        "order_locks": 10_000,
        "order_edges": 100_000,
    }


def test_later_layers_win(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults < pyproject.toml < environment < explicit."""
    pyproject(folder, "[tool.lockwatch]\nmode = 'off'\nstack-depth = 5\nexit_status = 1\nsweep = false\n")
    monkeypatch.setenv("LOCKWATCH_STACK_DEPTH", "6")
    monkeypatch.setenv("LOCKWATCH_EXIT_STATUS", "2")
    loaded = Config.load(exit_status=3)
    assert (loaded.mode, loaded.stack_depth, loaded.exit_status, loaded.sweep) == ("off", 6, 3, False)
    assert loaded.adopt is True


def test_nearest_pyproject_counts(folder: Path) -> None:
    """It is looked for upwards, and the nearest one ends the search also if it says nothing of us."""
    pyproject(folder.parent, "[tool.lockwatch]\nmode = 'observe'\n")
    assert Config.load().mode == "observe"
    pyproject(folder, "[project]\nname = 'x'\n")
    assert Config.load().mode == "raise"


def test_relative_report_is_made_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the file's folder where a file says it, else against the working directory, at once."""
    pyproject(folder.parent, "[tool.lockwatch]\nreport = 'out/r.json'\n")
    assert Config.load().report == str(folder.parent / "out" / "r.json")
    monkeypatch.setenv("LOCKWATCH_REPORT", "r.json")
    assert Config.load().report == str(folder / "r.json")
    assert Config.load(report=folder / "p.json").report == str(folder / "p.json")
    assert Config.load(report=None).report is None

    config.configure(report="x.json")
    monkeypatch.chdir(folder.parent)
    assert config.configure(mode="observe").report == str(folder / "x.json")


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("LOCKWATCH", "observe", "mode", "observe"),
        ("LOCKWATCH", "OFF", "mode", "off"),
        ("LOCKWATCH", "0", "mode", "off"),
        ("LOCKWATCH", "1", "mode", "raise"),
        ("LOCKWATCH_MODE", "off", "mode", "off"),
        ("LOCKWATCH_STARVATION_THRESHOLD", "0.5", "starvation_threshold", 0.5),
        ("LOCKWATCH_REACQUIRE_GRACE", "2", "reacquire_grace", 2.0),
        ("LOCKWATCH_FOREIGN_THREADS", "Ignore", "foreign_threads", "ignore"),
        ("LOCKWATCH_EXIT_STATUS", "0", "exit_status", 0),
        ("LOCKWATCH_SWEEP", "no", "sweep", False),
        ("LOCKWATCH_ADOPT", "OFF", "adopt", False),
        ("LOCKWATCH_CPU", "0", "cpu", False),
        ("LOCKWATCH_CPU", "yes", "cpu", True),
        ("LOCKWATCH_CPU", "", "cpu", True),
        ("LOCKWATCH_PURE", "1", "mode", "raise"),
    ],
)
def test_variables(
    variable: str, text: str, field: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each field has its variable, with the field's type; an empty one counts as not set."""
    monkeypatch.setenv(variable, text)
    loaded = getattr(Config.load(), field)
    assert loaded == value
    assert type(loaded) is type(value)


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("LOCKWATCH", "rais", "environment: LOCKWATCH cannot be 'rais'; .*; did you mean 'raise'"),
        ("LOCKWATCH_MDOE", "off", "no variable LOCKWATCH_MDOE; did you mean 'LOCKWATCH_MODE'"),
        ("LOCKWATCH_ZZZ", "", "no variable LOCKWATCH_ZZZ; there are LOCKWATCH_MODE, "),
        ("LOCKWATCH_SWEEP", "maybe", "LOCKWATCH_SWEEP cannot be 'maybe'; it must be true or false"),
        ("LOCKWATCH_STACK_DEPTH", "0", "LOCKWATCH_STACK_DEPTH cannot be 0; .* from 1 to 10000"),
        ("LOCKWATCH_STACK_DEPTH", "ten", "LOCKWATCH_STACK_DEPTH cannot be 'ten'; .* whole number"),
        ("LOCKWATCH_EXIT_STATUS", "256", "from 0 to 255"),
        ("LOCKWATCH_REACQUIRE_GRACE", "nan", "LOCKWATCH_REACQUIRE_GRACE cannot be nan; .* seconds"),
        ("LOCKWATCH_REACQUIRE_GRACE", "-1", "cannot be -1.0"),
        ("LOCKWATCH_FOREIGN_THREADS", "x", "'respect' or 'ignore'"),
    ],
)
def test_bad_variables(variable: str, text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong in the environment is refused by name, with what is allowed."""
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError, match=message):
        Config.load()


def test_two_variables_for_the_mode_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """LOCKWATCH and LOCKWATCH_MODE say the same thing; two different things are a mistake."""
    monkeypatch.setenv("LOCKWATCH", "off")
    monkeypatch.setenv("LOCKWATCH_MODE", "off")
    assert Config.load().mode == "off"
    monkeypatch.setenv("LOCKWATCH_MODE", "observe")
    with pytest.raises(ConfigError, match="LOCKWATCH=off and LOCKWATCH_MODE=observe contradict"):
        Config.load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[tool.lockwatch]\nmoed = 'off'",
            r"\[tool.lockwatch\] in .*pyproject.toml: .* 'moed'; did you mean 'mode'",
        ),
        (
            "[tool.lockwatch]\nmode = 1",
            r"\[tool.lockwatch\] in .*: mode cannot be 1; it must be 'off', 'observe' or",
        ),
        ("[tool.lockwatch]\nexit-status = true", "exit-status cannot be True"),
        ("[tool.lockwatch]\nsweep = 1", "sweep cannot be 1"),
        ("[tool.lockwatch]\nreport = ''", "report cannot be ''"),
        ("[tool.lockwatch]\nreport = false", "report cannot be False"),
        ("[tool]\nlockwatch = 3", "must be a table, not 3"),
        ("[tool.lockwatch\n", r"pyproject.toml cannot be read: "),
    ],
)
def test_bad_pyproject(text: str, message: str, folder: Path) -> None:
    """What is wrong in the file is refused with the file's path, the key and what is allowed."""
    pyproject(folder, text)
    with pytest.raises(ConfigError, match=message):
        Config.load()


def test_pyproject_that_is_not_text(folder: Path) -> None:
    """Bad UTF-8 is told like a syntax error."""
    (folder / "pyproject.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        Config.load()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stakc_depth": 3}, "no setting 'stakc_depth'; did you mean 'stack_depth'"),
        ({"mode": True}, "mode cannot be True"),
        ({"report": 3}, "report cannot be 3"),
        ({"report": "a\0b"}, "report cannot be"),
        ({"reacquire_grace": "1"}, "reacquire_grace cannot be '1'"),
        ({"reacquire_grace": float("inf")}, "reacquire_grace cannot be inf"),
    ],
)
def test_bad_overrides_change_nothing(values: dict[str, object], message: str) -> None:
    """A refused configure() leaves what was in force."""
    before = config.configure(mode="observe")
    with pytest.raises(ConfigError, match=message):
        config.configure(**values)
    assert config.current() is before
    assert config.explicit() == {"mode": "observe"}


def test_config_made_by_hand_is_checked() -> None:
    """No way leads to a Config with a bad value."""
    with pytest.raises(ConfigError, match="exit_status cannot be 300"):
        Config(exit_status=300)
    assert type(Config(reacquire_grace=1).reacquire_grace) is float


def test_apply_tells_the_mechanism() -> None:
    """The core's knobs follow the configuration, in its units."""
    config.apply(
        Config(mode="observe", starvation_threshold=0.002, reacquire_grace=0.5, foreign_threads="ignore")
    )
    assert settings.starvation_threshold_ns == 2_000_000
    assert settings.reacquire_grace_ns == 500_000_000
    assert settings.raise_deadlocks is False
    assert settings.respect_foreign_threads is False
    assert config.current().mode == "observe"


def test_reset_gives_the_mechanism_its_defaults() -> None:
    """After reset() nothing of an earlier configuration is in force."""
    config.apply(Config(mode="observe", foreign_threads="ignore"))
    config.reset()
    assert settings.raise_deadlocks is True
    assert settings.respect_foreign_threads is True


def test_the_cores_defaults_are_the_configurations() -> None:
    """Without any configuration the mechanism behaves as the default Config says."""
    config.apply(Config())
    first = {name: getattr(settings, name) for name in dir(settings) if name[0] not in "_@"}
    assert first == {
        "held_across_await": False,
        "loop_block_ns": 100_000_000,
        "order": True,
        "order_edges": 100_000,
        "order_locks": 10_000,
        "order_raises": False,
        "raise_deadlocks": True,
        "reacquire_grace_ns": 1_000_000_000,
        "respect_foreign_threads": True,
        "stall_exit_ns": None,
        "stall_ns": None,
        "starvation_threshold_ns": 1_000_000,
        "watch": True,
    }


def test_configure_adds_to_what_was_said_before() -> None:
    """Explicit settings stay until they are said anew, or taken back."""
    config.configure(mode="observe")
    before = config.explicit()
    assert config.configure(stack_depth=3).mode == "observe"
    config.reset(before)
    assert config.current() == Config(mode="observe")


def test_current_loads_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first question reads the layers and puts them in force; later ones are look-ups."""
    monkeypatch.setenv("LOCKWATCH", "observe")
    first = config.current()
    assert first.mode == "observe"
    assert settings.raise_deadlocks is False
    monkeypatch.setenv("LOCKWATCH", "off")
    assert config.current() is first


def test_directory_that_is_gone(folder: Path) -> None:
    """A process whose directory was deleted has no pyproject.toml, and no failure."""
    folder.rmdir()
    assert Config.load() == Config()


def test_tomllib_is_loaded_only_for_a_file(run_python: RunPython, tmp_path: Path) -> None:
    """Without a pyproject.toml nobody pays for its parser."""
    program = """
        import sys
        from lockwatch import config

        sys.modules.pop("tomllib", None)  # coverage loads it
        config.current()
        print("tomllib" in sys.modules)
    """
    assert run_python(program).stdout == "False\n"
    pyproject(tmp_path, "")
    assert run_python(program).stdout == "True\n"
