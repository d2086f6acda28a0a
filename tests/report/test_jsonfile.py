"""The report file: valid, complete and whole, whoever writes to it and however that ends."""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from lockwatch.findings import Cpu, Finding, Frame, Hold, Party, Site, WaitsFor
from lockwatch.report import jsonfile
from lockwatch.report.jsonfile import ReportFile, document, parse

if TYPE_CHECKING:
    from pathlib import Path

SITE = Site("/srv/app/x.py", 3, "f")
FULL = Finding(
    kind="deadlock",
    cause="cycle",
    message="DEADLOCK",
    pid=7,
    time=1.7e9,
    parties=(
        Party(
            agent="Thread 'a'",
            name="a",
            ident=1,
            native_id=2,
            daemon=False,
            victim=True,
            holds=(Hold("Lock 'x'", "Lock", "x", SITE, SITE, 0.5),),
            waits_for=WaitsFor("Lock 'y'", "Lock", "y", SITE, SITE, 0.1, 2.0),
            stack=(Frame("/srv/app/x.py", 3, "f", "with y:"),),
            cpu=Cpu(0.1, 0.2, "sleeping"),
        ),
    ),
    cycle=("Thread 'a'", "Lock 'y'"),
    advice="do",
    fingerprint="0123456789abcdef",
)
SPARSE = Finding(kind="misuse", message="m", parties=(Party(agent="Thread 'b\udc80\n'"),))


def finding(number: int, size: int = 0) -> Finding:
    """A finding that can be told apart."""
    return Finding(kind="leak", message=f"{number}", pid=number, advice="x" * size)


def written(report: ReportFile) -> dict[str, Any]:
    """What a stranger reads: the file as ordinary JSON, checked against the schema."""
    with open(report.path, encoding="utf-8") as file:
        doc: dict[str, Any] = json.load(file)
    Draft202012Validator(jsonfile.schema()).validate(doc)
    return doc


# --- the document -----------------------------------------------------------------------------------------


def objects(schema: Any) -> list[dict[str, Any]]:
    """All schemas of objects within a schema."""
    found = [schema] if isinstance(schema, dict) and "properties" in schema else []
    if isinstance(schema, dict):
        found += [item for value in schema.values() for item in objects(value)]
    return found


def test_schema_is_a_schema_and_describes_everything() -> None:
    """The shipped schema is valid, and no property goes without a description."""
    schema = jsonfile.schema()
    Draft202012Validator.check_schema(schema)
    assert len(objects(schema)) == 8
    for part in objects(schema):
        assert part["description"]
        assert all(prop["description"].endswith(".") for prop in part["properties"].values())
        assert set(part["required"]) <= set(part["properties"])


def test_schema_knows_every_key_that_is_written() -> None:
    """Nothing is in a report that the schema does not describe: strict validation passes too."""
    schema = jsonfile.schema()
    for part in objects(schema):
        part["additionalProperties"] = False
    doc = document([FULL, SPARSE], ["x"], damaged=1)
    Draft202012Validator(schema).validate(json.loads(json.dumps(doc)))
    assert {key for value in objects(schema) for key in value["properties"]} >= set(FULL.to_json())


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"argv": "x"},
        {"findings": [{**SPARSE.to_json(), "kind": "x"}]},
        {"findings": [{**SPARSE.to_json(), "cause": "x"}]},
        {"findings": [{**SPARSE.to_json(), "fingerprint": "xyz"}]},
        {"findings": [{**SPARSE.to_json(), "parties": [{"agent": "a", "holds": [], "stack": []}]}]},
    ],
    ids=["schema", "argv", "kind", "cause", "fingerprint", "party"],
)
def test_schema_refuses_what_is_wrong(change: dict[str, object]) -> None:
    """The schema is not so wide that everything passes."""
    assert not Draft202012Validator(jsonfile.schema()).is_valid({**document([SPARSE], []), **change})


def test_document_and_parse() -> None:
    """What was written is read back as the same findings."""
    doc = document([FULL, SPARSE], ["app.py"])
    assert parse(json.loads(json.dumps(doc))) == (FULL, SPARSE)
    assert (doc["schema"], doc["argv"], doc["platform"]) == (1, ["app.py"], sys.platform)
    assert str(doc["python"]).startswith(".".join(map(str, sys.version_info[:3])))


def test_parse_refuses_other_documents() -> None:
    """A report of another schema, or none, is refused with a clear word."""
    with pytest.raises(ValueError, match="schema 2"):
        parse({"schema": 2, "findings": []})
    with pytest.raises(ValueError, match="schema None"):
        parse({})
    with pytest.raises(ValueError, match="'findings' is missing"):
        parse({"schema": 1})


# --- one writer -------------------------------------------------------------------------------------------


def test_empty_report(report: ReportFile) -> None:
    """A run without findings leaves a valid report that says so."""
    assert written(report) == document([], ["app.py", "--fast"])
    assert report.read() == written(report)


