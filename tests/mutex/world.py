"""One run of a program on the simulated mutex: what can happen next, what happens, and the rules it is held to.

The rules. In every state: nobody is inside a lock that another is inside; nobody but its owner writes the state
of a lock; somebody can go on without a time-out, an interrupt or the clock (that nobody can is what a lost
wake-up looks like). In starvation mode: nobody overtakes (M5), and a grant goes to the head of the queue. When
an acquire ends: no waiter of it is left in the queue or in the graph, and the state says what its result says.
At the end: `_check()`, every lock free with an empty queue, every acquisition counted, nothing held or waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lockwatch._core import detector
from lockwatch._core.waits import SUSPENDED, VERDICT

if TYPE_CHECKING:
    from tests.mutex.identity import frames_of
    from tests.mutex.programs import Operation, Program
    from tests.mutex.simulation import Agent, Simulation, Steps
else:
    from mutex_identity import frames_of
    from mutex_simulation import Agent

Choice = tuple[str, int]
"""What happens ("run", "poll", "wait": it goes on by itself, by a short or a long time-out; "interrupt", "handle";
"tick"), and to which thread."""

UNTIL = "until"


class Violation(AssertionError):
    """A schedule breaks a rule."""


class Thread:
    """A simulated thread: a stack of generators, the program below, a handler on top."""

    __slots__ = (
        "agent",
        "busy",
        "busy_below",
        "expired",
        "handled",
        "interrupted",
        "number",
        "pending",
        "role",
        "stack",
        "within",
        "won",
    )

    def __init__(self, number: int, role: int, agent: Agent) -> None:
        self.number = number
        self.role = role  # threads of one role are interchangeable
        self.agent = agent
        self.stack: list[Any] = []
        self.pending: list[Any] = []  # what each generator of the stack has yielded last
        self.expired = False
        self.handled = False
        self.interrupted = False
        self.busy = ""  # inside "acquire" or "release"
        self.busy_below = ""
        self.within: list[int] = []  # locks whose critical sections it is in
        self.won: tuple[Any, ...] | None = None  # who stood before it when it won a lock in starvation mode


class World:
    """One run: the locks, the threads, and the checks that go along."""

    def __init__(self, program: Program, sim: Simulation) -> None:
        self.program = program
        sim.world = self
        self.threshold = program.threshold  # this and the next three are what the simulated modules ask for
        self.handlers_installed = program.handlers_installed
        self.interrupt = sim.interrupt
        self.ticks = 0
        self.interrupts = program.interrupts
        self.last = -1
        self.bounded = program.preemptions is not None
        self.preemptions = 0
        self.knot = False  # the detector saw a deadlock
        self.foreign = program.foreign_release
        self.locks = [sim.lock_types[kind]() for kind in program.locks]
        self.several = len(self.locks) > 1
        self.state = self.locks[0]._state
        for lock in self.locks:
            lock._taken = 0
        self.threads = [
            Thread(number, program.role(number), Agent(f"T{number}", main=number == program.main))
            for number in range(len(program.threads))
        ]
        for thread, operations in zip(self.threads, program.threads, strict=True):
            self.current = thread
            thread.stack.append(self._operations(thread, operations))
            thread.pending.append(next(thread.stack[-1]))

    def _operations(self, thread: Thread, operations: Sequence[Operation]) -> Steps:
        for operation in operations:
            yield from operation(self, thread)

    def until(self, condition: Callable[[], bool]) -> tuple[Callable[[], bool], str]:
        """Return what an operation yields to wait for a condition."""
        return condition, UNTIL

    def alone(self, thread: Thread) -> bool:
        """Whether all other threads are through."""
        return not any(other.stack for other in self.threads if other is not thread)

    # --- what can happen next

    def _ready(self, thread: Thread) -> str:
        """Say how a thread can go on: "run", "poll" and "wait" (only by a short or a long time-out), or "" not at all."""
        if not thread.stack:
            return ""
        pending = thread.pending[-1]
        if type(pending) is not tuple:
            return "run"
        parker, timeout_ns = pending
        if timeout_ns == UNTIL:
            return "run" if parker() else ""
        if parker.permit:
            return "run"
        return "" if timeout_ns is None else "poll" if timeout_ns <= 1_000_000 else "wait"

    def choices(self) -> list[Choice]:
        """List what can happen next; the first is progress if there is any."""
        for thread in [self.threads[self.last]] if self.bounded and self.last >= 0 else self.threads:
            if thread.stack and self._local(thread):
                return [("run", thread.number), *self._disturbances(thread)]
        found: list[Choice] = []
        for thread in self.threads:
            how = self._ready(thread)
            if how:
                found.append((how, thread.number))
        bound = self.program.preemptions
        if bound is not None and self.preemptions >= bound:  # whoever is running runs on
            going_on = [choice for choice in found if choice[1] == self.last and choice[0] == "run"]
            found = going_on or found
        found.sort(key=lambda choice: (choice[0] != "run", choice[1] != self.last))
        for thread in self.threads:
            found.extend(self._disturbances(thread))
        if self.ticks < self.program.ticks:
            found.append(("tick", -1))
        return found

    def _local(self, thread: Thread) -> bool:
        """Whether a thread's next step commutes with whatever the others do: then no other needs to be tried first."""
        pending = thread.pending[-1]
        if pending == "state":
            hold = self.state.get(0)
            return hold is not None and hold[0] is thread.agent and not self.several and not self.foreign
        if pending == "own":
            waits = thread.agent.waits
            return len(waits) == 1 and not waits[0].open_seen
        return bool(pending == "local")

    def _disturbances(self, thread: Thread) -> Iterator[Choice]:
        if not thread.busy:
            return
        if self.interrupts and not thread.interrupted:
            yield ("interrupt", thread.number)
        if not thread.handled and thread.number in self.program.handlers:
            yield ("handle", thread.number)

    def finished(self) -> bool:
        """Whether all threads are through, or a deadlock that may be was found."""
        return self.knot or not any(thread.stack for thread in self.threads)

    # --- steps

    def step(self, choice: Choice) -> None:
        """Let one thing happen, and check what can be checked there."""
        kind, number = choice
        if kind == "tick":
            self.ticks += 1
            return
        thread = self.threads[number]
        if self.bounded and kind != "interrupt" and self.last not in (number, -1):
            self.preemptions += self._ready(self.threads[self.last]) == "run"
        self.last = number
        self.current = thread
        before = [lock._state.get(0) for lock in self.locks] if self.several else self.state.get(0)
        try:
            if kind == "handle":
                thread.handled = True
                thread.busy, thread.busy_below = "", thread.busy
                thread.stack.append(self.program.handlers[number](self, thread))
                thread.pending.append(None)
                thread.pending[-1] = next(thread.stack[-1])
            elif kind == "interrupt":
                self.interrupts -= 1
                thread.interrupted = True
                thread.pending[-1] = thread.stack[-1].throw(self.interrupt())
            else:
                pending = thread.pending[-1]
                value = None
                if type(pending) is tuple and pending[1] != UNTIL:
                    value = kind == "run"
                    if value:
                        pending[0].permit = False
                    elif kind == "wait":
                        thread.expired = True
                thread.pending[-1] = thread.stack[-1].send(value)
        except StopIteration:
            thread.stack.pop()
            thread.pending.pop()
            thread.busy, thread.busy_below = thread.busy_below, ""  # what a handler interrupted goes on next
        if self.several:
            for lock, hold in zip(self.locks, before, strict=True):
                now = lock._state.get(0)
                if now is not hold and now is not None:
                    self._changed_hands(lock, hold, now, thread)
        else:
            now = self.state.get(0)
            if now is not before and now is not None:
                self._changed_hands(self.locks[0], before, now, thread)

    # --- the rules

    def _changed_hands(self, lock: Any, before: Any, hold: Any, actor: Thread) -> None:
        mine = hold[6] if len(hold) > 6 else None
        if before is not None and before[0] is not actor.agent and not self.foreign:
            raise Violation(f"T{actor.number} wrote the state of the lock that {before[0].name} owns")
        queue = lock._queue
        ahead = []
        if lock._starving:
            for waiter in queue:
                if waiter.parker is mine:
                    break
                if (
                    waiter.agent is not hold[0]
                    and not waiter.slot
                    and not (waiter.agent.main and self.handlers_installed)
                ):
                    ahead.append(waiter)
        if hold[0] is actor.agent:
            # one that has given way will be back at the head: it overtakes nobody (M8)
            back = any(
                wait.parker is mine and wait.slot.get(VERDICT) is SUSPENDED for wait in actor.agent.waits
            )
            actor.won = None if back else tuple(ahead) or None
        elif ahead:
            raise Violation(
                f"hand-off is not FIFO: {hold[0].name} was granted the lock before {ahead[0].agent.name}"
            )

    def acquired(self, thread: Thread, lock: Any, got: bool) -> None:
        """Check what an acquire that has just ended leaves behind."""
        number = self.locks.index(lock)
        held_before = number in thread.within
        hold = lock._state.get(0)
        for waiter in lock._queue:
            if waiter.agent is thread.agent and not thread.busy_below:
                raise Violation("a waiter that has left is in the queue")
        if not thread.busy_below and any(wait.resource is lock for wait in thread.agent.waits):
            raise Violation("a wait that has ended is in the graph")
        if got:
            others = [t for t in self.threads if t is not thread and number in t.within]
            if others:
                raise Violation(f"T{thread.number} got the lock that T{others[0].number} holds")
            if (hold is None or hold[0] is not thread.agent) and not self.foreign:
                raise Violation("acquired, but the state does not say so")
            if not held_before:
                lock._taken += 1
                if thread.won and lock._starving:
                    left_behind = [w for w in thread.won if w in lock._queue and not w.slot]
                    if left_behind:
                        raise Violation(
                            f"T{thread.number} overtook {left_behind[0].agent.name} in starvation mode"
                        )
            thread.within.append(number)
        elif hold is not None and hold[0] is thread.agent and not held_before and not thread.busy_below:
            raise Violation("not acquired, but the state says that it is ours")
        thread.won = None

    def releasing(self, thread: Thread, lock: Any) -> None:
        """Note that a critical section ends here."""
        thread.within.remove(self.locks.index(lock))

    def check(self, choices: list[Choice]) -> None:
        """Check what must hold in every state."""
        if self.knot:
            if not self.program.may_deadlock:
                raise Violation("a deadlock was seen where there can be none")
        elif self.finished():
            for lock in self.locks:
                lock._check()
                if lock._starving and self.program.mode_is_left:
                    raise Violation("everybody is through, and the lock is in starvation mode")
                if lock._state or lock._queue:
                    raise Violation(f"everybody is through, and {lock._state=} {lock._queue=}")
                if not self.program.interrupts and not self.foreign and lock._acquisitions != lock._taken:
                    raise Violation(f"{lock._acquisitions=}, but it was taken {lock._taken} times")
            for thread in self.threads:
                if thread.agent.waits or (thread.agent.holds and not self.foreign):
                    raise Violation(
                        f"T{thread.number} is through, and {thread.agent.waits=} {thread.agent.holds=}"
                    )
        elif not any(
            kind in ("run", "poll") or (kind == "wait" and self._shut_out(number)) for kind, number in choices
        ):
            raise Violation("lost wake-up: nobody can go on without a time-out or an interrupt")

    def _shut_out(self, number: int) -> bool:
        """Whether a thread's handler waits for a lock that the thread itself owns: only its time-out can help."""
        thread = self.threads[number]
        if len(thread.stack) == 1:
            return False
        hold = thread.agent.waits[-1].resource._state.get(0)
        return hold is not None and hold[0] is thread.agent

    def look_for_knot(self, wait: Any) -> None:
        """Stand for `detector.block`: note what the real detector finds, which decides nothing here.

        With handlers it is left out: what it makes of a wait under a handler is the matter of its own tests.
        """
        if not self.program.handlers:
            self.knot = self.knot or detector.check(wait) is not None

    # --- for the schedule of a violation

    def where(self, number: int) -> str:
        """Say where a thread stands: function and line."""
        stack = self.threads[number].stack
        frames = frames_of(stack[-1]) if stack else []
        return f"{frames[-1].f_code.co_name}:{frames[-1].f_lineno}" if frames else "-"

    def describe(self) -> str:
        """Render owner, queue and mode of the first lock."""
        lock = self.locks[0]
        hold = lock._state.get(0)
        queue = [
            f"{waiter.agent.name}{'*' if waiter.parker.permit else ''}{''.join(map(str, waiter.slot.values()))}"
            for waiter in lock._queue
        ]
        mode = " starving" if lock._starving else ""
        return f"owner={None if hold is None else hold[0].name} queue={queue}{mode}"
