"""The benchmarks' plumbing: what a run writes, and what is made of it. Nothing here asserts a time."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"


def benchmarks(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs ``python -m benchmarks`` as a user would."""
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=120
    )


def stats(*samples: float) -> dict[str, object]:
    """Samples as a result file has them."""
    ordered = sorted(samples)
    low, high = ordered[0], ordered[-1]
    return {
        "median": ordered[len(ordered) // 2],
        "low": low,
        "high": high,
        "min": low,
        "max": high,
        "samples": samples,
    }


def recorded(
    path: Path, version: str, *, raw: float, ours: float, date: str = "2026-01-01T00:00:00+00:00"
) -> Path:
    """Writes a result file with one fairness row."""
    row = {
        "name": "lock_working",
        "title": "Lock, held working",
        "unit": "ms",
        "better": "lower",
        "params": {"held_us": 100.0, "how": "working", "wanted": 10, "switch_interval_ms": 5.0},
        "raw": stats(raw / 2, raw, raw * 2),
        "lockwatch": stats(ours / 2, ours, ours * 1.5),
        "ratio": stats(ours / raw),
        "budget": {"on": "lockwatch", "limit": 10.0, "of": "worst"},
    }
    result = {
        "schema": 1,
        "date": date,
        "lockwatch": "0.1.0",
        "implementation": "python",
        "subject": "lockwatch.locks",
        "quick": False,
        "python": {"version": version, "gil": True, "lock": "semaphore"},
        "machine": {"cpu": "A <fast> & cheap one", "cores": 2},
        "topics": {
            "fairness": {"title": "Fairness", "notes": ["a note"], "rounds": 3, "seconds": 1.0, "rows": [row]}
        },
    }
    path.write_text(json.dumps(result), encoding="utf-8")
    return path


@pytest.fixture
def results(tmp_path: Path) -> list[Path]:
    """Results of three interpreters, in no order; 3.9.1 sorts before 3.11.7."""
    return [
        recorded(tmp_path / "a.json", "3.13.0", raw=208.0, ours=6.0),
        recorded(tmp_path / "b.json", "3.9.1", raw=2300.0, ours=30.0),
        recorded(tmp_path / "c.json", "3.11.7", raw=290.0, ours=0.05),
    ]


def test_quick_run_writes_the_documented_json(tmp_path: Path) -> None:
    """A quick run of one topic ends well and its file has every key that docs/benchmarks.md names."""
    target = tmp_path / "result.json"
    done = benchmarks("uncontended", "--quick", "--json", target)
    assert done.returncode == 0, done.stdout + done.stderr
    data: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    assert data["schema"] == 1
    assert data["quick"] is True
    assert data["subject"] == "lockwatch.locks"
    assert {"date", "lockwatch", "implementation"} < data.keys()
    assert {"version", "build", "gil", "lock", "switch_interval"} <= data["python"].keys()
    assert {"cpu", "cores", "system", "load"} <= data["machine"].keys()
    topic = data["topics"]["uncontended"]
    assert {"title", "notes", "rounds", "seconds", "rows"} == topic.keys()
    for row in topic["rows"]:
        assert row["failed"] is None
        assert {
            "name",
            "title",
            "unit",
            "better",
            "params",
            "budget",
            "within",
            "difference",
            "detail",
        } < row.keys()
        for side in ("raw", "lockwatch", "ratio"):
            assert {"median", "low", "high", "min", "max", "samples"} == row[side].keys()
            assert len(row[side]["samples"]) == topic["rounds"] == 1
        # The ratio is taken pair by pair.
        assert row["ratio"]["samples"][0] == row["lockwatch"]["samples"][0] / row["raw"]["samples"][0]
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"], (
        "something was left beside the result"
    )


def test_rounds_are_counted_without_the_warm_up(tmp_path: Path) -> None:
    """``--rounds 3`` leaves three samples on each side."""
    target = tmp_path / "result.json"
    done = benchmarks("uncontended", "--quick", "--rounds", "3", "--subject", "threading", "--json", target)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(target.read_text(encoding="utf-8"))["topics"]["uncontended"]["rows"]
    assert {len(row[side]["samples"]) for row in rows for side in ("raw", "lockwatch", "ratio")} == {3}


