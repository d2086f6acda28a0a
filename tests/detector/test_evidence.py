"""What a finding says of its parties, the live tables, and the ways in which a program hears of findings."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lockwatch
from lockwatch import config
from lockwatch.findings import Site

if TYPE_CHECKING:
    from tests.conftest import RunPython
    from tests.detector.conftest import Chain, Crew

HERE = __file__
OURS = str(Path(lockwatch.__file__).parent) + os.sep


def line(marker: str) -> int:
    """The number of the line of this file that ends in ``# marker``."""
    lines = Path(HERE).read_text(encoding="utf-8").splitlines()
    (found,) = [number for number, text in enumerate(lines, 1) if text.endswith(f"# {marker}")]
    return found


class Account:
    """Two locks and the ways to take them."""

    def __init__(self) -> None:
        self.left = lockwatch.Lock()  # makes left
        self.right = lockwatch.RLock()  # makes right
        self.turn = threading.Event()

    def leftwards(self) -> None:
        with self.right:  # leftwards takes right
            with self.right:
                self.turn.wait()
            with self.left:  # leftwards wants left
                pass

    def rightwards(self, crew: Crew) -> None:
        self.left.acquire()  # rightwards takes left
        try:
            crew.until(self.right.locked)
            self.deeper()
        finally:
            self.left.release()

    def deeper(self) -> None:
        self.turn.set()
        with self.right:  # deeper wants right
            pass


@pytest.fixture
def account(crew: Crew) -> Account:
    """An account whose two threads, "l" and "r", have just been in a deadlock."""
    account = Account()
    one = crew.job(account.leftwards, name="l")
    two = crew.job(account.rightwards, crew, name="r")
    lockwatch.set_deadlock_weight(-1, two.thread)
    two.start()
    crew.until(account.left.locked)
    one.start()
    crew.join()
    return account


def test_parties_of_a_finding(account: Account) -> None:
    """Each party: who it is, what it holds and where it took that, what it wants and where; every line exact."""
    found = lockwatch.last_deadlock()
    assert found is not None
    parties = {party.name: party for party in found.parties}
    left, right = parties["l"], parties["r"]
    assert (left.agent, right.agent) == ("Thread 'l'", "Thread 'r'")
    assert (left.victim, right.victim) == (False, True)
    assert (left.weight, right.weight) == (0, -1)
    assert left.daemon is right.daemon is True
    assert left.alive
    assert right.alive
    assert left.ident != right.ident
    assert left.native_id != right.native_id
    assert None not in {left.ident, right.ident, left.native_id, right.native_id}

    (hold,) = left.holds
    assert hold.resource == "RLock 'Account.right'"
    assert (hold.kind, hold.name, hold.count, hold.how) == ("RLock", "Account.right", 1, "with")
    assert hold.created == Site(HERE, line("makes right"), "__init__")
    assert hold.taken == Site(HERE, line("leftwards takes right"), "leftwards")
    (hold,) = right.holds
    assert hold.resource == "Lock 'Account.left'"
    assert (hold.kind, hold.name, hold.count, hold.how) == ("Lock", "Account.left", 1, "acquire")
    assert hold.created == Site(HERE, line("makes left"), "__init__")
    assert hold.taken == Site(HERE, line("rightwards takes left"), "rightwards")

    assert left.waits_for is not None
    assert left.waits_for.resource == "Lock 'Account.left'"
    assert left.waits_for.where == Site(HERE, line("leftwards wants left"), "leftwards")
    assert right.waits_for is not None
    assert right.waits_for.resource == "RLock 'Account.right'"
    assert right.waits_for.where == Site(HERE, line("deeper wants right"), "deeper")
    assert left.waits_for.timeout is None
    assert left.waits_for.mode == "exclusive"


def test_ages_and_stacks_of_a_finding(account: Account) -> None:
    """Ages are those of the moment; stacks end where the party waits, and show no frame of lockwatch's own."""
    found = lockwatch.last_deadlock()
    assert found is not None
    assert found.pid == os.getpid()
    assert abs(time.time() - found.time) < 60
    for party in found.parties:
        assert party.waits_for is not None
        assert 0 <= party.waits_for.age <= (party.holds[0].age or 0) < 60
        assert not [frame for frame in party.stack if frame.file.startswith(OURS)]
        assert not [frame for frame in party.stack if frame.function in {"_bootstrap", "_bootstrap_inner"}]
        assert party.waits_for.where is not None
        assert (party.stack[-1].file, party.stack[-1].line) == (HERE, party.waits_for.where.line)
        assert party.stack[-1].source == Path(HERE).read_text().splitlines()[party.stack[-1].line - 1].strip()
    deeper = next(party.stack for party in found.parties if party.name == "r")
    assert [frame.function for frame in deeper][-2:] == ["rightwards", "deeper"]


