"""Whether the code that took a lock lets it go itself, read off its bytecode.

A plain lock may be released by anybody, so that its owner has gone, or has left the function that took it, proves
nothing by itself: the lock may be a signal, be handed on, or be kept for good. What proves something is the function:
if every way through it releases what it took, then to find the lock held when the function has ended means that an
exception came in between.

Guarantees: pure; never raises; an answer other than UNKNOWN or NEVER only for a lock that is taken and let go by one
expression of names and attributes (``self._lock.acquire()`` and ``self._lock.release()``).

Assumes: the bytecode of CPython 3.11 to 3.15 as `dis` shows it. What is not understood is UNKNOWN.

Cost: up to a millisecond for a long function; asked only when there is something to report.
"""

import dis
from types import CodeType

ALWAYS = "always"
"""Whatever way the function takes, unless by an exception, it releases the lock."""
SOMETIMES = "sometimes"
"""On some ways it does, on others it does not."""
NEVER = "never"
"""It does not, as far as it names the lock."""
UNKNOWN = "unknown"
"""The code cannot be read that way."""

SUSPENDED = 0x20 | 0x80 | 0x200
"""Flags of code that can be left without being ended: generators, coroutines, asynchronous generators."""
GENERATORS = 0x20 | 0x200
"""The same without coroutines: those of a task that is done have ended."""

_TAKES = frozenset({"acquire", "acquire_lock", "try_acquire", "__enter__"})
_LETS_GO = frozenset({"release", "release_lock", "__exit__"})
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_ENTERS = frozenset({"BEFORE_WITH", "BEFORE_ASYNC_WITH"})
_FILLERS = frozenset({"CACHE", "COPY", "EXTENDED_ARG", "NOP", "NOT_TAKEN", "PRECALL", "PUSH_NULL", "TO_BOOL"})
_JUMPS = frozenset(dis.hasjrel) | frozenset(dis.hasjabs)
_RETURNS = frozenset({"RETURN_VALUE", "RETURN_CONST"})
_UNCONDITIONAL = frozenset({"JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"})
_RAISES = frozenset({"RAISE_VARARGS", "RERAISE"})
_ARGUMENTS = 30
"""Instructions between the lock's method and its call, at most."""

_Code = list[dis.Instruction]


def releases(code: CodeType, lasti: int) -> str:
    """Return whether the function that took a lock at an instruction releases it: one of the four words above."""
    try:
        return _releases(_instructions(code), lasti)
    except Exception:
        return UNKNOWN


def keeps_count(code: CodeType, lasti: int) -> bool:
    """Return whether the function releases what it took, ALWAYS, and has no answer to finding it unlocked then."""
    if releases(code, lasti) != ALWAYS:
        return False
    try:
        instructions = _instructions(code)
        method = _method(instructions, _at(instructions, lasti))
        chain = None if method is None else _chain(instructions, method)
        return not any(
            _swallowed(code, instructions, one.offset, set())
            for i, one in enumerate(instructions)
            if one.opname in _ATTRIBUTES and one.argval in _LETS_GO and _chain(instructions, i) == chain
        )
    except Exception:
        return False


def taken_by_with(code: CodeType, lasti: int) -> bool:
    """Return whether the instruction is that of a ``with`` or ``async with``."""
    try:
        instructions = _instructions(code)
        return _is_with(instructions, _at(instructions, lasti))
    except Exception:
        return False


def is_private(code: CodeType, lasti: int, makers: frozenset[str]) -> bool:
    """Return whether a lock made by a call can be seen by nobody but the frame that makes it.

    So it is if the result is entered at once and has no name (``with Lock():``), or if it has the name of a local
    variable that is used for nothing but to take and release it.

    Args:
        code: The code object that made it; anything but a plain function is refused.
        lasti: The instruction of the call.
        makers: By what name it has to be called; what somebody else makes has locks of its own inside.
    """
    try:
        instructions = _instructions(code)
        made = _at(instructions, lasti)
        if _callee(instructions, made) not in makers:
            return False
        if _is_with(instructions, _following(instructions, made)):
            return True
        return _is_private_variable(code, instructions, made)
    except Exception:
        return False


def is_entered_at_once(code: CodeType, lasti: int) -> bool:
    """Return whether what a call makes is entered by ``with`` at once, and has no name."""
    try:
        instructions = _instructions(code)
        return _is_with(instructions, _following(instructions, _at(instructions, lasti)))
    except Exception:
        return False


def guarded(code: CodeType, lasti: int) -> bool:
    """Return whether the instruction stands in a ``try`` or ``with``: whoever wrote that may expect what it raises."""
    try:
        instructions = _instructions(code)
        return any(_catches(instructions, handler) for handler in _handlers(code, instructions, lasti))
    except Exception:
        return True


