"""How a plain function that returns a coroutine is declared a coroutine function."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any


def mark_coroutine_function(function: Any) -> Any:
    """Have a function that returns a coroutine count as a coroutine function, for ``inspect`` or, in 3.11, asyncio."""
    mark = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:
        return mark(function)
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return function
