"""Helpers for tests of the detector: threads whose ends are kept, and patience that ends in stacks, not in a hang."""

from __future__ import annotations

import faulthandler
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from time import monotonic_ns
from typing import Any
from unittest import mock

import pytest

import lockwatch
from lockwatch import config, delivery, leaks
from lockwatch._core import agents, detector, hooks, reduction
from lockwatch._core.agents import Agent
from lockwatch._core.frames import current_frames
from lockwatch._core.waits import ALL, GRANTED, VERDICT, Blockers, Wait, innermost, publish
from lockwatch.locks import lock as lock_module

LIMIT = 30.0
"""Seconds after which what a test waits for will not come any more."""


class Job:
    """One thread of a test.

    Attributes:
        thread: The thread.
        agent: Its agent, once it has begun.
        value, error: What its function returned or raised.
    """

    def __init__(
        self, crew: Crew, target: Callable[..., object], args: Sequence[Any], name: str | None
    ) -> None:
        self.agent: Agent | None = None
        self.value: object = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=(target, args), name=name, daemon=True)
        crew.jobs.append(self)

    def _run(self, target: Callable[..., object], args: Sequence[Any]) -> None:
        self.agent = agents.current()
        try:
            self.value = target(*args)
        except BaseException as error:
            self.error = error

    def start(self) -> Job:
        self.thread.start()
        return self

    def wait(self) -> Wait | None:
        """What the thread waits for right now."""
        return None if self.agent is None else innermost(self.agent)

    def waits_for(self, lock: object) -> bool:
        """Whether the thread sleeps in a wait for this lock: it has looked for deadlocks, and found none."""
        wait = self.wait()
        return wait is not None and wait.resource is lock and self.parked()

    def parked(self) -> bool:
        """Whether the thread is asleep, or about to be with nothing left to do before."""
        frame = current_frames().get(self.thread.ident or 0)
        return frame is not None and frame.f_code.co_name == "park"

    def done(self) -> bool:
        return self.thread.ident is not None and not self.thread.is_alive()

    @property
    def deadlock(self) -> lockwatch.Finding | None:
        """The finding of the DeadlockError that ended it; any other error is raised."""
        if isinstance(self.error, lockwatch.DeadlockError):
            return self.error.finding
        if self.error is not None:
            raise self.error
        return None


class Crew:
    """The threads of one test."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def job(self, target: Callable[..., object], *args: Any, name: str | None = None) -> Job:
        """Makes a thread and does not start it."""
        return Job(self, target, args, name)

    def start(self, target: Callable[..., object], *args: Any, name: str | None = None) -> Job:
        return self.job(target, *args, name=name).start()

    def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Waits for a condition; fails with all stacks if it does not come."""
        deadline = time.monotonic() + LIMIT
        while not condition():
            if time.monotonic() > deadline:
                faulthandler.dump_traceback(all_threads=True)
                pytest.fail(f"waited {LIMIT} s in vain for {what or condition}")
            time.sleep(0.0005)

    def blocked(self, job: Job, lock: object) -> None:
        """Waits until a thread sleeps in its wait for a lock."""
        self.until(lambda: job.waits_for(lock), f"{job.thread.name} to wait for {lock}")

    def join(self) -> None:
        """Waits for all threads to end."""
        for job in self.jobs:
            if job.thread.ident is not None:
                self.until(job.done, f"{job.thread.name} to end")
                job.thread.join()

    def deadlocks(self) -> list[lockwatch.Finding]:
        """The findings of all DeadlockErrors that ended threads, once all have ended; other errors are raised."""
        self.join()
        return [found for found in (job.deadlock for job in self.jobs) if found is not None]


Chain = Callable[..., list[Job]]


@pytest.fixture
def crew() -> Iterator[Crew]:
    """The test's threads; all must have ended when it has."""
    crew = Crew()
    yield crew
    crew.join()