def _handlers(code: CodeType, instructions: _Code, offset: int) -> set[int]:
    """Return where an exception goes that is raised at an offset."""
    entries = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]
    return {_at(instructions, entry.target) for entry in entries if entry.start <= offset < entry.end}


def _instructions(code: CodeType) -> _Code:
    return [one for one in dis.get_instructions(code) if one.opname not in _FILLERS]


def _at(instructions: _Code, lasti: int) -> int:
    """Return the index of the instruction at an offset; with what only fills left out, of the last one before."""
    return max(i for i, one in enumerate(instructions) if one.offset <= lasti)


def _releases(instructions: _Code, lasti: int) -> str:
    taken = _at(instructions, lasti)
    if _is_with(instructions, taken):
        return ALWAYS
    method = _method(instructions, taken)
    chain = None if method is None else _chain(instructions, method)
    if chain is None:
        return UNKNOWN
    let_go = {
        i
        for i, one in enumerate(instructions)
        if one.opname in _ATTRIBUTES and one.argval in _LETS_GO and _chain(instructions, i) == chain
    }
    called = {i for i in let_go if _is_call_without_arguments(instructions[i + 1])}
    by_offset = {one.offset: i for i, one in enumerate(instructions)}
    following = _after_success(instructions, taken, by_offset)
    passed = _ways(instructions, following, by_offset, called)
    missed = (
        i
        for i in passed
        if i == taken or instructions[i].opname in _RETURNS or _rebinds(instructions[i], chain)
    )
    if called & passed and next(missed, None) is None:
        return ALWAYS
    later = _ways(instructions, following, by_offset, set())
    usual = _ways(instructions, 0, by_offset, set())
    return (
        SOMETIMES if let_go & later or let_go - usual else NEVER
    )  # what is not usual is in an exception's handler


def _method(instructions: _Code, call: int) -> int | None:
    """Return where the method is loaded that a call calls; None unless it is one that takes locks."""
    for i in range(call - 1, max(-1, call - _ARGUMENTS), -1):
        one = instructions[i]
        if one.opname.startswith(("DELETE_", "POP_TOP", "RETURN_", "STORE_")):
            return None  # of another statement
        if one.opname in _ATTRIBUTES and one.argval in _TAKES:
            return i
    return None


def _is_call_without_arguments(one: dis.Instruction) -> bool:
    return one.opname == "CALL" and one.arg == 0


def _is_with(instructions: _Code, index: int) -> bool:
    """Whether an instruction enters a ``with`` block; from 3.14 on that takes several, and the last is a call."""
    for i in range(index, min(index + 2, len(instructions))):
        if instructions[i].opname in _ENTERS:
            return i == index
    nearby = [one.opname for one in instructions[max(0, index - 3) : index + 1]]
    if instructions[index].opname == "LOAD_SPECIAL":
        return True
    return instructions[index].opname == "CALL" and nearby[-2:-1] == ["LOAD_SPECIAL"]


def _chain(instructions: _Code, method: int) -> tuple[str, ...] | None:
    """Return the names before a method's: ``("self", "_lock")``; None if there is more to the expression."""
    names: list[str] = []
    i = method - 1
    while instructions[i].opname in _ATTRIBUTES:
        names.append(str(instructions[i].argval))
        i -= 1
    base = instructions[i]
    if base.opname.startswith(("LOAD_FAST", "STORE_FAST_LOAD_FAST")):
        names.append(str(base.argval[-1] if isinstance(base.argval, tuple) else base.argval))
    elif base.opname in {"LOAD_DEREF", "LOAD_GLOBAL", "LOAD_NAME"}:
        names.append(str(base.argval))
    else:
        return None
    return tuple(reversed(names))


def _ways(instructions: _Code, start: int, by_offset: dict[int, int], until: set[int]) -> set[int]:
    """Return what is passed on all ways on from an instruction, but those that exceptions take.

    Args:
        instructions: The code.
        start: Where to begin.
        by_offset: Their indexes.
        until: Where a way ends.
    """
    todo, seen = [start], set[int]()
    while todo:
        i = todo.pop()
        if i in seen or i >= len(instructions):
            continue
        seen.add(i)
        one = instructions[i]
        if i in until or one.opname in _RETURNS or one.opname in _RAISES:
            continue
        if one.opcode in _JUMPS:
            todo.append(_index(instructions, by_offset, int(one.argval)))
        if one.opname not in _UNCONDITIONAL:
            todo.append(i + 1)
    return seen


