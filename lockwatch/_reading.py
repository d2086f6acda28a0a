"""Checked reading of JSON: take a key out of an object, or say in one sentence what is wrong with it.

Guarantee: whatever was parsed, each function returns a value of its type or raises ValueError that names the
key; no other exception. A key that holds ``null`` counts as missing.

Cost: one look-up and one type test for each key.
"""

from collections.abc import Mapping
from typing import TypeVar

_T = TypeVar("_T")


def mapping(data: object, what: str) -> Mapping[str, object]:
    """Return data, which must be an object; ``what`` says of which kind."""
    if not isinstance(data, Mapping):
        raise ValueError(  # noqa: TRY004 - of the document, not of the call
            f"{what} in JSON must be an object, not {type(data).__name__}"
        )
    return data


def _wrong(key: str, wanted: str, value: object) -> ValueError:
    return ValueError(f"{key!r} in JSON must be {wanted}, not {type(value).__name__}")


def _need(obj: Mapping[str, object], key: str, default: object) -> object:
    value = obj.get(key, default)
    if value is None and default is None:
        raise ValueError(f"{key!r} is missing in JSON")
    return default if value is None else value


def text(obj: Mapping[str, object], key: str, default: str | None = None) -> str:
    """Return the text at a key. Raises ValueError where it is missing and has no default."""
    value = _need(obj, key, default)
    if not isinstance(value, str):
        raise _wrong(key, "text", value)
    return value


def text_or_none(obj: Mapping[str, object], key: str) -> str | None:
    """Return the text at a key, None where it is missing."""
    return None if obj.get(key) is None else text(obj, key)


def integer(obj: Mapping[str, object], key: str, default: int | None = None) -> int:
    """Return the integer at a key. Raises ValueError where it is missing and has no default."""
    value = _need(obj, key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(key, "an integer", value)
    return value


def integer_or_none(obj: Mapping[str, object], key: str) -> int | None:
    """Return the integer at a key, None where it is missing."""
    return None if obj.get(key) is None else integer(obj, key)


def number_or_none(obj: Mapping[str, object], key: str) -> float | None:
    """Return the number at a key, None where it is missing."""
    value = obj.get(key)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong(key, "a number", value)
    return float(value)


def boolean(obj: Mapping[str, object], key: str, default: _T) -> bool | _T:
    """Return the truth value at a key, the default where it is missing."""
    value = obj.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise _wrong(key, "true or false", value)
    return value


def items(obj: Mapping[str, object], key: str) -> list[object]:
    """Return the array at a key, an empty list where it is missing."""
    value = obj.get(key)
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise _wrong(key, "an array", value)
    return list(value)
