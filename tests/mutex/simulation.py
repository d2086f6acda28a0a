"""A simulated mutex: the steps of the real one, under a scheduler that the test controls.

The real modules are rewritten by `rewriting`; parking, the clock, the thread-local agent and the detector are replaced
by simulated ones. What a rewritten function yields is either the kind of its next step or, for a thread that parks,
its parker and the time-out.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Generator
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from lockwatch._core import handover, mutex, mutexbase, twin
from lockwatch.locks import RLock
from lockwatch.locks.base import WatchedLock

if TYPE_CHECKING:
    from tests.mutex.rewriting import ATOMIC, Rewriter
else:
    from mutex_rewriting import ATOMIC, Rewriter

Steps = Generator[Any, Any, Any]
Mutation = Callable[[ast.Module], None]


class Interrupt(Exception):
    """What the simulated signal raises. Not a BaseException, so that closing a generator is not caught as one."""


class Parker:
    """The simulated raw lock that a waiter sleeps on."""

    __slots__ = ("permit",)

    def __init__(self) -> None:
        self.permit = False

    def locked(self) -> bool:
        """Whether there is no permit, as of the raw lock."""
        return not self.permit


class Agent:
    """The simulated thread as an owner and waiter."""

    __slots__ = ("daemon", "ended", "holds", "ident", "kind", "main", "name", "waits", "weight")

    def __init__(self, name: str, *, main: bool) -> None:
        self.name = name
        self.main = main
        self.ended = self.daemon = False
        self.weight = 0
        self.ident = -1  # no stack of a real thread is looked at
        self.kind = "thread"
        self.holds: dict[int, Any] = {}
        self.waits: list[Any] = []

    def label(self) -> str:
        """Return the name, for messages."""
        return self.name

    def innermost(self) -> Any:
        """Return what it waits for."""
        return self.waits[-1] if self.waits else None


class Queue(list[Any]):
    """A lock's queue; notes in a field that only the detector uses that others may know of a waiter now."""

    def append(self, waiter: Any) -> None:
        """Queue at the tail."""
        waiter.open_seen = True
        super().append(waiter)

    def insert(self, place: Any, waiter: Any) -> None:
        """Queue at the head."""
        waiter.open_seen = True
        super().insert(place, waiter)


class Simulation:
    """The rewritten modules; `world` is the run that they belong to at the moment."""

    interrupt = Interrupt
    world: Any

    def __init__(self, mutation: Mutation | None, *, fine: bool, clock: bool) -> None:
        modules = [handover, mutex, mutexbase, twin]
        trees = [ast.parse(inspect.getsource(module)) for module in modules]
        if mutation is not None:
            before = [ast.dump(tree) for tree in trees]
            for tree in trees:
                mutation(tree)
            if before == [ast.dump(tree) for tree in trees]:
                raise LookupError("the mutation found nothing to change")
        names = {
            node.name
            for tree in trees
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and node.name not in ATOMIC
        } | {"park"}
        steps = Rewriter(names, fine=fine, clock=clock)
        stubs: dict[str, Any] = {
            "detector": SimpleNamespace(block=lambda wait: self.world.look_for_knot(wait)),
            "parking": SimpleNamespace(new_parker=Parker, park=_park, unpark=_unpark),
            "settings": self,
            "monotonic_ns": self.monotonic_ns,
            "sleep": lambda seconds: None,
            "may_run_handler": lambda: self.world.handlers_installed,
            "_local": self,
            "agents": SimpleNamespace(current=lambda: self.agent),
            "_getframe": lambda depth: SimpleNamespace(f_code=None, f_lasti=0, f_globals=None),
        }
        done: dict[str, Any] = {}
        for module, tree in zip(modules, trees, strict=True):
            namespace: dict[str, Any] = {"__name__": f"simulated.{module.__name__}"}
            for node in list(tree.body):  # what comes from a module rewritten before is taken from there
                if isinstance(node, ast.ImportFrom) and node.module in {m.__name__ for m in modules}:
                    namespace |= {alias.name: done[alias.name] for alias in node.names}
                    tree.body.remove(node)
            code = compile(
                ast.fix_missing_locations(steps.visit(tree)), f"<steps of {module.__name__}>", "exec"
            )
            exec(code, namespace)
            namespace |= {name: stub for name, stub in stubs.items() if name in namespace}
            done |= {name: value for name, value in namespace.items() if not name.startswith("__")}
        self.done = done
        self.lock_types = {kind: self._lock_type(kind) for kind in ("PlainMutex", "RecursiveMutex")}

    def _lock_type(self, kind: str) -> type:
        simulated = self.done[kind]
        body: dict[str, Any] = {
            "_refuse_release": _refuse_release,
            "blockers": RLock.blockers,  # as if the owner were always known
            "__del__": lambda self: None,
            "kind": kind,
        }
        body["__init__"] = _initialise
        body |= {
            name: getattr(WatchedLock, name) for name in ("_owner", "_check", "__repr__", "_details", "name")
        }
        return type("Simulated", (simulated,), body)

    @property
    def agent(self) -> Agent:
        """Stands for the thread-local agent."""
        return self.world.current.agent  # type: ignore[no-any-return]

    order = False
    """Stands for the setting: the order of locks is not learned here."""

    loop_block_ns = None
    """Stands for the setting: no thread runs an event loop here."""

    @property
    def starvation_threshold_ns(self) -> float:
        """Stands for the setting."""
        return self.world.threshold  # type: ignore[no-any-return]

    def monotonic_ns(self) -> int:
        """The clock: global ticks, and far ahead for a thread whose time is up."""
        return self.world.ticks * 1_000 + (10**12 if self.world.current.expired else 0)  # type: ignore[no-any-return]


def _initialise(lock: Any) -> None:
    super(type(lock), lock).__init__()
    lock._queue = Queue()


def _park(parker: Parker, timeout_ns: int | None) -> Steps:
    return (yield (parker, timeout_ns))


def _unpark(parker: Parker) -> None:
    parker.permit = True


def _refuse_release(lock: Any, hold: Any) -> None:
    raise RuntimeError("release of a lock that is not ours to release")


@cache
def simulation(mutation: Mutation | None = None, *, fine: bool = False, clock: bool = False) -> Simulation:
    """Return the rewritten modules, made once for each way of making them."""
    return Simulation(mutation, fine=fine, clock=clock)