def test_notes_of_the_error(crew: Crew, chain: Chain) -> None:
    """The error's text is the report's first line, its note is the rest, and it carries the finding."""
    jobs = chain([lockwatch.Lock(name="a"), lockwatch.Lock(name="b")])
    (found,) = crew.deadlocks()
    error = jobs[-1].error
    assert isinstance(error, lockwatch.DeadlockError)
    assert error.finding is found is lockwatch.last_deadlock()
    assert str(error).startswith("DEADLOCK (cycle of 2): ")
    (note,) = error.__notes__
    for word in (
        "Thread 't0'",
        "Thread 't1'",
        "Lock 'a'",
        "Lock 'b'",
        "victim",
        "test_evidence.py",
        "conftest.py",
    ):
        assert word in str(error) + note, word
    assert isinstance(error, lockwatch.LockwatchError)
    assert isinstance(error, RuntimeError)


def test_stack_depth_is_a_setting(crew: Crew) -> None:
    """``stack_depth`` keeps that many frames of each party, the innermost ones."""
    config.configure(stack_depth=3)
    lock = lockwatch.Lock()

    def recurse(depth: int) -> None:
        if depth:
            recurse(depth - 1)
        with lock:
            recurse(3)

    crew.start(recurse, 0)
    (found,) = crew.deadlocks()
    assert [frame.function for frame in found.parties[0].stack] == ["recurse"] * 3


def test_names_are_those_of_today(crew: Crew) -> None:
    """A thread that was renamed after its first lock is called by its new name."""

    def body() -> None:
        lock = lockwatch.Lock()
        with lock:
            threading.current_thread().name = "renamed"
            with lock:
                pass

    crew.start(body, name="early")
    (found,) = crew.deadlocks()
    assert found.parties[0].agent == "Thread 'renamed'"


def test_fingerprint_names_the_defect(crew: Crew, chain: Chain) -> None:
    """The same defect has one fingerprint, whoever came first; another has another."""
    prints = []
    for size in (2, 2, 3):
        chain([lockwatch.Lock() for _ in range(size)])
        prints.append(crew.deadlocks()[-1].fingerprint)
    assert prints[0] == prints[1] != prints[2]


# --- live tables -----------------------------------------------------------------------------------------------


def test_waits_and_holders(crew: Crew) -> None:
    """``waits()`` and ``holders()`` show who waits for what and who has what, now; and nothing of it afterwards."""
    lock, again = lockwatch.Lock(name="lock"), lockwatch.RLock(name="again")

    def body() -> None:
        with again, again, lock:  # body wants lock
            pass

    def timed() -> None:
        assert lock.acquire(timeout=1000)  # timed wants lock
        lock.release()

    with lock:  # main takes lock
        jobs = [crew.start(body, name="w0"), crew.start(timed, name="w1")]
        for job in jobs:
            crew.blocked(job, lock)
        rows = lockwatch.waits()
        held = {(row.agent, row.hold.resource): row for row in lockwatch.holders()}
    me = f"Thread {threading.current_thread().name!r}"
    assert [(row.agent, row.waits_for.resource, row.rule, row.blockers) for row in rows] == [
        ("Thread 'w0'", "Lock 'lock'", "all", (me,)),
        ("Thread 'w1'", "Lock 'lock'", "all", (me,)),
    ]
    assert [row.ident for row in rows] == [job.thread.ident for job in jobs]
    assert [row.waits_for.where for row in rows] == [
        Site(HERE, line("body wants lock"), "body"),
        Site(HERE, line("timed wants lock"), "timed"),
    ]
    assert [row.waits_for.timeout for row in rows] == [None, 1000]
    assert set(held) == {(me, "Lock 'lock'"), ("Thread 'w0'", "RLock 'again'")}
    mine, theirs = held[me, "Lock 'lock'"], held["Thread 'w0'", "RLock 'again'"]
    assert (mine.waiters, mine.ident, mine.hold.taken) == (
        2,
        threading.get_ident(),
        Site(HERE, line("main takes lock"), "test_waits_and_holders"),
    )
    assert (theirs.waiters, theirs.hold.count, theirs.hold.how) == (0, 2, "with")
    crew.join()
    assert lockwatch.waits() == ()
    assert lockwatch.holders() == ()


