"""From a knot to a finding: what the mechanism knows as objects becomes text and numbers.

Guarantees: reads only, takes no lock of ours or the program's, calls no method of a user's object, imports
    nothing when it is
used. What cannot be found out (a frame that moved on, a name, a CPU time) is left out; never an exception.

Assumes: called in the thread that found the knot, while its parties are stuck, so that their stacks stand
    still.

Cost: a few milliseconds; reads the source files on the parties' stacks, and asks psutil once if the config
    says so.
"""

import linecache
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import CodeType, FrameType
from typing import Any

from lockwatch import advice, config, findings
from lockwatch._core import agents
from lockwatch._core.agents import Agent
from lockwatch._core.frames import current_frames
from lockwatch._core.holds import CODE, HOW, LASTI, LOCK, Hold, NoLaterThan, taken_ns
from lockwatch._core.knots import Edge, Knot
from lockwatch._core.waits import Wait, innermost
from lockwatch.naming import line_of, site
from lockwatch.report import text

_STARTERS = frozenset({"_bootstrap", "_bootstrap_inner"})
_LOOP_FILES = tuple(os.path.join("asyncio", name) for name in ("base_events.py", "events.py", "runners.py"))
_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_RUNNER = os.path.join(_OURS, "cli", "")
_DEMO = os.path.join(_RUNNER, "philosophers.py")

runner_folders: tuple[str, ...] = ()
"""Folders, each with a separator at its end, of code that only runs the program: its frames are left out of stacks."""


def finding_of(knot: Knot) -> findings.Finding:
    """Return the finding that explains ``knot``."""
    owner = _owner_outside(knot)
    look = _Look([*(edge.agent for edge in knot.edges), *([owner] if owner else [])])
    victim = knot.victim if config.current().mode == "raise" else None
    parties = [look.party(edge.agent, edge.wait, victim=edge.wait is victim) for edge in knot.edges]
    cycle: list[str] = []
    for edge in knot.edges:
        cycle += [agent_label(edge.agent), look.label(edge.wait.resource)]
    if owner is not None:
        parties.append(look.party(owner))
        cycle.append(agent_label(owner))
    return findings.Finding(
        kind="deadlock",
        cause=knot.cause,
        level="error",
        message=text.summary(knot.cause, cycle, parties),
        pid=os.getpid(),
        time=time.time(),
        parties=tuple(parties),
        cycle=tuple(cycle),
        advice=advice.advice(knot.cause, parties) or None,
        fingerprint=findings.fingerprint("deadlock", knot.cause, [_signature(edge) for edge in knot.edges]),
    )


def stall_of(wait: Wait, *, last: bool) -> findings.Finding:
    """Return the finding that says that ``wait`` lasts long, and what those who could end it do meanwhile."""
    blockers = wait.resource.blockers(wait)
    others = [agent for agent in blockers.agents if agent is not wait.agent]
    look = _Look([wait.agent, *others])
    parties = [look.party(wait.agent, wait), *(look.party(agent, innermost(agent)) for agent in others)]
    who, what = agent_label(wait.agent), look.label(wait.resource)
    age = (time.monotonic_ns() - wait.since_ns) / 1e9
    held = f", held by {', '.join(map(agent_label, others))}" if others else ""
    return findings.Finding(
        kind="stall",
        level="error" if last else "warning",
        message=f"{who} has waited for {what} for {text.humanise(age)}{held}",
        pid=os.getpid(),
        time=time.time(),
        parties=tuple(parties),
        cycle=(who, what, *map(agent_label, others)),
        fingerprint=findings.fingerprint("stall", None, [_signature(Edge(wait.agent, wait, blockers))]),
    )


def everybody() -> tuple[findings.Party, ...]:
    """Return all threads of the program as parties: what each holds, waits for, and where it stands."""
    known = agents.living() + agents.others()
    look = _Look(known)
    parties = [look.party(agent, innermost(agent)) for agent in known]
    ours = agents.internal_idents | {agent.ident for agent in known}
    for ident, frame in look.frames.items():
        if ident not in ours:
            thread = threading._active.get(ident)  # type: ignore[attr-defined]
            name = thread.name if thread is not None else f"thread {ident}"
            label = findings.agent_label("thread", name)
            parties.append(
                findings.Party(agent=label, name=name, ident=ident, stack=stack(frame, look.depth))
            )
    return tuple(parties)


