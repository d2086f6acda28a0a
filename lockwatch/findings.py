"""Findings: the frozen values that lockwatch raises, logs, renders and writes to JSON.

Guarantees:

* Every value is immutable, holds only text, numbers and other such values, and keeps no lock, thread, frame
  or code object alive.
* Building one imports nothing, takes no lock, does no I/O and calls no method of a user's object: findings
  are made while a program is stuck, perhaps inside an import.
* ``X.from_json(x.to_json()) == x``, except that a number JSON cannot say (infinity, NaN) becomes ``null``.
  Unknown keys are ignored, missing optional ones get their default, so an older reader copes with a newer
  writer of one schema.

Assumptions: names are given as text; ages are seconds measured by a monotonic clock when the finding was
made.

Cost: proportional to what a finding holds; bounded by ``stack_depth`` for each party.
"""

from dataclasses import dataclass

from lockwatch import _reading as reading
from lockwatch._labels import agent_label, fingerprint, resource_label, shorten_path
from lockwatch._values import CPU_STATES, Cpu, Frame, Site, _Value, one_of, site_or_none

__all__ = [
    "CAUSES",
    "CPU_STATES",
    "HOWS",
    "KINDS",
    "LEVELS",
    "SCHEMA",
    "Cpu",
    "Finding",
    "Frame",
    "Hold",
    "Party",
    "Site",
    "WaitsFor",
    "agent_label",
    "check_schema",
    "fingerprint",
    "resource_label",
    "shorten_path",
]

SCHEMA = 1
"""Version of the JSON form; it grows when a key changes its meaning or goes, not when one is added."""

KINDS = ("deadlock", "lock-order", "leak", "misuse", "stall", "internal")
"""What a finding can be about."""

CAUSES = ("cycle", "self", "orphan", "starved", "asleep")
"""Why nobody of a knot can ever move again."""

LEVELS = ("error", "warning", "note")
"""How grave a finding is, gravest first."""

HOWS = ("with", "acquire")
"""How a lock was taken: by a ``with`` statement or by a bare ``acquire()``."""


# --- values --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hold(_Value):
    """One resource that a party has.

    Attributes:
        resource: how it is called in text, ``"Lock 'Client._lock'"``; see `resource_label`.
        kind: ``"Lock"``, ``"RLock"``, ...
        name: its name, given or found in the source; None when there is none.
        created: where it was made.
        taken: where the party took it.
        age: seconds since then.
        at_least: whether ``age`` says only how long at least: nobody looked when the lock was taken (C fast path).
        count: how many times over it is held (re-entrant locks).
        how: one of HOWS.
    """

    resource: str
    kind: str
    name: str | None = None
    created: Site | None = None
    taken: Site | None = None
    age: float | None = None
    count: int = 1
    how: str = "acquire"
    at_least: bool = False

    def __post_init__(self) -> None:
        one_of("how", self.how, HOWS)

    @classmethod
    def from_json(cls, data: object) -> "Hold":
        """Read the JSON form. Raises ValueError that names what is wrong."""
        obj = reading.mapping(data, "a hold")
        return cls(
            resource=reading.text(obj, "resource"),
            kind=reading.text(obj, "kind"),
            name=reading.text_or_none(obj, "name"),
            created=site_or_none(obj, "created"),
            taken=site_or_none(obj, "taken"),
            age=reading.number_or_none(obj, "age"),
            count=reading.integer(obj, "count", 1),
            how=reading.text(obj, "how", "acquire"),
            at_least=reading.boolean(obj, "at_least", False),
        )


