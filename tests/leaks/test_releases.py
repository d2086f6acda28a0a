"""What the bytecode of a function says about the locks that it takes, makes and lets go; on each interpreter anew."""

from __future__ import annotations

import dis
from textwrap import indent
from typing import TYPE_CHECKING, Any

import pytest

from lockwatch.releases import (
    ALWAYS,
    NEVER,
    SOMETIMES,
    UNKNOWN,
    guarded,
    is_private,
    keeps_count,
    releases,
    taken_by_with,
)

if TYPE_CHECKING:
    from types import CodeType

WAYS = {
    "plainly": ("lock.acquire()\nwork()\nlock.release()", ALWAYS),
    "an attribute's": ("self.a.lock.acquire()\nwork()\nself.a.lock.release()", ALWAYS),
    "a global's": ("everybodys.acquire()\nwork()\neverybodys.release()", ALWAYS),
    "by finally": ("lock.acquire()\ntry:\n    work()\nfinally:\n    lock.release()", ALWAYS),
    "but exceptions": (
        "try:\n    lock.acquire()\n    work()\n    lock.release()\nexcept OSError:\n    pass",
        ALWAYS,
    ),
    "but what it raises": ("lock.acquire()\nif work():\n    raise OSError\nlock.release()", ALWAYS),
    "if it got it": ("if lock.acquire(False):\n    work()\n    lock.release()", ALWAYS),
    "unless it did not get it": (
        "if not lock.acquire(timeout=3):\n    return 1\nwork()\nlock.release()",
        ALWAYS,
    ),
    "after a loop": (
        "lock.acquire()\nfor one in self:\n    if one:\n        continue\n    work()\nlock.release()",
        ALWAYS,
    ),
    "in a loop": ("while True:\n    lock.acquire()\n    work()\n    lock.release()", ALWAYS),
    "a return before it": ("lock.acquire()\nif work():\n    return\nlock.release()", SOMETIMES),
    "handed over": (
        "lock.acquire()\ntry:\n    work(lock)\nexcept OSError:\n    lock.release()\n    raise",
        SOMETIMES,
    ),
    "by somebody": ("lock.acquire()\nwork(lock.release)", SOMETIMES),
    "of another value": ("lock.acquire()\nlock = self\nlock.release()", SOMETIMES),
    "another one": ("lock.acquire()\nself.release()", NEVER),
    "not at all": ("lock.acquire()", NEVER),
    "not any more": ("lock.release()\nwork()\nlock.acquire()", NEVER),
    "one of many": ("self[0].acquire()\nself[0].release()", UNKNOWN),
    "a method's": ("take = lock.acquire\ntake()\nlock.release()", UNKNOWN),
}


def compiled(body: str, *, kind: str = "def") -> CodeType:
    """The code of a function with this body."""
    namespace: dict[str, Any] = {}
    exec(f"{kind} function(self, lock, other=None):\n{indent(body, '    ')}", namespace)
    code: CodeType = namespace["function"].__code__
    return code


def call_of(code: CodeType, *names: str) -> int:
    """The instruction that calls a method or a global of one of these names; of the last one, if there are several."""
    instructions = list(dis.get_instructions(code))
    loaded = max(
        number
        for number, one in enumerate(instructions)
        if one.argval in names
        and one.opname.startswith(("LOAD_ATTR", "LOAD_METHOD", "LOAD_GLOBAL", "LOAD_FAST"))
    )
    return next(one.offset for one in instructions[loaded:] if one.opname.startswith("CALL"))


def entered(code: CodeType) -> int:
    """The instruction at which a ``with`` calls ``__enter__``."""
    instructions = list(dis.get_instructions(code))
    for number, one in enumerate(instructions):
        if one.opname.startswith("BEFORE_") or (
            one.opname == "CALL" and instructions[number - 1].opname == "LOAD_SPECIAL"
        ):
            return one.offset
    raise AssertionError


@pytest.mark.parametrize("name", WAYS)
def test_ways_to_a_release(name: str) -> None:
    """Whether each way on from an acquire comes to the release of the same lock, some do, or none."""
    body, answer = WAYS[name]
    code = compiled(body)
    assert releases(code, call_of(code, "acquire", "take")) == answer


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_with(kind: str) -> None:
    """A ``with`` block always lets go of what it has entered."""
    code = compiled("async with lock: await work()" if "async" in kind else "with lock: work()", kind=kind)
    assert taken_by_with(code, entered(code))
    assert releases(code, entered(code)) == ALWAYS


