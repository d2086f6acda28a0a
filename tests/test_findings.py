"""Findings are plain frozen values that survive JSON, and fingerprints that survive a second run."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockwatch import errors
from lockwatch.findings import (
    CAUSES,
    KINDS,
    LEVELS,
    Cpu,
    Finding,
    Frame,
    Hold,
    Party,
    Site,
    WaitsFor,
    agent_label,
    fingerprint,
    resource_label,
    shorten_path,
)
from lockwatch.report import text

if TYPE_CHECKING:
    from tests.conftest import RunPython

SITES = st.builds(Site, st.text(), st.integers(0), st.text())
FRAMES = st.builds(Frame, st.text(), st.integers(0), st.text(), st.none() | st.text())
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
HOLDS = st.builds(
    Hold,
    resource=st.text(),
    kind=st.text(),
    name=st.none() | st.text(),
    created=st.none() | SITES,
    taken=st.none() | SITES,
    age=st.none() | NUMBERS,
    count=st.integers(),
    how=st.sampled_from(("with", "acquire")),
)
WAITS = st.builds(
    WaitsFor,
    resource=st.text(),
    kind=st.text(),
    name=st.none() | st.text(),
    created=st.none() | SITES,
    where=st.none() | SITES,
    age=NUMBERS,
    timeout=st.none() | NUMBERS,
    mode=st.text(),
)
PARTIES = st.builds(
    Party,
    agent=st.text(),
    name=st.text(),
    ident=st.none() | st.integers(),
    native_id=st.none() | st.integers(),
    daemon=st.none() | st.booleans(),
    alive=st.booleans(),
    victim=st.booleans(),
    weight=st.integers(),
    holds=st.lists(HOLDS, max_size=2).map(tuple),
    waits_for=st.none() | WAITS,
    stack=st.lists(FRAMES, max_size=2).map(tuple),
    cpu=st.none() | st.builds(Cpu, NUMBERS, NUMBERS, st.sampled_from(("working", "sleeping", "unknown"))),
)
FINDINGS = st.builds(
    Finding,
    kind=st.sampled_from(KINDS),
    cause=st.none() | st.sampled_from(CAUSES),
    level=st.sampled_from(LEVELS),
    message=st.text(),
    pid=st.integers(),
    time=NUMBERS,
    parties=st.lists(PARTIES, max_size=3).map(tuple),
    cycle=st.lists(st.text(), max_size=4).map(tuple),
    advice=st.none() | st.text(),
    fingerprint=st.text(),
    test=st.none() | st.text(),
)


@given(FINDINGS)
def test_json_and_back_is_the_same_finding(finding: Finding) -> None:
    """Whatever a finding holds, its JSON form says all of it, also as text."""
    assert Finding.from_json(json.loads(json.dumps(finding.to_json(), allow_nan=False))) == finding


@given(FINDINGS)
def test_every_finding_renders(finding: Finding) -> None:
    """No finding makes the text form fail, and no text in it can forge a line or a colour."""
    shown = text.render(finding, cwd="/")
    assert shown.isascii() or shown.encode("utf-8")
    assert all(line.isprintable() for line in shown.split("\n"))
    assert not any(line[:1].strip() for line in shown.split("\n")[1:])


def test_numbers_json_cannot_say_become_null() -> None:
    """Infinity and NaN do not make the report invalid JSON."""
    wait = WaitsFor("Lock", "Lock", age=math.nan, timeout=math.inf)
    assert wait.to_json()["timeout"] is None
    assert wait.to_json()["age"] is None
    assert WaitsFor.from_json(wait.to_json()) == WaitsFor("Lock", "Lock")


def test_unknown_keys_are_ignored_and_optional_ones_have_defaults() -> None:
    """An older reader copes with a newer writer, and with a sparse one."""
    found = Finding.from_json(
        {"kind": "misuse", "message": "m", "new": [1], "parties": [{"agent": "a", "x": 1}]}
    )
    assert found == Finding(kind="misuse", message="m", parties=(Party(agent="a"),))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"schema": 2, "kind": "misuse", "message": "m"}, "schema 2"),
        ({"message": "m"}, "'kind' is missing"),
        ({"kind": "misuse", "message": 3}, "'message' in JSON must be text, not int"),
        ({"kind": "misuse", "message": "m", "pid": "x"}, "'pid' in JSON must be an integer"),
        ({"kind": "misuse", "message": "m", "pid": True}, "'pid' in JSON must be an integer"),
        ({"kind": "misuse", "message": "m", "time": "x"}, "'time' in JSON must be a number"),
        ({"kind": "misuse", "message": "m", "parties": {}}, "'parties' in JSON must be an array"),
        ({"kind": "misuse", "message": "m", "parties": [1]}, "a party in JSON must be an object"),
        ({"kind": "misuse", "message": "m", "cycle": [1]}, "'cycle'"),
        ({"kind": "misuse", "message": "m", "parties": [{"agent": "a", "victim": 1}]}, "true or false"),
        ({"kind": "x", "message": "m"}, "kind must be one of 'deadlock'"),
        ([], "a finding in JSON must be an object, not list"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_wrong_json_is_refused_with_a_clear_word(data: object, message: str) -> None:
    """What cannot be read is a ValueError that names the key or the schema."""
    with pytest.raises(ValueError, match=message):
        Finding.from_json(data)


def test_closed_vocabularies() -> None:
    """A kind, cause, level, state or way of taking outside the vocabulary is refused when the value is made."""
    with pytest.raises(ValueError, match="kind must be one of"):
        Finding(kind="x", message="m")
    with pytest.raises(ValueError, match="cause must be one of"):
        Finding(kind="deadlock", cause="x", message="m")
    with pytest.raises(ValueError, match="level must be one of"):
        Finding(kind="deadlock", level="x", message="m")
    with pytest.raises(ValueError, match="state"):
        Cpu(0, 0, "busy")
    with pytest.raises(ValueError, match="how"):
        Hold("Lock", "Lock", how="somehow")


def test_values_are_frozen() -> None:
    """A finding cannot change after it was told to anybody."""
    finding = Finding(kind="misuse", message="m")
    with pytest.raises(dataclasses.FrozenInstanceError):
        finding.message = "x"  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        finding.other = "x"  # type: ignore[attr-defined]


class Hostile(str):
    """A name whose methods must not be called."""

    __slots__ = ()

    def __repr__(self) -> str:
        raise AssertionError

    def __str__(self) -> str:
        raise AssertionError


def test_labels() -> None:
    """Resources and agents are called as the report shows them, without calling the name's own methods."""
    site = Site("/srv/app/client.py", 12, "__init__")
    assert resource_label("Lock", "Client._lock", site) == "Lock 'Client._lock'"
    assert resource_label("Lock", "locks['a']", site) == "Lock \"locks['a']\""
    assert resource_label("RLock", None, site) == "RLock made at client.py:12 in __init__"
    assert resource_label("RLock", None, None) == "RLock"
    assert resource_label("Lock", Hostile("x"), None) == "Lock 'x'"
    assert agent_label("thread", Hostile("heartbeat")) == "Thread 'heartbeat'"