def parties(known: Sequence[Agent], *, waiting: bool = False) -> tuple[findings.Party, ...]:
    """Return some agents as parties: what each holds, waits for, and where it stands.

    Args:
        known: The agents.
        waiting: The first of them is the caller, in its innermost wait: also if that is about to end.
    """
    look = _Look(known)
    first = known[0].waits[-1:] if waiting else []
    return tuple(
        look.party(agent, first[0] if first and not number else innermost(agent))
        for number, agent in enumerate(known)
    )


class _Look:
    """One look at some agents: their stacks and CPU use at one moment, and labels that tell their resources apart.

    Attributes:
        frames: The innermost frame of each thread, by ident.
        depth: How many frames to keep of each.
    """

    def __init__(self, parties: Sequence[Agent]) -> None:
        settings = config.current()
        self.frames = current_frames()
        self.depth = settings.stack_depth
        self._cpu = cpu_use() if settings.cpu else {}
        self._suffixes = _suffixes(parties)

    def label(self, resource: Any) -> str:
        """Return "Lock 'Client._lock'", or "Lock 'Account.lock' #2" where several are called so."""
        return resource_label(resource) + self._suffixes.get(_identity(resource), "")

    def party(self, agent: Agent, wait: Wait | None = None, *, victim: bool = False) -> findings.Party:
        """Return the value for one agent, which waits in ``wait``."""
        now = time.monotonic_ns()
        runner = agent.runner()
        held = [hold_value(hold, now, self.label) for hold in agent.holds.copy().values()]
        return findings.Party(
            agent=agent_label(agent),
            name=agent.label(),
            ident=agent.ident or None,
            native_id=agent.native_id or None,
            daemon=agent.daemon,
            alive=not agent.ended,
            victim=victim,
            weight=agent.weight,
            holds=tuple(hold for hold in held if hold is not None),
            waits_for=None if wait is None else wait_value(wait, now, self.label),
            stack=() if agent.ended else self._stack(agent),
            cpu=None if agent.ended else self._cpu.get(agent.native_id),
            runs_in=None if runner is None else agent_label(runner),
        )

    def _stack(self, agent: Agent) -> tuple[findings.Frame, ...]:
        """Return where an agent stands: the coroutines of a task, which lie on its thread's stack while it runs."""
        if agent.kind != "task":
            return stack(self.frames.get(agent.ident), self.depth)
        runner = agent.runner()
        innermost_frame = None if runner is None else self.frames.get(runner.ident)
        frames = _running(agent.coroutine_frames(), innermost_frame)
        return places([(frame.f_code, frame.f_lasti) for frame in reversed(frames)], self.depth)


def _identity(resource: Any) -> int:
    """Return what tells resources apart: a condition or an event has a new resource object for each wait."""
    return id(getattr(resource, "subject", resource))


def _suffixes(parties: Sequence[Agent]) -> dict[int, str]:
    """Number the resources that would be called the same."""
    called: dict[str, dict[int, None]] = {}
    for agent in parties:
        locks = [hold[LOCK]() for hold in agent.holds.copy().values()]
        wanted = [wait.resource for wait in agent.waits.copy()]
        for resource in (*locks, *wanted):
            if resource is not None:
                called.setdefault(resource_label(resource), {})[_identity(resource)] = None
    return {
        key: f" #{number}" for keys in called.values() if len(keys) > 1 for number, key in enumerate(keys, 1)
    }


def agent_label(agent: Agent) -> str:
    """Return "Thread 'heartbeat'"."""
    return findings.agent_label(agent.kind, agent.label())


def resource_label(resource: Any) -> str:
    """Return "Lock 'Client._lock'"."""
    return findings.resource_label(resource.kind, resource.name, created(resource))


def created(resource: Any) -> findings.Site | None:
    """Return where a resource was made, if that is known."""
    made = getattr(resource, "_created", None)
    return None if made is None else site(*made)


def hold_value(hold: Hold, now_ns: int, label: Callable[[Any], str] = resource_label) -> findings.Hold | None:
    """Return the value for one hold, or None if its lock has gone."""
    lock = hold[LOCK]()
    if lock is None:
        return None
    taken = taken_ns(hold)
    return findings.Hold(
        resource=label(lock),
        kind=lock.kind,
        name=lock.name,
        created=created(lock),
        taken=site(hold[CODE], hold[LASTI]),
        age=max(0, now_ns - taken) / 1e9,
        count=max(1, lock._level()),
        how="with" if hold[HOW] else "acquire",
        at_least=isinstance(taken, NoLaterThan),
    )