def test_record(crew: Crew, chain: Chain) -> None:
    """Findings are kept oldest first; the last deadlock is the last of them that is one."""
    assert lockwatch.last_deadlock() is None
    for size in (2, 3):
        chain([lockwatch.Lock() for _ in range(size)])
        crew.join()
    first, second = (one for one in lockwatch.recorded_findings() if one.kind == "deadlock")
    assert (len(first.parties), len(second.parties)) == (2, 3)
    assert lockwatch.last_deadlock() is second
    assert [first, second] == [type(first).from_json(one.to_json()) for one in (first, second)]


# --- callbacks -------------------------------------------------------------------------------------------------------


def test_callback_runs_in_the_victims_thread(crew: Crew, chain: Chain) -> None:
    """``on_finding`` is called once for each, in the victim's thread, until it is taken out."""
    heard: list[tuple[lockwatch.Finding, str]] = []
    remove = lockwatch.on_finding(lambda found: heard.append((found, threading.current_thread().name)))
    chain([lockwatch.Lock() for _ in range(3)])
    (found,) = crew.deadlocks()
    assert heard == [(found, "t2")]
    remove()
    remove()  # twice does no harm
    chain([lockwatch.Lock() for _ in range(3)])
    assert len(crew.deadlocks()) == 2
    assert len(heard) == 1


def test_failing_callback_is_removed(crew: Crew, chain: Chain) -> None:
    """A callback that raises is taken out; the victim gets its DeadlockError all the same, and others are called."""
    calls: list[str] = []

    def bad(found: lockwatch.Finding) -> None:
        calls.append("bad")
        raise KeyError("callback")

    lockwatch.on_finding(bad)
    lockwatch.on_finding(lambda found: calls.append("good"))
    for _ in range(2):
        chain([lockwatch.Lock() for _ in range(2)])
        crew.join()
    assert len(crew.deadlocks()) == 2
    assert calls == ["bad", "good", "good"]


def test_callback_must_be_callable() -> None:
    """What cannot be called is refused when it is given."""
    with pytest.raises(TypeError, match="must be callable"):
        lockwatch.on_finding(None)  # type: ignore[arg-type]


def test_callback_that_waits_for_a_lock_in_use(crew: Crew, chain: Chain) -> None:
    """A callback may take a watched lock that is contended, as a logging handler does: it waits its turn."""
    log, lines = lockwatch.Lock(name="log"), []
    release = threading.Event()

    def busy() -> None:
        with log:
            release.wait()

    def callback(found: lockwatch.Finding) -> None:
        crew.until(log.locked)
        threading.Timer(0.02, release.set).start()
        with log:
            lines.append(found.cause)

    lockwatch.on_finding(callback)
    crew.start(busy)
    crew.until(log.locked)
    chain([lockwatch.Lock() for _ in range(2)])
    assert len(crew.deadlocks()) == 1
    assert lines == ["cycle"]


CALLBACK_IN_A_KNOT = """
    import sys
    import threading
    import lockwatch
    from lockwatch import config
    config.configure(cpu=False)
    a, b = lockwatch.Lock(name="a"), lockwatch.Lock(name="b")
    gate = threading.Barrier(2)
    calls = []

    def callback(found):
        calls.append(found)
        with {wanted}:
            pass

    lockwatch.on_finding(callback)

    def body(one, two):
        with one:
            gate.wait()
            try:
                with two:
                    sys.stdout.write("went on\\n")
            except lockwatch.DeadlockError as error:
                sys.stdout.write(f"victim of {{len(error.finding.parties)}}\\n")

    threads = [threading.Thread(target=body, args=pair) for pair in ((a, b), (b, a))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("calls", len(calls), "findings", len(lockwatch.recorded_findings()))
"""


def test_callback_that_waits_for_the_knot_itself(run_python: RunPython) -> None:
    """A callback that takes the very locks of the deadlock makes another one, in itself.

    It fails with that and is removed; it is not called again for what it did, the victim gets its own error, and the
    other thread goes on.
    """
    done = run_python(CALLBACK_IN_A_KNOT.format(wanted="a, b"))
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["calls 1 findings 2", "victim of 2", "went on"]
    assert "RecursionError" not in done.stderr
