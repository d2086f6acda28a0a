"""Heavy real programs under ``install()``: the same output as without, no finding, and they end.

How much longer each takes is recorded as a property of the test (``--junit-xml``) and printed (``-rP``), not judged.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import RunPython

HERE = Path(__file__).parent
NEEDS = {"connection_pool": "sqlalchemy", "aiohttp_server": "aiohttp"}


@pytest.mark.parametrize("name", ["wsgi_server", "connection_pool", "queue_logging", "aiohttp_server"])
def test_same_output_and_no_finding(
    run_python: RunPython, record_property: Callable[[str, object], None], name: str
) -> None:
    """A program prints the same with lockwatch as without, exits as well, and nothing is found."""
    needed = NEEDS.get(name)
    if needed is not None and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    if name == "connection_pool" and not getattr(sys, "_is_gil_enabled", lambda: True)():
        pytest.skip(
            "without a GIL it takes 30 s, with or without lockwatch: connections of SQLite are shared"
        )
    program = HERE / f"{name}.py"
    began = time.monotonic()
    without = run_python(program, timeout=15)
    between = time.monotonic()
    watched = run_python(program, "watched", timeout=15)
    ended = time.monotonic()
    assert without.returncode == 0, without.stderr
    assert watched.returncode == 0, watched.stderr
    assert watched.stderr == "WATCHED\n"
    assert watched.stdout == without.stdout
    ratio = (ended - between) / (between - began)
    record_property("wall time ratio", round(ratio, 2))
    print(
        f"{name}: {between - began:.2f} s without, {ended - between:.2f} s with lockwatch, ratio {ratio:.2f}"
    )