def test_paths_are_shortened_only_so_far_as_a_click_still_opens_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path below the directory is relative to it; any other stays whole."""
    assert shorten_path("/srv/app/a/b.py", "/srv/app") == "a/b.py"
    assert shorten_path("/srv/app/a/b.py", "/srv/app/") == "a/b.py"
    assert shorten_path("/srv/apple/b.py", "/srv/app") == "/srv/apple/b.py"
    assert shorten_path("/srv/app", "/srv/app") == "/srv/app"
    assert shorten_path("<string>", "/srv/app") == "<string>"
    assert shorten_path("/a.py", "/") == "/a.py"
    assert Site("/srv/app/a/b.py", 3, "f").show("/srv") == "app/a/b.py:3 in f"

    def gone() -> str:
        raise FileNotFoundError

    monkeypatch.setattr("os.getcwd", gone)
    assert str(Site("/srv/b.py", 3, "f")) == "/srv/b.py:3 in f"


EDGES: list[tuple[str, Site | str | None]] = [
    ("a.py:1", Site("a.py", 9, "f")),
    ("b.py:2", Site("b.py", 8, "g")),
    ("c.py:3", None),
]


def test_fingerprint_does_not_depend_on_who_came_first() -> None:
    """Every rotation of a cycle has one fingerprint; the reversed cycle is another defect."""
    rotations = {fingerprint("deadlock", "cycle", EDGES[i:] + EDGES[:i]) for i in range(3)}
    assert len(rotations) == 1
    assert fingerprint("deadlock", "cycle", EDGES[::-1]) not in rotations
    assert fingerprint("stall", "cycle", EDGES) not in rotations


def test_fingerprint_of_the_unordered_is_of_a_set() -> None:
    """For the parties of an asleep knot neither order nor number counts."""
    assert fingerprint("deadlock", "asleep", EDGES) == fingerprint(
        "deadlock", "asleep", [*EDGES[::-1], EDGES[0]]
    )


def test_fingerprint_is_stable_over_runs_and_checkouts() -> None:
    """The digits are pinned: a report of last year still matches. The folder above a checkout does not count."""
    assert fingerprint("deadlock", "cycle", EDGES) == "62f88d5da2c37f8d"
    here = fingerprint("deadlock", "self", [("/home/a/app/x.py:1", Site("/home/a/app/x.py", 2, "f"))])
    there = fingerprint("deadlock", "self", [("C:\\ci\\app\\x.py:1", Site("C:\\ci\\app\\x.py", 2, "f"))])
    assert here == there


def test_fingerprint_of_a_huge_cycle_is_quick() -> None:
    """Turning is quadratic, so a cycle of thousands is not turned."""
    edges: list[tuple[str, Site | str | None]] = [("fork", f"x.py:{i}") for i in range(5000)]
    assert fingerprint("deadlock", "cycle", edges) == fingerprint("deadlock", "cycle", edges[7:] + edges[:7])


# --- the errors that carry findings -----------------------------------------------------------------------

DEADLOCK = Finding(
    kind="deadlock",
    cause="self",
    message="m",
    cycle=("Thread 'a'", "Lock 'x'"),
    parties=(Party(agent="Thread 'a'", victim=True),),
    advice="do not",
)


def test_deadlock_error_shows_the_report_once() -> None:
    """Text and note as two lines are the whole report; the finding is at hand."""
    error = errors.DeadlockError(DEADLOCK)
    assert error.finding is DEADLOCK
    assert f"{error}\n{error.__notes__[0]}" == text.render(DEADLOCK)
    assert isinstance(error, RuntimeError)


def test_errors_survive_copy_and_pickle() -> None:
    """An error crosses a process pool with its finding, and its note is not doubled."""
    for error in (errors.DeadlockError(DEADLOCK), errors.LockOrderError(DEADLOCK)):
        for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert type(twin) is type(error)
            assert twin.finding == DEADLOCK
            assert str(twin) == str(error)
            assert twin.__notes__ == error.__notes__
    misuse = pickle.loads(pickle.dumps(errors.MisuseError("no", finding=DEADLOCK)))
    assert (str(misuse), misuse.finding, len(misuse.__notes__)) == ("no", DEADLOCK, 1)


def test_error_that_cannot_be_rendered_is_still_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing report never takes the place of the error."""

    def broken(finding: Finding) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(text, "body", broken)
    monkeypatch.setattr(text, "headline", broken)
    error = errors.DeadlockError(DEADLOCK)
    assert str(error) == "m"
    assert "ZeroDivisionError" in error.__notes__[0]