@dataclass(frozen=True, slots=True)
class WaitsFor(_Value):
    """What a party waits for.

    Attributes:
        resource: how it is called in text; see `resource_label`.
        kind: ``"Lock"``, ``"RLock"``, ...
        name: its name, given or found in the source; None when there is none.
        created: where it was made.
        where: where the wait began.
        age: seconds since then.
        timeout: seconds after which the wait ends by itself, None for never.
        mode: lock mode that is wanted, ``"exclusive"`` for an ordinary lock.
        users: who has been on the other side of a queue so far: its producers for who takes something out, else its
            consumers; ``"Thread 'feed' (gone)"``. The last few.
        seen: of a lock order, how often it was seen; about, and None elsewhere.
    """

    resource: str
    kind: str
    name: str | None = None
    created: Site | None = None
    where: Site | None = None
    age: float = 0.0
    timeout: float | None = None
    mode: str = "exclusive"
    users: tuple[str, ...] = ()
    seen: int | None = None

    @classmethod
    def from_json(cls, data: object) -> "WaitsFor":
        """Read the JSON form. Raises ValueError that names what is wrong."""
        obj = reading.mapping(data, "a wait")
        return cls(
            resource=reading.text(obj, "resource"),
            kind=reading.text(obj, "kind"),
            name=reading.text_or_none(obj, "name"),
            created=site_or_none(obj, "created"),
            where=site_or_none(obj, "where"),
            age=reading.number_or_none(obj, "age") or 0.0,
            timeout=reading.number_or_none(obj, "timeout"),
            mode=reading.text(obj, "mode", "exclusive"),
            users=tuple(reading.text({"users": item}, "users") for item in reading.items(obj, "users")),
            seen=reading.integer_or_none(obj, "seen"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Party(_Value):
    """One agent that takes part in a finding.

    Attributes:
        agent: how it is called in text, ``"Thread 'heartbeat'"``.
        name: its name alone.
        ident: ``threading.get_ident()`` of it; None before it has started and for what is no thread.
        native_id: the number the operating system knows it by.
        daemon: whether it is a daemon thread; None where that is unknown or makes no sense.
        alive: False for one that ended, or did not come along through fork.
        victim: whether it is the one that gets the error.
        weight: its ``deadlock_weight``; the lightest of a knot is the victim.
        holds: what it has, oldest first.
        waits_for: what it waits for, None for nothing.
        stack: where it stands now, outermost first, without lockwatch's own frames.
        cpu: how much it has worked, None where nobody could say.
        runs_in: for a task the thread that runs its event loop, ``"Thread 'MainThread'"``; else None.
    """

    agent: str
    name: str = ""
    ident: int | None = None
    native_id: int | None = None
    daemon: bool | None = None
    alive: bool = True
    victim: bool = False
    weight: int = 0
    holds: tuple[Hold, ...] = ()
    waits_for: WaitsFor | None = None
    stack: tuple[Frame, ...] = ()
    cpu: Cpu | None = None
    runs_in: str | None = None

    @classmethod
    def from_json(cls, data: object) -> "Party":
        """Read the JSON form. Raises ValueError that names what is wrong."""
        obj = reading.mapping(data, "a party")
        waits_for, cpu = obj.get("waits_for"), obj.get("cpu")
        return cls(
            agent=reading.text(obj, "agent"),
            name=reading.text(obj, "name", ""),
            ident=reading.integer_or_none(obj, "ident"),
            native_id=reading.integer_or_none(obj, "native_id"),
            daemon=reading.boolean(obj, "daemon", None),
            alive=reading.boolean(obj, "alive", True),
            victim=reading.boolean(obj, "victim", False),
            weight=reading.integer(obj, "weight", 0),
            holds=tuple(Hold.from_json(item) for item in reading.items(obj, "holds")),
            waits_for=None if waits_for is None else WaitsFor.from_json(waits_for),
            stack=tuple(Frame.from_json(item) for item in reading.items(obj, "stack")),
            cpu=None if cpu is None else Cpu.from_json(cpu),
            runs_in=reading.text_or_none(obj, "runs_in"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(_Value):
    """One thing lockwatch has to say, with its evidence.

    Attributes:
        kind: one of KINDS.
        cause: one of CAUSES for a deadlock; None where it makes no sense.
        level: one of LEVELS.
        message: one line.
        pid: process in which it was found.
        time: when, in seconds since 1970 (UTC).
        parties: who takes part; for a cycle in its order.
        cycle: agent, resource, agent, resource, ... as shown in the one line. For ``orphan`` the agent that
            is gone may stand at the end; for ``asleep`` each agent and what it waits for, with no link from
            pair to pair.
        advice: what to do about it, None for no idea.
        fingerprint: the same for the same defect in every run; see `fingerprint`.
        test: the test that ran when it was found, as pytest names it; None outside of tests.

    Raises:
        ValueError: a kind, cause or level outside its vocabulary.
    """

    kind: str
    cause: str | None = None
    level: str = "error"
    message: str
    pid: int = 0
    time: float = 0.0
    parties: tuple[Party, ...] = ()
    cycle: tuple[str, ...] = ()
    advice: str | None = None
    fingerprint: str = ""
    test: str | None = None

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS)
        one_of("level", self.level, LEVELS)
        if self.cause is not None:
            one_of("cause", self.cause, CAUSES)

    @classmethod
    def from_json(cls, data: object) -> "Finding":
        """Read the JSON form.

        Args:
            data: what `to_json` gave; a ``schema`` key is checked where there is one.

        Raises:
            ValueError: another schema, or a key that is missing or of the wrong type; names it.
        """
        obj = reading.mapping(data, "a finding")
        check_schema(obj.get("schema", SCHEMA))
        cycle = reading.items(obj, "cycle")
        if not all(isinstance(item, str) for item in cycle):
            raise ValueError("'cycle' in JSON must hold text only")

        return cls(
            kind=reading.text(obj, "kind"),
            cause=reading.text_or_none(obj, "cause"),
            level=reading.text(obj, "level", "error"),
            message=reading.text(obj, "message"),
            pid=reading.integer(obj, "pid", 0),
            time=reading.number_or_none(obj, "time") or 0.0,
            parties=tuple(Party.from_json(item) for item in reading.items(obj, "parties")),
            cycle=tuple(str(item) for item in cycle),
            advice=reading.text_or_none(obj, "advice"),
            fingerprint=reading.text(obj, "fingerprint", ""),
            test=reading.text_or_none(obj, "test"),
        )


def check_schema(schema: object) -> None:
    """Raise ValueError unless a document of this schema can be read."""
    if schema != SCHEMA or isinstance(schema, bool):
        raise ValueError(f"this is a report of schema {schema!r}; this version of lockwatch reads {SCHEMA}")
