"""What runs on top of a wait: a signal handler, a finalizer, a tracer, in the thread that waits.

While it runs its thread is awake, whatever the wait below it is for: it may end any wait, or raise. So before a knot
is believed, the stacks of its parties are looked at: from the innermost frame of the thread out to the frame that
waits there must be nothing but our own code (for waits inside the interpreter's: ``threading``, ``importlib``).

Guarantees: reads only. A party that is just reporting another deadlock (our code, which runs the standard library's)
counts as running; it searches again when it is done.

The stacks are read while all threads stand still (`lockwatch._core.frames`). The wait of a frame is compared under a
GIL only: variables of a running thread cannot be read safely without one.

Cost: the frames on top of the waits of one knot; nothing before there is one.
"""

from __future__ import annotations

from lockwatch._core.frames import stacks, standing_still
from lockwatch._core.originals import HAS_GIL, get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import CodeType, FrameType
    from typing import Any, TypeVar

    from lockwatch._core.knots import Edge
    from lockwatch._core.waits import Wait

    Function = TypeVar("Function", bound=Callable[..., Any])

_INNER = ("threading", "importlib._bootstrap", "_frozen_importlib", "selectors")
"""Modules of the standard library in which threads sleep inside a published wait."""

_waiting: dict[int, tuple[CodeType, str]] = {}
"""By the id of the code of a function in which threads wait: the name of the variable that has the wait."""


def waits_in(function: Function, variable: str = "wait") -> Function:
    """Note that a thread whose stack has this function waits there, in the wait of that local variable."""
    code: CodeType = function.__code__
    _waiting[id(code)] = (code, variable)
    return function


def anybody_runs(edges: Sequence[Edge]) -> bool:
    """Whether one of the parties, other than the calling thread, runs something on top of its wait."""
    me = get_ident()
    with standing_still():
        everybody = stacks()
        for edge in edges:
            stack = everybody.get(edge.agent.ident)
            if stack is not None and edge.agent.ident != me and _runs(stack, edge.wait):
                return True
    return False


def _runs(stack: Iterable[FrameType], wait: Wait) -> bool:
    foreign = False
    for frame in stack:
        known = _waiting.get(id(frame.f_code))
        if known is not None:
            if not HAS_GIL or frame.f_locals.get(known[1]) is wait:
                return foreign
            foreign = True  # a wait that is just beginning, or just over, on top of the one that is published
        elif not foreign:
            foreign = not _is_ours(frame)
    return False


def _is_ours(frame: FrameType) -> bool:
    module: Any = frame.f_globals.get("__name__")
    return isinstance(module, str) and (module.startswith("lockwatch.") or module in _INNER)