def test_error_hierarchy() -> None:
    """Who catches what threading raises for the same misuse goes on catching it."""
    assert issubclass(errors.CopyError, TypeError)
    assert issubclass(errors.CopyError, errors.MisuseError)
    assert issubclass(errors.ConfigError, ValueError)
    assert not issubclass(errors.LockOrderError, errors.DeadlockError)
    for name in ("DeadlockError", "LockOrderError", "MisuseError", "ConfigError", "InstallError"):
        assert issubclass(getattr(errors, name), errors.LockwatchError)
    assert errors.CopyError("no").finding is None


def test_telling_a_finding_imports_nothing(run_python: RunPython) -> None:
    """A finding is made, rendered, raised and written while the program is stuck, perhaps in an import."""
    program = """
        import sys
        from lockwatch import advice, errors, findings
        from lockwatch.report import jsonfile, text

        before = set(sys.modules)
        site = findings.Site("x.py", 1, "f")
        party = findings.Party(
            agent=findings.agent_label("thread", "a\\n\\udc80"),
            holds=(findings.Hold("Lock 'x'", "Lock", "x", site, site, 1.0),),
            waits_for=findings.WaitsFor("Lock 'x'", "Lock", "x", site, site),
            cpu=findings.Cpu(1, 2, "working"),
        )
        finding = findings.Finding(
            kind="deadlock", cause="self", message="m", parties=(party,), cycle=(party.agent, "Lock 'x'"),
            advice=advice.advice("self", [party]),
            fingerprint=findings.fingerprint("deadlock", "self", [("x.py:1", site)]),
        )
        str(errors.DeadlockError(finding))
        text.render(finding, color=True)
        jsonfile.ReportFile("r.json").add(finding)
        print(set(sys.modules) - before)
    """
    done = run_python(program)
    assert done.stdout == "set()\n", done.stderr
