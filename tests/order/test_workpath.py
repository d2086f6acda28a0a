"""Which work comes after which, in C: for every state of a thread the same as `segments` says, which is the reference."""

from __future__ import annotations

import random
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from lockwatch._core import agents, chains, fastpath, segments, settings, workpath
from lockwatch._core.segments import Clock, Exactness, Past

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.order.conftest import Stage

MINE, OTHERS, STRANGERS = 10**9, 10**9 + 1, 10**9 + 2
"""Numbers of clocks."""

NATIVE = fastpath.IMPLEMENTATION == "c"


class World:
    """A thread that is the calling one, with a clock, and what others know: the same for the same seed."""

    def __init__(self, seed: int, agent: agents.Agent) -> None:
        self.chance = random.Random(seed)
        self.agent = agent
        self.vectors = [segments.NOTHING.vector, segments._Vector({STRANGERS: 2})]
        self.vectors.append(segments._Vector({STRANGERS: 2, OTHERS: 1}))
        self.vectors[2].within.add(self.vectors[1].serial)
        self.clock = agent.clock = Clock(self.past(MINE))
        self.clock.number = MINE
        self.clock.segment = self.chance.randint(1, 4)
        self.agent.chains = self.chance.choice([{}, {}, {}, {(1, 2): chains.Tally()}])
        if self.chance.random() < 0.5:
            self.note()
        self.clocks = [self.clock]
        other = Clock(self.past(OTHERS))
        other.number, other.noted = OTHERS, self.chance.random() < 0.5
        self.clocks.append(other)
        self.known: list[Any] = [other, *(self.past() for _ in range(3))]
        self.work: list[Clock] = []

    def past(self, *but: int) -> Past:
        number = self.chance.choice([one for one in (0, 0, MINE, OTHERS, STRANGERS) if one not in but])
        if not number and self.chance.random() < 0.5:
            return segments.NOTHING
        return Past(self.chance.choice(self.vectors), number, self.chance.randint(1, 4) if number else 0)

    def note(self) -> None:
        """An order of locks is seen."""
        clock = segments.clock_of(self.agent)
        clock.noted = True
        clock.exact = Exactness(self.agent)
        clock.exact.on = self.chance.random() < 0.2

    def live(self, submit: Any, begin: Any, end: Any, after: Any) -> list[object]:
        """Do something at random, again and again; return what can be seen of that."""
        seen: list[object] = []
        for _ in range(self.chance.randint(1, 12)):
            era = self.agent.era
            what = self.chance.choice(["submit", "begin", "end", "after", "note"])
            if what == "submit":
                self.known.append(submit())
            elif what == "begin":
                past = self.chance.choice([one for one in self.known if type(one) is Past])
                self.work.append(begin(past))
            elif what == "end" and self.work:
                self.known.append(end(self.work.pop()))
            elif what == "after":
                after(self.chance.choice([*self.known, *self.work]))
            elif what == "note" and self.chance.random() < 0.2:
                self.note()
            clock, new_era = segments.clock_of(self.agent), self.agent.era is not era
            seen.append((what, self.describe(self.known[-1]), self.describe(clock), new_era))
        return [*seen, [self.describe(one) for one in (*self.known, *self.work, *self.clocks)]]

    def describe(self, one: Clock | Past) -> object:
        if isinstance(one, Past):
            shared: list[Any] = [number for number, vector in enumerate(self.vectors) if vector is one.vector]
            return shared or [*one.vector.entries.items()], one.number, one.segment
        if all(one is not clock for clock in self.clocks):
            self.clocks.append(one)
            one.number = MINE + 10 * len(self.clocks)  # given in the order in which they came to be seen
        exact = None if one.exact is None else one.exact.on
        return one.number, one.segment, one.noted, exact, self.describe(one.seen)


@pytest.fixture
def agent(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> agents.Agent:
    """The calling thread, whose clock and chains may be replaced."""
    me = agents.current()
    monkeypatch.setattr(me, "clock", None)
    monkeypatch.setattr(me, "chains", {})
    return me


def in_python(me: agents.Agent) -> tuple[Callable[..., object], ...]:
    """The four functions, by `segments`."""

    def after(known: Any) -> None:
        segments.acquire(me, known)

    return (
        lambda: segments.submit(me),
        lambda past: segments.begin_work(me, past),
        lambda work: segments.end_work(me, work),
        after,
    )


def in_c() -> tuple[Callable[..., object], ...]:
    """The four functions, by `workpath`."""
    return (
        workpath.submit_work,
        workpath.begin_work,
        workpath.end_work,
        lambda known: workpath.come_after(SimpleNamespace(_lockwatch_clock=known)),
    )


@pytest.mark.parametrize("seed", range(20))
def test_twins_agree(seed: int, agent: agents.Agent) -> None:
    """Whatever a thread knows, and in whatever order its pool's notes come: both say the same, and leave the same."""
    for trial in range(100):
        one = World(100 * seed + trial, agent).live(*in_python(agent))
        other = World(100 * seed + trial, agent).live(*in_c())
        assert one == other


@pytest.mark.skipif(not NATIVE, reason="it is segments that runs")
def test_usual_case_is_in_c(agent: agents.Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that takes no two locks, of a submitter that does: nothing of that comes to Python."""

    def refuse(*_: object) -> None:
        raise AssertionError

    submitter = agent.clock = Clock()
    submitter.noted, submitter.exact = True, Exactness(agent)
    worker = Clock()
    for name in ("submit", "begin_work", "end_work", "acquire"):
        monkeypatch.setattr(segments, name, refuse)
    for _ in range(3):
        agent.clock = submitter
        past = workpath.submit_work()
        agent.clock = worker
        over = workpath.end_work(workpath.begin_work(past))
        agent.clock = submitter
        workpath.come_after(SimpleNamespace(_lockwatch_clock=over))
    assert submitter.segment == 4
    assert (worker.seen.number, worker.seen.segment) == (submitter.number, 3)


def test_no_clock_is_no_news(agent: agents.Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A future that no pool ran has no clock; nor is one looked at while lock order is off."""
    clock = agent.clock = Clock()
    workpath.come_after(SimpleNamespace())
    monkeypatch.setattr(settings, "order", False)
    workpath.come_after(SimpleNamespace(_lockwatch_clock=Past(segments._Vector({OTHERS: 1}))))
    assert (clock.segment, clock.seen) == (1, segments.NOTHING)


def test_agent_of_the_thread() -> None:
    """Each thread has its own, and one that has no lock yet gets one."""
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.extend([workpath.thread_agent(), agents.current()]))
    thread.start()
    thread.join()
    assert found[0] is found[1] is not agents.current()
    assert workpath.thread_agent() is agents.current()