def test_what_fails_is_said_and_does_not_stop_the_rest(tmp_path: Path) -> None:
    """With a broken RLock its rows carry the reason, the Lock's rows are measured, the status is 1."""
    (tmp_path / "broken_subject.py").write_text("from threading import Lock\ndef RLock(): return object()\n")
    target = tmp_path / "result.json"
    program = (
        f"import sys; sys.path.append({str(tmp_path)!r}); from benchmarks.cli import main; sys.exit(main())"
    )
    command = [
        sys.executable,
        "-c",
        program,
        "memory",
        "--quick",
        "--subject",
        "broken_subject",
        "--json",
        str(target),
    ]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    rows = {
        row["name"]: row for row in json.loads(target.read_text(encoding="utf-8"))["topics"]["memory"]["rows"]
    }
    assert rows["lock_bytes_used"]["failed"] is None
    assert rows["rlock_bytes_used"]["failed"].startswith(("TypeError", "AttributeError"))
    assert "not measured" in done.stdout


def test_figure_is_well_formed_and_says_it_all(tmp_path: Path, results: list[Path]) -> None:
    """The SVG parses, has the interpreters in order of version, a dot per sample, a description, both modes."""
    target = tmp_path / "fairness.svg"
    done = benchmarks("--figure", target, "--from", *results)
    assert done.returncode == 0, done.stdout + done.stderr
    text = target.read_text(encoding="utf-8")
    root = ET.fromstring(text)
    assert root.tag == f"{SVG}svg"
    shown = [element.text for element in root.iter(f"{SVG}text") if element.get("class") == "python"]
    assert shown == ["Python 3.9.1", "Python 3.11.7", "Python 3.13.0"]
    dots = [element for element in root.iter(f"{SVG}circle") if element.get("fill-opacity") == "0.5"]
    assert len(dots) == 3 * 2 * 3
    width = float(root.attrib["width"])
    assert all(0 < float(dot.attrib["cx"]) < width for dot in dots)
    described = root.find(f"{SVG}desc")
    assert described is not None
    assert described.text is not None
    assert "Python 3.13.0: threading.Lock 208 ms (worst 416 ms), lockwatch.Lock 6 ms" in described.text
    assert "prefers-color-scheme: dark" in text


def test_figure_without_results_is_refused(tmp_path: Path) -> None:
    """No picture is written from results that have nothing to show; the message says what to do."""
    path = recorded(tmp_path / "a.json", "3.11.7", raw=1.0, ours=1.0)
    data = json.loads(path.read_text(encoding="utf-8"))
    data["topics"] = {}
    path.write_text(json.dumps(data), encoding="utf-8")
    done = benchmarks("--figure", tmp_path / "x.svg", "--from", path)
    assert done.returncode == 2
    assert "python -m benchmarks fairness" in done.stderr
    assert not (tmp_path / "x.svg").exists()


def test_markdown_has_a_column_per_interpreter_and_the_newest_value(
    tmp_path: Path, results: list[Path]
) -> None:
    """One table per topic, columns in order of version, a newer file wins, what is over budget is bold."""
    newer = recorded(tmp_path / "d.json", "3.13.0", raw=77.0, ours=5.0, date="2026-02-01T00:00:00+00:00")
    done = benchmarks("--markdown", *results, newer)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "|  | unit | 3.9.1 | 3.11.7 | 3.13.0 | budget |" in lines
    (row,) = [line for line in lines if line.startswith("| Lock, held working")]
    assert "77 (≤ 154) → 5 (≤ 7.5), 0.0649\N{MULTIPLICATION SIGN}" in row
    assert "**2300 (≤ 4600) → 30 (≤ 45)" in row
    assert "lockwatch, worst ≤ 10 ms" in row


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "no topic 'nonsense'"),
        (["memory", "--quick", "--subject", "no_such_module"], "--subject no_such_module"),
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--markdown", "/nowhere/x.json"], "x.json"),
    ],
)
def test_wrong_usage_is_refused(arguments: list[str], said: str) -> None:
    """Status 2 and a message that names what is wrong."""
    done = benchmarks(*arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_files_that_are_not_results_are_named(tmp_path: Path) -> None:
    """A file of another schema is refused by its name."""
    path = tmp_path / "other.json"
    path.write_text('{"schema": 99}', encoding="utf-8")
    done = benchmarks("--markdown", path)
    assert done.returncode == 2
    assert "other.json" in done.stderr
    assert "99" in done.stderr
