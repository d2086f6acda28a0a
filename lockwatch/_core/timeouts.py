"""The arguments of ``acquire``, checked as ``threading`` checks them and turned into nanoseconds.

Guarantee: the same values are taken and refused, with the same exceptions, as by the C locks. Cost: only paid
    by calls
that give arguments.
"""

from __future__ import annotations

import sys
from math import ceil, isnan

from lockwatch._core.originals import TIMEOUT_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def check_timeout(blocking: Any, timeout: Any) -> int | None:
    """Check the arguments of ``acquire`` as ``threading`` does.

    Returns:
        How long to wait, in nanoseconds: None for ever, 0 to try once.

    Raises:
        ValueError: A time-out with ``blocking=False``, a negative one, or not a number (NaN).
        OverflowError: A time-out above ``threading.TIMEOUT_MAX``.
        TypeError: Something that is no number at all.
    """
    if not isinstance(timeout, (int, float)):
        timeout = _number(timeout)
    if timeout == -1:
        return None if blocking else 0
    if not blocking:
        raise ValueError("can't specify a timeout for a non-blocking call")
    if isnan(timeout):
        raise ValueError("Invalid value NaN (not a number)")
    if timeout < 0:
        raise ValueError("timeout value must be a non-negative number")
    if timeout > TIMEOUT_MAX:
        raise OverflowError("timeout value is too large")
    nanoseconds: int = ceil(timeout * 1e9)
    return nanoseconds


def _number(timeout: Any) -> float:
    if sys.version_info >= (3, 15):
        try:
            number: float = type(timeout).__float__(timeout)
        except AttributeError:
            raise TypeError(f"must be real number, not {type(timeout).__name__}") from None
        return number
    try:
        return int(timeout.__index__())
    except AttributeError:
        raise TypeError(f"{type(timeout).__name__!r} object cannot be interpreted as an integer") from None