def test_an_awaited_acquire() -> None:
    """The same in a coroutine, where the acquire is called first and awaited then."""
    code = compiled(
        "await lock.acquire()\ntry:\n    await work()\nfinally:\n    lock.release()", kind="async def"
    )
    assert releases(code, call_of(code, "acquire")) == ALWAYS


PRIVATE = {
    "with Lock():\n    work()": True,
    "with RLock() as taken:\n    work(taken)": True,
    "mine = Lock()\nwith mine:\n    work()": True,
    "mine = Lock()\nmine.acquire()\ntry:\n    work()\nfinally:\n    mine.release()": True,
    "mine = Lock()\nagain = other\nwith mine:\n    work(again)\nwith mine:\n    work()": True,
    "mine = Lock()\nwork(mine)\nwith mine:\n    work()": False,
    "mine = Lock()\nwith mine:\n    return mine": False,
    "mine = Lock()\nwork(mine.acquire)\nwith mine:\n    pass": False,
    "mine = Lock()\ndef inner():\n    with mine:\n        pass\nwith mine:\n    inner()": False,
    "self.lock = mine = Lock()\nwith mine:\n    pass": False,
    "mine = Lock()\nif other:\n    mine = other\nwith mine:\n    work()": False,
    "mine = Lock()\nagain = mine\nwith mine:\n    work(again)": False,
    "mine = Lock()\npair = mine, 2\nwith mine:\n    work(pair)": False,
    "with (mine := Lock()):\n    work(mine)": False,
    "mine = Lock()\nwith mine:\n    work(locals())": False,
    "mine = Lock()\nwith mine:\n    yield": False,
    "with Executor():\n    work()": False,
    "with wrap(Lock()):\n    work()": False,
}


@pytest.mark.parametrize("body", PRIVATE)
def test_private_locks(body: str) -> None:
    """A lock without a name, or in a variable that is used for nothing else, can be seen by its own frame alone."""
    code = compiled(body)
    makers = frozenset({"Lock", "RLock"})
    assert is_private(code, call_of(code, "Lock", "RLock", "Executor"), makers) is PRIVATE[body]


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ("lock.release()", False),
        ("try:\n    work()\nexcept OSError:\n    lock.release()", False),
        ("try:\n    lock.release()\nexcept OSError:\n    pass", True),
        ("try:\n    lock.release()\nfinally:\n    work()", True),
        ("with other:\n    lock.release()", True),
    ],
)
def test_expected_errors(body: str, answer: bool) -> None:
    """In a ``try`` or ``with`` an error may be expected; also in a coroutine, which has a handler of its own around it."""
    for kind in ("def", "async def"):
        code = compiled(body, kind=kind)
        assert guarded(code, call_of(code, "release")) is answer


TAKEN = "lock.acquire()\ntry:\n    work()\nfinally:\n    {release}"
COUNTS = {
    "plainly": ("lock.acquire()\nwork()\nlock.release()", True),
    "by finally": (TAKEN.format(release="lock.release()"), True),
    "in a finally": (
        "try:\n" + indent(TAKEN.format(release="lock.release()"), "    ") + "\nfinally:\n    work()",
        True,
    ),
    "if it raises it": (
        TAKEN.format(release="try:\n        lock.release()\n    except RuntimeError:\n        raise OSError"),
        False,
    ),
    "unless it is free": (
        TAKEN.format(release="try:\n        lock.release()\n    except RuntimeError:\n        pass"),
        False,
    ),
    "unless anything": (
        TAKEN.format(release="try:\n        lock.release()\n    except:\n        pass"),
        False,
    ),
    "or suppresses": (TAKEN.format(release="with suppress(RuntimeError):\n        lock.release()"), False),
    "in an except": (
        "try:\n" + indent(TAKEN.format(release="lock.release()"), "    ") + "\nexcept Exception:\n    work()",
        False,
    ),
    "if it has it": (TAKEN.format(release="if lock.locked():\n        lock.release()"), False),
    "not at all": ("lock.acquire()", False),
}


@pytest.mark.parametrize("how", COUNTS)
def test_whether_it_would_notice_a_release_too_many(how: str) -> None:
    """Who releases what it took, and answers to nothing else, leaves no release to others."""
    body, answer = COUNTS[how]
    code = compiled(body)
    assert keeps_count(code, call_of(code, "acquire")) is answer
