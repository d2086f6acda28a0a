"""Whether code that a thread may run calls something by one of some names: who never says ``cancel`` cancels nothing.

A bounded look, without running anything: the functions on the thread's stack, the functions and classes of the
modules that they belong to, what these import from the program's other modules, and the methods that the thread was
given to call. The standard library's own modules don't count, as they contain everything.

Cost: some microseconds for each function of those modules; asked at most once for each thread that matters.
"""

from __future__ import annotations

import sys
from types import BuiltinMethodType, CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType


def mentions(
    verbs: frozenset[str], stack: Iterable[FrameType], modules: Iterable[dict[str, Any]], thread: object
) -> bool:
    """Say whether one of the names occurs in code that a thread may run.

    Args:
        verbs: The names.
        stack: The frames of the thread.
        modules: The globals of the modules that these belong to.
        thread: Its ``Thread`` object, if there is one: a timer has a function to call.
    """
    given = list(vars(thread).values()) if thread is not None else []
    methods = [thing for thing in given if isinstance(thing, MethodType | BuiltinMethodType | FunctionType)]
    if any(method.__name__ in verbs or _calls(verbs, _code(method)) for method in methods):
        return True
    if any(_calls(verbs, frame.f_code) for frame in stack if not _is_stdlib(frame.f_globals.get("__name__"))):
        return True
    return any(
        _module_mentions(verbs, variables, further=True)
        for variables in modules
        if not _is_stdlib(variables.get("__name__"))
    )


def _module_mentions(verbs: frozenset[str], variables: dict[str, Any], *, further: bool) -> bool:
    return any(_value_mentions(verbs, value, further) for value in list(variables.copy().values()))


def _value_mentions(verbs: frozenset[str], value: object, further: bool) -> bool:
    if isinstance(value, FunctionType):
        return _calls(verbs, value.__code__)
    if isinstance(value, type) and not _is_stdlib(value.__module__):
        return any(_calls(verbs, _code(method)) for method in vars(value).copy().values())
    if further and isinstance(value, ModuleType) and not _is_stdlib(value.__name__):
        return _module_mentions(verbs, vars(value), further=False)
    return False


def _code(thing: Any) -> CodeType | None:
    """Return the code of a function, of a method, or of what wraps one in a class."""
    if isinstance(thing, property):
        thing = thing.fget
    code = getattr(getattr(thing, "__func__", thing), "__code__", None) if _is_plain(thing) else None
    return code if isinstance(code, CodeType) else None


def _is_plain(thing: object) -> bool:
    return isinstance(thing, FunctionType | MethodType | staticmethod | classmethod)


def _calls(verbs: frozenset[str], code: CodeType | None) -> bool:
    if code is None:
        return False
    if not verbs.isdisjoint(code.co_names):
        return True
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and _calls(verbs, constant):
            return True
        if isinstance(constant, str) and constant in verbs:  # getattr(future, "cancel")
            return True
        if isinstance(constant, tuple) and any(type(name) is str and name in verbs for name in constant):
            return True  # a keyword of a call
    return False


def _is_stdlib(name: object) -> bool:
    top = str(name).partition(".")[0]
    return (top in sys.stdlib_module_names and top != "__main__") or top == "lockwatch"
