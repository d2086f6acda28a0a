"""A lock that the standard library, or lockwatch, makes for its caller is made at the line that called: on every way there.

The twin in C walks the interpreter's frames itself; the one in Python asks for them. Each way is gone often enough
for the interpreter to specialise it, which puts frames of its own in between.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import lockwatch

OFTEN = 300


class Service:
    """Makes a condition, and with it a lock, when it is made itself."""

    def __init__(self) -> None:
        self.condition = lockwatch.Condition()


class Worker(Service):
    """Calls the ``__init__`` above from its own."""

    def __init__(self) -> None:
        super().__init__()


def directly() -> Any:
    """Make one."""
    return lockwatch.Condition()


def in_init() -> Any:
    """Make one in an ``__init__``."""
    return Service().condition


def in_init_of_base() -> Any:
    """Make one in an ``__init__`` called by another."""
    return Worker().condition


def called_by_c() -> Any:
    """Make one in a function that C calls."""
    return next(iter(map(lambda _: lockwatch.Condition(), [0])))  # noqa: C417 - C is to call


def made_by_c() -> Any:
    """Make one whose class is called by C."""
    return functools.partial(lockwatch.Condition)()


def in_generator() -> Any:
    """Make one in a generator."""

    def conditions() -> Iterator[Any]:
        yield lockwatch.Condition()

    return next(conditions())


WAYS = {
    directly: "directly",
    in_init: "Service.__init__",
    in_init_of_base: "Service.__init__",
    called_by_c: "called_by_c.<locals>.<lambda>",
    made_by_c: "made_by_c",
    in_generator: "in_generator.<locals>.conditions",
}


@pytest.mark.parametrize(("make", "name"), WAYS.items(), ids=[way.__name__ for way in WAYS])
def test_made_by_its_caller(make: Callable[[], Any], name: str) -> None:
    """The code is that of the first caller that is not machinery, and the instruction lies within it."""
    for _ in range(OFTEN):
        code, lasti = make()._lock._created
        assert (code.co_qualname, code.co_filename) == (name, __file__)
        assert 0 <= lasti < len(code.co_code)