def wait_value(wait: Wait, now_ns: int, label: Callable[[Any], str] = resource_label) -> findings.WaitsFor:
    """Return the value for one wait."""
    resource: Any = wait.resource
    return findings.WaitsFor(
        resource=label(resource),
        kind=resource.kind,
        name=resource.name,
        created=created(resource),
        where=place(wait),
        age=max(0, now_ns - wait.since_ns) / 1e9,
        timeout=None if wait.deadline_ns is None else (wait.deadline_ns - wait.since_ns) / 1e9,
        mode=wait.mode,
        users=_users(wait),
    )


def _users(wait: Wait) -> tuple[str, ...]:
    """Name those who have been on the other side of a queue so far."""
    users = getattr(wait.resource, "users", None)
    known: tuple[Agent, ...] = () if users is None else users(wait)
    return tuple(f"{agent_label(agent)}{' (gone)' if agent.ended else ''}" for agent in known)


def place(wait: Wait) -> findings.Site | None:
    """Return where an agent began to wait; for what was read off a task, where it stands now."""
    return place_of(wait.agent) if wait.code is None else site(wait.code, wait.lasti)


def place_of(agent: Agent) -> findings.Site | None:
    """Return where a task stands now: the innermost coroutine that is neither asyncio's nor ours; None for a thread."""
    frames = agent.coroutine_frames()
    own = [
        frame
        for frame in frames
        if not str(frame.f_globals.get("__name__")).startswith(("asyncio.", "lockwatch."))
    ]
    return site(own[-1].f_code, own[-1].f_lasti) if own else None


def stack(frame: FrameType | None, depth: int) -> tuple[findings.Frame, ...]:
    """Return the innermost ``depth`` frames, outermost first, without ours at either end."""
    return places(((frame.f_code, frame.f_lasti) for frame in _outwards(frame)), depth)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _running(coroutines: list[FrameType], innermost_frame: FrameType | None) -> list[FrameType]:
    """Complete the frames of a task that runs just now: what its coroutines call lies on its thread's stack."""
    frames = list(_outwards(innermost_frame))
    if coroutines and coroutines[0] in frames:
        return frames[frames.index(coroutines[0]) :: -1]
    return coroutines


def places(frames: Iterable[tuple[CodeType, int]], depth: int) -> tuple[findings.Frame, ...]:
    """Turn places in code, innermost first, into at most ``depth`` entries, outermost first, without ours."""
    entries: list[findings.Frame] = []
    for code, lasti in frames:
        if len(entries) >= depth:
            break
        if code.co_filename.startswith(_RUNNER) and code.co_filename != _DEMO:
            break  # what lies further out is `lockwatch run` and its console script
        if not (_is_ours(code) or _runs_the_program(code)):
            line = line_of(code, lasti)
            entries.append(
                findings.Frame(code.co_filename, line, code.co_name, _source(code.co_filename, line))
            )
    return tuple(reversed(entries))


def cpu_use() -> dict[int, findings.Cpu]:
    """Ask psutil how much CPU each thread of this process has used, by native id; empty if it cannot tell."""
    psutil = sys.modules.get("psutil")
    if psutil is None:
        return {}
    try:
        return {
            thread.id: findings.Cpu(thread.user_time, thread.system_time, _state(thread.id))
            for thread in psutil.Process().threads()
        }
    except Exception:
        return {}


def _owner_outside(knot: Knot) -> Agent | None:
    """Return the agent that the last party waits for, if it is not itself in a wait: it has ended."""
    blockers = knot.edges[-1].blockers
    if blockers.agents and blockers.agents[0].ended:
        return blockers.agents[0]
    return None


def _signature(edge: Edge) -> tuple[str, findings.Site | None]:
    resource: Any = edge.wait.resource
    return resource.lock_class, place(edge.wait)


def _is_ours(code: CodeType) -> bool:
    """Whether a frame is lockwatch's own; the program of ``lockwatch demo`` stands for a user's."""
    return code.co_filename.startswith(_OURS) and code.co_filename != _DEMO


def _runs_the_program(code: CodeType) -> bool:
    """Whether a frame only serves to get a thread or a script going, and says nothing about it."""
    file = code.co_filename
    if file.startswith("<frozen runpy") or file.endswith(_LOOP_FILES) or file.startswith(runner_folders):
        return True
    return file == threading.__file__ and code.co_name in _STARTERS


def _source(file: str, line: int) -> str | None:
    try:
        return linecache.getline(file, line).strip() or None
    except Exception:
        return None


def _state(native_id: int) -> str:
    """Return what the kernel says a thread is doing: /proc/self/task/ID/stat, third field."""
    try:
        with open(f"/proc/self/task/{native_id}/stat", "rb") as file:
            letter = file.read(512).rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return "unknown"
    return {b"R": "working", b"S": "sleeping", b"D": "blocked in a system call"}.get(letter, "unknown")
