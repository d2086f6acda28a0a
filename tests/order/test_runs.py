"""Whole programs: `lockwatch run --order`, the order file from run to run, and mode ``raise`` under install()."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunPython

TWO = """
import sys, threading
a, b = threading.Lock(), threading.Lock()
def nest(*locks):
    with locks[0]:
        with locks[1]:
            pass
def run(*bodies):
    turns = [threading.Event() for _ in bodies]
    def work(turn, body):
        turn.wait()
        body()
    threads = [threading.Thread(target=work, args=pair) for pair in zip(turns, bodies)]
    for thread in threads:
        thread.start()
    for thread, turn in zip(threads, turns):
        turn.set()
        thread.join()
if sys.argv[1] == "ab":
    nest(a, b)
elif sys.argv[1] == "ba":
    nest(b, a)
elif sys.argv[1] == "alone":
    nest(a, b); nest(b, a)
else:
    run(lambda: nest(a, b), lambda: nest(b, a))
"""


def run(run_python: RunPython, tmp_path: Path, *words: str) -> tuple[int, list[dict[str, object]]]:
    """Runs TWO under ``lockwatch run``; returns the status and the findings."""
    program, report = tmp_path / "two.py", tmp_path / "report.json"
    program.write_text(TWO, encoding="utf-8")
    *options, what = words
    done = run_python("-m", "lockwatch", "run", "--report", str(report), *options, str(program), what)
    return done.returncode, json.loads(report.read_text(encoding="utf-8"))["findings"]


@pytest.mark.parametrize(
    ("order", "status", "level"), [("warn", 0, "warning"), ("raise", 66, "error"), ("off", 0, None)]
)
def test_option(run_python: RunPython, tmp_path: Path, order: str, status: int, level: str | None) -> None:
    """A conflict is a warning by default, which leaves the exit status alone; an error in mode ``raise``."""
    words = [] if order == "warn" else ["--order", order]
    got, findings = run(run_python, tmp_path, *words, "both")
    assert got == status
    assert [(one["kind"], one["level"]) for one in findings] == ([("lock-order", level)] if level else [])


def test_order_file(run_python: RunPython, tmp_path: Path) -> None:
    """The order of one run, and the reverse in the next: reported, each time, until the file is mended."""
    orders = tmp_path / "orders.json"
    assert run(run_python, tmp_path, "--order-file", str(orders), "ab") == (0, [])
    kept = json.loads(orders.read_text(encoding="utf-8"))
    assert len(kept["orders"]) == 1
    assert run(run_python, tmp_path, "--order-file", str(orders), "ab") == (0, [])
    for _ in range(2):
        _, findings = run(run_python, tmp_path, "--order-file", str(orders), "ba")
        assert [one["kind"] for one in findings] == ["lock-order"]
    assert json.loads(orders.read_text(encoding="utf-8")) == kept


def test_order_file_knows_what_was_no_conflict(run_python: RunPython, tmp_path: Path) -> None:
    """Both orders in one thread are none, and in the next run they are none again."""
    orders = tmp_path / "orders.json"
    for _ in range(3):
        assert run(run_python, tmp_path, "--order-file", str(orders), "alone") == (0, [])
    assert len(json.loads(orders.read_text(encoding="utf-8"))["orders"]) == 2


def test_order_file_that_is_none(run_python: RunPython, tmp_path: Path) -> None:
    """Another file is not overwritten; one finding says so, and the program runs."""
    orders = tmp_path / "orders.json"
    orders.write_text("precious", encoding="utf-8")
    status, findings = run(run_python, tmp_path, "--order-file", str(orders), "ab")
    assert (status, [one["kind"] for one in findings]) == (0, ["internal"])
    assert orders.read_text(encoding="utf-8") == "precious"