@pytest.fixture
def chain(crew: Crew) -> Chain:
    """Starts threads that each hold one lock of a list and want the next: ``chain([a, b, c])`` is a ring.

    Thread i takes ``locks[i]``, and when all have theirs, one after the other waits for the next lock, so the last
    one closes the ring; with ``closed=False`` it wants nothing, and ends. The names are "t0", "t1", ...
    """

    def start(locks: Sequence[AbstractContextManager[bool]], *, closed: bool = True) -> list[Job]:
        count = len(locks)
        turns = [threading.Event() for _ in locks]
        have = [threading.Event() for _ in locks]

        def body(index: int) -> str:
            with locks[index]:
                have[index].set()
                turns[index].wait()
                if index == count - 1 and not closed:
                    return "went on"
                with locks[(index + 1) % count]:
                    return "went on"

        jobs = []
        for index in range(count):
            jobs.append(crew.start(body, index, name=f"t{index}"))
            crew.until(have[index].is_set)
        for index in range(count - 1):
            turns[index].set()
            crew.blocked(jobs[index], locks[index + 1])
        turns[-1].set()
        return jobs

    return start


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has lockwatch's defaults without the CPU query, an empty record, and no locks known as signals.

    Leaks are told by lockwatch's own thread a moment later, maybe in the next test: they have tests of their own.
    """
    assert hooks.ended_holding is leaks._ended
    monkeypatch.setattr(hooks, "ended_holding", lambda _agent: None)
    monkeypatch.setattr(hooks, "dropped", lambda _lock: None)
    explicit = config.explicit()
    config.configure(mode="raise", cpu=False)
    delivery.clear()
    yield
    config.reset(explicit)
    delivery.clear()
    delivery._callbacks.clear()
    lock_module._signal_classes.clear()
    with suppress(KeyError):
        detector._claims.clear()


# --- graphs without threads ------------------------------------------------------------------------------------------


class Stub:
    """A resource whose answers are given: the open interface that the detector asks. The last one is repeated.

    A soft answer turns into the plain one when the wait has no hope any more.
    """

    def __init__(self, *answers: Blockers) -> None:
        self.answers = list(answers)

    def blockers(self, wait: Wait, /) -> Blockers:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer if wait.hope or not answer.soft else Blockers(ALL, answer.agents, answer.evidence)

    def forget_waits(self, survivor: Agent, /) -> None:
        raise NotImplementedError


class Stubs:
    """Makes agents without threads, and their waits for stubs."""

    SOFT = "soft"
    """A rule for `wait`: ALL, as far as is known; while the wait has hope, anybody may end it."""

    def __init__(self) -> None:
        self._idents = count(1 << 62)  # such as no thread has

    def agent(self, *, ended: bool = False) -> Agent:
        ident = next(self._idents)
        one = Agent(ident, ident, None)
        one.thread_ref = weakref.ref(threading.main_thread())  # a thread that lives
        one.ended = ended
        return one

    def wait(
        self, one: Agent, rule: str, *parties: Agent, timed: bool = False, decided: bool = False
    ) -> Wait:
        """Publishes a wait of one agent for a stub that answers so."""
        answer = Blockers(rule, parties, object())
        if rule == self.SOFT:
            answer = Blockers(ALL, parties, object(), lambda idle: True)
        wait = Wait(one, Stub(answer), monotonic_ns(), 10**18 if timed else None)
        if decided:
            wait.slot[VERDICT] = GRANTED
        publish(wait)
        return wait

    def answers(self, wait: Wait) -> list[Blockers]:
        """What the stub that is waited for answers: each in its turn, the last one for ever."""
        assert isinstance(wait.resource, Stub)
        return wait.resource.answers

    @contextmanager
    def world(self, people: list[Agent], *, outsiders: bool = False) -> Iterator[None]:
        """These agents are all there are, and nobody else may act (unless ``outsiders``)."""
        with (
            mock.patch.object(agents, "by_ident", {one.ident: one for one in people if not one.ended}),
            mock.patch.object(reduction, "someone_else_may_act", lambda stuck: outsiders),
        ):
            yield


@pytest.fixture(scope="session")
def stubs() -> Stubs:
    """Agents without threads and their waits, to build graphs of."""
    return Stubs()