def _after_success(instructions: _Code, taken: int, by_offset: dict[int, int]) -> int:
    """Return where the function goes on if the acquire has returned True."""
    test = instructions[taken + 1]
    if "JUMP" in test.opname and test.opname.endswith("IF_TRUE"):
        return _index(instructions, by_offset, int(test.argval))
    if "JUMP" in test.opname and test.opname.endswith("IF_FALSE"):
        return taken + 2
    return taken + 1


def _index(instructions: _Code, by_offset: dict[int, int], offset: int) -> int:
    """Return the index of a jump's target, which may be an instruction that was left out."""
    found = by_offset.get(offset)
    return (
        found if found is not None else next(i for i, one in enumerate(instructions) if one.offset >= offset)
    )


def _rebinds(one: dis.Instruction, chain: tuple[str, ...]) -> bool:
    """Whether an instruction gives the lock's variable or attribute another value."""
    if not one.opname.startswith(("STORE_", "DELETE_")):
        return False
    stored = one.argval[:1] if isinstance(one.argval, tuple) else (one.argval,)
    return chain[0 if len(chain) == 1 or "ATTR" not in one.opname else -1] in stored


def _following(instructions: _Code, index: int) -> int:
    return min(index + 1, len(instructions) - 1)


def _callee(instructions: _Code, call: int) -> str | None:
    """Return the last name of what is called without arguments, or with a name alone."""
    for i in range(call - 1, max(-1, call - 4), -1):
        one = instructions[i]
        if one.opname in _ATTRIBUTES or one.opname.startswith(
            ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_FAST")
        ):
            return str(one.argval)
        if not one.opname.startswith(("LOAD_CONST", "KW_NAMES")):
            return None
    return None


def _is_private_variable(code: CodeType, instructions: _Code, made: int) -> bool:
    """Whether the lock goes into a local variable that never leaves the function."""
    store = instructions[_following(instructions, made)]
    if not store.opname.startswith("STORE_FAST") or code.co_flags & SUSPENDED:
        return False
    if {"locals", "vars", "eval", "exec", "dir", "_getframe", "currentframe"} & {*code.co_names}:
        return False
    variable = store.argval[0] if isinstance(store.argval, tuple) else store.argval
    if variable in code.co_cellvars or store.argval == (variable, variable):
        return False
    entered = False
    for i, one in enumerate(instructions):
        if not (one.opname.startswith(("LOAD_FAST", "STORE_FAST")) and _mentions(one, variable)):
            continue
        if one is store and not _loads_last(one, variable):
            continue
        following = instructions[_following(instructions, i)]
        enters = following.opname in _ENTERS or following.opname == "LOAD_SPECIAL"
        used = following.opname in _ATTRIBUTES and following.argval in (_TAKES | _LETS_GO | {"locked"})
        call = instructions[_following(instructions, i + 1)]
        called = _is_call_without_arguments(call) or call.opname.startswith(("LOAD_CONST", "KW_NAMES"))
        if one.opname.startswith("STORE_FAST") and not _loads_last(one, variable):
            return False  # it is made, or replaced, elsewhere, too
        if isinstance(one.argval, tuple) and not _loads_last(one, variable):
            return False
        if not (enters or (used and called)):
            return False
        entered = True
    return entered


def _mentions(one: dis.Instruction, variable: str) -> bool:
    return variable in (one.argval if isinstance(one.argval, tuple) else (one.argval,))


def _loads_last(one: dis.Instruction, variable: str) -> bool:
    """Whether the last thing that an instruction does is to load the variable, and it does nothing else with it."""
    if one.opname.startswith("STORE_FAST") and "LOAD" not in one.opname:
        return False
    if isinstance(one.argval, tuple):
        return bool(one.argval[-1] == variable) and one.argval[0] != variable
    return True


def _catches(instructions: _Code, handler: int) -> bool:
    """Whether a handler is that of a ``try`` or ``with``, and not the end of another handler."""
    for one in instructions[handler : handler + 3]:
        if one.opname == "PUSH_EXC_INFO":
            continue
        return one.opname not in {"CALL_INTRINSIC_1", "CLEANUP_THROW", "POP_EXCEPT", "RERAISE"}
    return True


def _swallowed(code: CodeType, instructions: _Code, offset: int, seen: set[int]) -> bool:
    """Whether what is raised at an offset may end there: by an ``except`` or a ``with``; not by a ``finally``."""
    for handler in _handlers(code, instructions, offset) - seen:
        seen.add(handler)
        for i, one in enumerate(instructions[handler:]):
            if one.opname in {"CHECK_EXC_MATCH", "CHECK_EG_MATCH", "WITH_EXCEPT_START"}:
                return True
            if one.opname == "POP_TOP" and i <= 1:
                return True  # except:
            if one.opname in _RAISES:
                if _swallowed(code, instructions, one.offset, seen):
                    return True
                break
    return False
