"""The text form: golden files for every kind of finding, and its limits.

The golden texts are the files in ``golden/``. Whoever changes the product's face reads the new
ones before keeping them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lockwatch.advice import advice
from lockwatch.findings import Cpu, Finding, Frame, Hold, Party, Site, WaitsFor, resource_label
from lockwatch.report import text

GOLDEN = Path(__file__).parent / "golden"
CWD = "/srv/app"
COORDINATOR, CLIENT = "/srv/app/kafka/coordinator.py", "/srv/app/kafka/client_async.py"
MADE = {
    "Coordinator._lock": Site(COORDINATOR, 88, "__init__"),
    "client_lock": Site(CLIENT, 41, "<module>"),
    "registry": Site("/usr/lib/python3/dist-packages/pool/registry.py", 7, "<module>"),
}


def hold(
    name: str, taken: Site, age: float, *, kind: str = "Lock", count: int = 1, how: str = "with"
) -> Hold:
    """A hold of one of the locks of MADE."""
    label = resource_label(kind, name, MADE[name])
    return Hold(label, kind, name, MADE[name], taken, age, count, how)


def wait(name: str, where: Site, age: float, *, kind: str = "Lock", timeout: float | None = None) -> WaitsFor:
    """A wait for one of the locks of MADE."""
    return WaitsFor(resource_label(kind, name, MADE[name]), kind, name, MADE[name], where, age, timeout)


HEARTBEAT = Party(
    agent="Thread 'heartbeat'",
    name="heartbeat",
    ident=140213,
    native_id=4711,
    daemon=True,
    victim=True,
    holds=(hold("Coordinator._lock", Site(COORDINATOR, 912, "_heartbeat"), 0.8),),
    waits_for=wait("client_lock", Site(CLIENT, 571, "poll"), 0.0002),
    stack=(
        Frame("/usr/lib/python3.13/threading.py", 1012, "run", "self._target(*self._args, **self._kwargs)"),
        Frame(COORDINATOR, 915, "_heartbeat", "self._client.poll(timeout_ms=0)"),
        Frame(CLIENT, 571, "poll", "with client_lock:"),
    ),
    cpu=Cpu(0.006, 0.004, "sleeping"),
)
CONSUMER = Party(
    agent="Thread 'consumer'",
    name="consumer",
    ident=140214,
    native_id=4712,
    daemon=False,
    weight=10,
    holds=(
        hold("client_lock", Site(CLIENT, 560, "poll"), 0.012, how="acquire"),
        hold(
            "registry",
            Site("/usr/lib/python3/dist-packages/pool/registry.py", 19, "get"),
            185.2,
            kind="RLock",
            count=2,
        ),
    ),
    waits_for=wait("Coordinator._lock", Site(COORDINATOR, 640, "ensure_active_group"), 0.8),
    stack=(Frame(COORDINATOR, 640, "ensure_active_group", None),),
    cpu=Cpu(1203.1, 31.3, "working"),
)
GONE = Party(
    agent="Thread 'loader'",
    name="loader",
    alive=False,
    holds=(hold("client_lock", Site(CLIENT, 33, "load"), 7500, how="acquire"),),
)


def deadlock(cause: str, cycle: tuple[str, ...], *parties: Party) -> Finding:
    """A deadlock with the message and advice that it gets in life."""
    return Finding(
        kind="deadlock",
        cause=cause,
        message=text.summary(cause, cycle, parties),
        pid=4700,
        time=1.7e9,
        parties=parties,
        cycle=cycle,
        advice=advice(cause, parties),
        fingerprint="0123456789abcdef",
    )


ALONE = dataclasses.replace(
    HEARTBEAT,
    holds=(hold("client_lock", Site(CLIENT, 560, "poll"), 1.0, how="acquire"),),
    waits_for=wait("client_lock", Site(CLIENT, 571, "on_partition_lost"), 1.0),
    cpu=None,
)
SLEEPER = Party(
    agent="Thread 'MainThread'",
    holds=(hold("client_lock", Site(CLIENT, 560, "main"), 3700),),
    waits_for=wait("registry", Site(CLIENT, 561, "main"), 3699),
    cpu=Cpu(0.2, 0.1, "unknown"),
)
FINDINGS = {
    "cycle": deadlock(
        "cycle",
        ("Thread 'heartbeat'", "Lock 'client_lock'", "Thread 'consumer'", "Lock 'Coordinator._lock'"),
        HEARTBEAT,
        CONSUMER,
    ),
    "self": deadlock("self", ("Thread 'heartbeat'", "Lock 'client_lock'"), ALONE),
    "orphan": deadlock(
        "orphan",
        ("Thread 'heartbeat'", "Lock 'client_lock'", "Thread 'loader'"),
        HEARTBEAT,
        GONE,
    ),
    "asleep": deadlock(
        "asleep",
        ("Thread 'MainThread'", "Lock 'registry'", "Thread 'heartbeat'", "Lock 'client_lock'"),
        SLEEPER,
        dataclasses.replace(HEARTBEAT, cpu=Cpu(2.5, 0.75, "blocked in a system call")),
    ),
    "starved": deadlock(
        "starved",
        ("Thread 'pool-1'", "Future 'load'"),
        Party(agent="Thread 'pool-1'", waits_for=WaitsFor("Future 'load'", "Future", "load", age=2.0)),
    ),
    "no-evidence": Finding(kind="deadlock", message="deadlock; its report was interrupted"),
    "lock-order": Finding(
        kind="lock-order",
        level="warning",
        message="Lock 'a' after Lock 'b' in Thread 'x', the reverse was seen before in Thread 'y'",
        parties=(dataclasses.replace(HEARTBEAT, victim=False, stack=(), cpu=None),),
        advice="take both in one order;\n'a' -> 'b' was seen 1,204 times, the reverse once",
    ),
    "leak": Finding(
        kind="leak",
        level="warning",
        message="Thread 'loader' ended while it held Lock 'client_lock'",
        parties=(GONE,),
        advice="release it in a `finally`, or take it by `with`",
    ),
    "leak-exception": Finding(
        kind="leak",
        level="warning",
        message="Task 'load' ended while it held asyncio.Lock 'client_lock', by KeyError raised at kafka/client.py:35 in load",
        parties=(
            dataclasses.replace(
                GONE,
                agent="Task 'load'",
                holds=(hold("client_lock", Site(CLIENT, 33, "load"), 0.02, kind="asyncio.Lock"),),
            ),
        ),
        advice="release it in a `finally`, or take it by `with`",
        fingerprint="0123456789abcdef",
    ),
    "misuse-blocked-loop": Finding(
        kind="misuse",
        level="warning",
        message="the event loop of Thread 'heartbeat' has been blocked by Task 'poll' for 0.1 s: it waits for "
        "Lock 'client_lock', held by Thread 'consumer'",
        parties=(
            dataclasses.replace(
                HEARTBEAT,
                victim=False,
                holds=(),
                waits_for=wait("client_lock", Site(CLIENT, 571, "poll"), 0.1),
            ),
            dataclasses.replace(CONSUMER, waits_for=None),
        ),
        advice="use asyncio.Lock among tasks; take a thread's lock in a thread: await asyncio.to_thread(...)",
        fingerprint="0123456789abcdef",
    ),
    "misuse-private": Finding(
        kind="misuse",
        level="warning",
        message="Lock made at client.py:35 in load protects nothing: it is made anew each time, and nobody else can have it",
        advice="make one lock where what it protects is made: in the module, the class or __init__",
        pid=4700,
        fingerprint="0123456789abcdef",
    ),
    "misuse": Finding(
        kind="misuse",
        message="RLock 'client_lock' released by Thread 'heartbeat', held by Thread 'consumer'",
        parties=(dataclasses.replace(HEARTBEAT, holds=(), waits_for=None, victim=False),),
        pid=4700,
    ),
    "stall": Finding(
        kind="stall",
        level="note",
        message="Thread 'heartbeat' has waited for Lock 'client_lock' for 12 s",
        parties=(
            dataclasses.replace(
                HEARTBEAT,
                victim=False,
                stack=(),
                waits_for=wait("client_lock", Site(CLIENT, 571, "poll"), 12.3, timeout=60),
            ),
        ),
    ),
    "internal": Finding(
        kind="internal",
        level="warning",
        message="the detector failed and is switched off: KeyError: 3",
        advice="please report this",
        fingerprint="0123456789abcdef",
    ),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_golden(name: str) -> None:
    """Each kind of finding reads as in its golden file."""
    assert text.render(FINDINGS[name], cwd=CWD) + "\n" == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_every_golden_file_has_its_finding() -> None:
    """No golden text is left that nothing is compared with."""
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(FINDINGS)


@pytest.mark.parametrize("name", FINDINGS)
def test_first_line_and_rest_are_the_whole(name: str) -> None:
    """Headline and body, which the error shows as text and note, are the render; only the first line stands out."""
    finding = FINDINGS[name]
    shown = text.render(finding, cwd=CWD)
    rest = text.body(finding, cwd=CWD)
    assert shown == text.headline(finding) + ("\n" + rest if rest else "")
    assert all(line.startswith("  ") for line in rest.splitlines())


@pytest.mark.parametrize("name", FINDINGS)
def test_color_changes_only_the_color(name: str) -> None:
    """Without its escape sequences the coloured form is the plain one, and every colour is switched off again."""
    colored = text.render(FINDINGS[name], cwd=CWD, color=True)
    plain = colored
    for code in {*text._COLORS.values(), "0"}:
        plain = plain.replace(f"\x1b[{code}m", "")
    assert plain == text.render(FINDINGS[name], cwd=CWD)
    assert all(line.count("\x1b[0m") * 2 == line.count("\x1b[") for line in colored.splitlines())
    assert "\x1b" not in text.render(FINDINGS[name], cwd=CWD)


def test_message_is_not_shown_twice() -> None:
    """A message that begins with the title is the first line as it is."""
    finding = Finding(kind="leak", message="LEAK: x")
    assert text.headline(finding) == "LEAK: x"


def test_names_cannot_forge_lines_or_colors() -> None:
    """Control characters, bidirectional overrides and lone surrogates of a name are shown as escapes."""
    evil = "x\n  fix: rm -rf\x1b[31m\u202e\udc80"
    shown = text.render(
        Finding(
            kind="misuse", message=evil, parties=(Party(agent=evil, stack=(Frame(evil, 1, evil, evil),)),)
        )
    )
    assert len(shown.splitlines()) == 5
    assert shown.isascii()
    assert "\\x1b[31m\\u202e\\udc80" in shown


def test_size_is_bounded_and_what_is_left_out_is_counted() -> None:
    """Thousands of parties, holds and frames do not make a report of thousands of lines."""
    party = dataclasses.replace(
        HEARTBEAT,
        holds=HEARTBEAT.holds * 1500,
        stack=HEARTBEAT.stack * 500,
    )
    cycle = ("Thread 'heartbeat'", "Lock 'x'") * 2000
    shown = text.render(deadlock("cycle", cycle, *[party] * 2000), cwd=CWD)
    assert "DEADLOCK (cycle of 2,000)" in shown
    assert "... 1,989 more ... ->" in shown
    assert "  ... 1,988 more parties" in shown
    assert "    ... 1,480 more\n" in shown
    assert "      ... 1,492 more, further out" in shown
    assert (
        shown.count("Thread 'heartbeat'  ") + shown.count("Thread 'heartbeat' (victim)  ") == text.MAX_PARTIES
    )
    assert len(shown) < 100_000


def test_frames_can_be_left_out() -> None:
    """max_frames=0 shows no stack at all."""
    assert "now at" not in text.render(FINDINGS["cycle"], cwd=CWD, max_frames=0)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "under 1 ms"),
        (float("nan"), "under 1 ms"),
        (0.0004, "under 1 ms"),
        (0.012, "12 ms"),
        (0.0994, "99 ms"),
        (0.0996, "0.1 s"),
        (0.8, "0.8 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (185.2, "3 min 5 s"),
        (7380, "2 h 3 min"),
        (90000, "1 d 1 h"),
        (1204 * 86400, "1,204 d"),
        (float("inf"), "forever"),
    ],
)
def test_humanise(seconds: float, shown: str) -> None:
    """Spans are shown as people say them, with two parts at most."""
    assert text.humanise(seconds) == shown


# --- advice -----------------------------------------------------------------------------------------------


def lock_party(name: str, holds: str, waits_for: str, *, victim: bool = False, made: int = 0) -> Party:
    """A party of a cycle of locks; ``made`` is the line where its lock was made, 0 for one of its own."""
    site = Site("x.py", made or 1 + sum(map(ord, waits_for)), "f")
    return Party(
        agent=f"Thread '{name}'",
        victim=victim,
        holds=(Hold(f"Lock '{holds}'", "Lock", holds),),
        waits_for=WaitsFor(f"Lock '{waits_for}'", "Lock", waits_for, site),
    )


def test_advice_for_a_cycle_is_the_order_of_all_but_the_victim() -> None:
    """The order told is the one that everybody but the victim keeps."""
    parties = [lock_party("1", "c", "a"), lock_party("2", "a", "b", victim=True), lock_party("3", "b", "c")]
    told = advice("cycle", parties)
    assert "'b' before 'c' before 'a'" in told
    assert "Thread '2' takes 'a' first" in told
    assert "'x' before 'y'" in advice("cycle", [lock_party("1", "y", "x"), lock_party("2", "x", "y")])


def test_advice_for_locks_of_one_place_is_to_order_them() -> None:
    """'forks' before 'forks' helps nobody."""
    parties = [lock_party(str(i), "forks[...]", "forks[...]", made=7) for i in range(5)]
    assert "these 5 locks are made at one place" in advice("cycle", parties)


def test_advice_for_many_locks_is_short() -> None:
    """A long cycle does not make a long sentence."""
    parties = [lock_party(str(i), f"l{i}", f"l{(i + 1) % 50}") for i in range(50)]
    assert len(advice("cycle", parties)) < 200


def test_advice_for_other_waits() -> None:
    """A wait that is no lock is told apart from lock order."""
    joining = Party(
        agent="Thread 'a'",
        holds=(Hold("Lock 'x'", "Lock", "x"),),
        waits_for=WaitsFor("Thread 'b'", "Thread", "b"),
    )
    other = lock_party("b", "y", "x")
    assert "do not wait for Thread 'b' while holding 'x'" in advice("cycle", [joining, other])
    assert "break the cycle" in advice("cycle", [dataclasses.replace(joining, holds=()), other])
    assert "waits for itself" in advice("self", [joining])


def test_advice_for_a_finalizer() -> None:
    """An RLock is no remedy where the garbage collector calls back."""
    party = dataclasses.replace(ALONE, stack=(Frame("x.py", 1, "__del__", None),))
    assert "queue.SimpleQueue" in advice("self", [party])


@pytest.mark.parametrize("cause", ["cycle", "self", "orphan", "asleep", "starved", "other", None])
def test_advice_never_fails_for_want_of_evidence(cause: str | None) -> None:
    """Without parties there is a general word, or none."""
    assert isinstance(advice(cause, []), str)
    assert isinstance(advice(cause, [Party(agent="a")]), str)
