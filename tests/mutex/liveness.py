"""Which local variables of a suspended generator can still matter, read off its bytecode."""

from __future__ import annotations

import dis
from functools import cache
from types import CodeType
from typing import Any

CONSTANTS = frozenset(
    ["self", "lock", "queue", "state", "frame", "code", "lasti", "ref", "me", "agent", "how"]
)
"""Local variables that never differ between two states with the same threads at the same places."""

JUMPS = frozenset(getattr(dis, "hasjump", [*dis.hasjrel, *dis.hasjabs]))
NEVER_FALLS_THROUGH = ("RETURN", "RERAISE", "RAISE", "JUMP_FORWARD", "JUMP_BACKWARD")


@cache
def live_variables(code: CodeType, at: int) -> tuple[str, ...]:
    """Name the local variables that code suspended at instruction ``at`` may still read.

    What it will not read again cannot matter, and would only make equal states look different.
    """
    return tuple(sorted(_liveness(code).get(at, set(code.co_varnames)) - CONSTANTS))


@cache
def _liveness(code: CodeType) -> dict[int, set[str]]:
    instructions = list(dis.get_instructions(code))
    handlers: list[Any] = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]

    def union(live: dict[int, set[str]], offsets: set[int]) -> set[str]:
        return {name for offset in offsets for name in live.get(offset, ())}

    following: dict[int, set[int]] = {}
    for this, after in zip(instructions, [*instructions[1:], None], strict=True):
        targets = {entry.target for entry in handlers if entry.start <= this.offset < entry.end}
        if this.opcode in JUMPS:
            targets.add(this.argval)
        if after is not None and not this.opname.startswith(
            ("RETURN", "RERAISE", "RAISE", "JUMP_FORWARD", "JUMP_BACKWARD")
        ):
            targets.add(after.offset)
        following[this.offset] = targets
    live: dict[int, set[str]] = {instruction.offset: set() for instruction in instructions}
    changed = True
    while changed:
        changed = False
        for instruction in reversed(instructions):
            after_it: set[str] = set().union(
                *(live.get(target, set()) for target in following[instruction.offset])
            )
            before_it = (after_it - _stored(instruction)) | _loaded(instruction)
            if before_it != live[instruction.offset]:
                live[instruction.offset] = before_it
                changed = True
    # a frame is suspended in the instruction at f_lasti: what comes after it is what counts
    return {
        offset: set().union(*(live.get(target, set()) for target in targets))
        for offset, targets in following.items()
    }


def _names(instruction: dis.Instruction) -> tuple[str, ...]:
    value = instruction.argval
    return value if isinstance(value, tuple) else (value,)


def _stored(instruction: dis.Instruction) -> set[str]:
    name = instruction.opname
    if name == "STORE_FAST_LOAD_FAST":
        return {_names(instruction)[0]}
    return set(_names(instruction)) if name.startswith(("STORE_FAST", "DELETE_FAST")) else set()


def _loaded(instruction: dis.Instruction) -> set[str]:
    name = instruction.opname
    if name == "STORE_FAST_LOAD_FAST":
        return {_names(instruction)[1]}
    return set(_names(instruction)) if name.startswith(("LOAD_FAST", "LOAD_DEREF")) else set()