def test_findings_are_added_in_order(report: ReportFile) -> None:
    """The file is valid JSON after each finding; one line for each."""
    for number in range(5):
        report.add(finding(number))
        assert [item["pid"] for item in written(report)["findings"]] == list(range(number + 1))
    report.add(FULL)
    report.add(SPARSE)
    assert parse(report.read())[-2:] == (FULL, SPARSE)
    with open(report.path, encoding="ascii") as file:
        assert len(file.readlines()) == 1 + 7 + 1


def test_add_makes_the_file(tmp_path: Path) -> None:
    """A file that was removed meanwhile, or never made, is no reason to lose a finding."""
    report = ReportFile(tmp_path / "r.json", ["a"])
    report.add(finding(1))
    os.unlink(report.path)
    report.add(finding(2))
    assert written(report) == document([finding(2)], ["a"])


def test_create_starts_anew(report: ReportFile) -> None:
    """The report of an earlier run is replaced."""
    report.add(finding(1, 10_000))
    report.create()
    assert written(report)["findings"] == []


def test_path_survives_chdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that changes its directory does not scatter reports."""
    monkeypatch.chdir(tmp_path)
    report = ReportFile("r.json", [])
    report.create()
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    report.add(finding(1))
    assert report.path == str(tmp_path / "r.json")
    assert os.listdir() == []


@pytest.mark.skipif(sys.platform == "win32", reason="other errors there")
def test_path_that_cannot_be_written(tmp_path: Path) -> None:
    """create() says clearly that the report is the trouble, why, and where; with the right OSError."""
    with pytest.raises(IsADirectoryError, match="cannot write the report: Is a directory"):
        ReportFile(tmp_path).create()
    with pytest.raises(FileNotFoundError, match=r"cannot write the report.*missing/r\.json"):
        ReportFile(tmp_path / "missing" / "r.json").create()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="cannot write the report: not an ordinary file"):
        ReportFile(tmp_path / "fifo").create()


def test_argv_that_is_no_text(tmp_path: Path) -> None:
    """Arguments that are not UTF-8 (surrogate escapes) still make valid JSON."""
    report = ReportFile(tmp_path / "r.json", ["a\udcff", "ä"])
    report.create()
    assert written(report)["argv"] == ["a\udcff", "ä"]


# --- files in a bad state ---------------------------------------------------------------------------------


def test_torn_at_any_byte(report: ReportFile) -> None:
    """However a killed writer left the file, all whole findings are read, and the next add() mends it."""
    for number in range(3):
        report.add(finding(number))
    with open(report.path, "rb") as file:
        whole = file.read()
    lines = whole.split(b"\n")
    for length in range(len(whole)):
        with open(report.path, "wb") as file:
            file.write(whole[:length])
        complete = 0
        for count in range(3):
            complete += length >= len(b"\n".join(lines[: count + 2]).rstrip(b","))

        assert [item.pid for item in parse(report.read())] == list(range(complete))
        report.add(finding(9))
        doc = written(report)
        assert [item["pid"] for item in doc["findings"]] == [*range(complete), 9]
        assert doc["argv"] == ["app.py", "--fast"]
        assert report.read() == doc


def test_torn_write_is_counted(report: ReportFile) -> None:
    """A finding that was lost half-written is not lost silently, and counts add up."""
    report.add(finding(1))
    for damaged in (1, 2):
        with open(report.path, "r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b',\n{"kind": "dead')
        assert report.read()["damaged"] == damaged
        report.add(finding(2))
        assert written(report)["damaged"] == damaged


def test_file_that_somebody_reformatted(report: ReportFile) -> None:
    """A pretty-printed report can be added to, also if a key was added."""
    report.add(finding(1))
    doc = {**report.read(), "note": "mine"}
    for text in (json.dumps(doc, indent=4), json.dumps(doc), json.dumps(doc, indent=2) + "\r\n\r\n"):
        with open(report.path, "w", encoding="utf-8") as file:
            file.write(text)
        report.add(finding(2))
        assert [item["pid"] for item in written(report)["findings"]] == [1, 2]
        assert written(report)["note"] == "mine"


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"[]", b"null\n]}\n", b'{"findings": 3}', b"[\n]}\n"]
)
def test_file_of_something_else(report: ReportFile, content: bytes) -> None:
    """What is no report becomes one."""
    with open(report.path, "wb") as file:
        file.write(content)
    report.add(finding(1))
    assert [item.pid for item in parse(report.read())] == [1]


def test_other_schema_is_not_read(report: ReportFile) -> None:
    """A report of a newer lockwatch is refused by read(), not misunderstood."""
    with open(report.path, "w", encoding="utf-8") as file:
        json.dump({"schema": 2, "findings": []}, file)
    with pytest.raises(ValueError, match="schema 2"):
        report.read()


def test_full_disk(report: ReportFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full, add() says so, and the file is as it was before."""
    report.add(finding(1))
    real, calls = os.write, []

    def full(fd: int, data: memoryview) -> int:
        calls.append(fd)
        if len(calls) == 1:
            return real(fd, data[:10])
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        report.add(finding(2))
    assert [item["pid"] for item in written(report)["findings"]] == [1]
    report.add(finding(3))
    assert [item["pid"] for item in written(report)["findings"]] == [1, 3]
