"""The smallest values that findings are made of: a place, an entry of a stack, the CPU use of a thread.

Users have them from `lockwatch.findings`, which says what is guaranteed.

Cost: proportional to what a value holds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lockwatch import _reading as reading
from lockwatch._labels import shorten_path

CPU_STATES = ("working", "sleeping", "blocked in a system call", "unknown")
"""What the operating system says that a thread is doing."""


class _Value:
    """What all values share: their JSON form, which is their fields."""

    __slots__ = ()

    def to_json(self) -> dict[str, object]:
        """Return the JSON form: a dict of dicts, lists, text, numbers, booleans and None."""
        fields: tuple[str, ...] = self.__slots__
        return {name: _plain(getattr(self, name)) for name in fields}


@dataclass(frozen=True, slots=True)
class Site(_Value):
    """One place in the source.

    Attributes:
        file: path as the code object has it, usually absolute.
        line: line number, from 1.
        function: name of the function, ``<module>`` at module level.
    """

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return self.show()

    def show(self, cwd: str | None = None) -> str:
        """Return ``"kafka/coordinator.py:912 in _heartbeat"``.

        Args:
            cwd: directory below which the path is shown relative to it; the current one when None.
        """
        return f"{shorten_path(self.file, cwd)}:{self.line} in {self.function}"

    @classmethod
    def from_json(cls, data: object) -> "Site":
        """Read the JSON form. Raises ValueError that names what is wrong."""
        obj = reading.mapping(data, "a site")
        file, function = reading.text(obj, "file"), reading.text(obj, "function", "?")
        return cls(file, reading.integer(obj, "line"), function)


@dataclass(frozen=True, slots=True)
class Frame(_Value):
    """One entry of a stack.

    Attributes:
        file: path as the code object has it.
        line: line number, from 1.
        function: name of the function.
        source: the line's text, or None where it is not known.
    """

    file: str
    line: int
    function: str
    source: str | None = None

    @classmethod
    def from_json(cls, data: object) -> "Frame":
        """Read the JSON form. Raises ValueError that names what is wrong."""
        obj = reading.mapping(data, "a stack frame")
        file, function = reading.text(obj, "file"), reading.text(obj, "function", "?")
        return cls(file, reading.integer(obj, "line"), function, reading.text_or_none(obj, "source"))


@dataclass(frozen=True, slots=True)
class Cpu(_Value):
    """What the operating system says about a thread.

    Attributes:
        user: seconds of CPU used in the program.
        system: seconds of CPU used in the system.
        state: one of CPU_STATES; it tells a party that works from one that sleeps.
    """

    user: float
    system: float
    state: str = "unknown"

    def __post_init__(self) -> None:
        one_of("state", self.state, CPU_STATES)

    @classmethod
    def from_json(cls, data: object) -> "Cpu":
        """Read the JSON form. Raises ValueError that names what is wrong."""
        obj = reading.mapping(data, "CPU use")
        return cls(
            reading.number_or_none(obj, "user") or 0.0,
            reading.number_or_none(obj, "system") or 0.0,
            reading.text(obj, "state", "unknown"),
        )


def one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless a value is one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, allowed))}, not {value!r}")


def _plain(value: object) -> object:
    if isinstance(value, _Value):
        return value.to_json()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no infinity and no NaN
    return value


def site_or_none(obj: Mapping[str, object], key: str) -> Site | None:
    """Read the place at a key, None where there is none."""
    value = obj.get(key)
    return None if value is None else Site.from_json(value)
