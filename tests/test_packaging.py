"""What an installation carries: metadata, typing marker, JSON Schema, console script."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import lockwatch

if TYPE_CHECKING:
    from tests.conftest import RunPython

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def test_one_version() -> None:
    """The package, its metadata and pyproject.toml name one version."""
    assert lockwatch.__version__ == PROJECT["project"]["version"] == importlib.metadata.version("lockwatch")


def test_every_package_is_listed() -> None:
    """The list of packages in pyproject.toml is the list of folders: nothing is left out of the wheel."""
    folders = {
        ".".join(path.parent.relative_to(REPOSITORY).parts)
        for path in (REPOSITORY / "lockwatch").rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders


def test_typing_marker_is_shipped() -> None:
    """py.typed lies in the package (PEP 561)."""
    assert importlib.resources.files("lockwatch").joinpath("py.typed").is_file()


def test_schema_is_shipped() -> None:
    """The report's JSON Schema lies in the package, is valid JSON and is a schema."""
    folder = importlib.resources.files("lockwatch.report").joinpath("schema")
    schema = json.loads(folder.joinpath("report-1.schema.json").read_text(encoding="utf-8"))
    assert schema["$schema"].startswith("https://json-schema.org/")


def test_console_script_resolves() -> None:
    """The console script points at a function that is there."""
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="lockwatch")
    assert script.value == "lockwatch.cli:main"
    assert callable(script.load())


def test_module_and_console_script_are_one_program(run_python: RunPython) -> None:
    """``python -m lockwatch --version`` prints the version."""
    done = run_python("-m", "lockwatch", "--version")
    assert done.returncode == 0, done.stderr
    assert lockwatch.__version__ in done.stdout


def test_no_file_runs_at_interpreter_start() -> None:
    """No .pth and no .start file is installed: lockwatch runs only where it is asked for."""
    files = importlib.metadata.files("lockwatch") or []
    own = [str(file) for file in files if file.suffix in {".pth", ".start"}]
    assert [name for name in own if not name.startswith("__editable__")] == []
