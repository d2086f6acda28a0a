"""Do something when a module gets loaded: patch what is often imported after `install()`.

A finder in ``sys.meta_path`` waits for the modules asked for and is gone when there are none left. (wrapt's
post-import hooks do the same, but importing wrapt costs some 80 ms and loads asyncio and logging before the
patch.)

Assumed atomic: one store into, or pop from, the table.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_wanted: dict[str, list[Callable[[ModuleType], None]]] = {}


def when_loaded(name: str, call: Callable[[ModuleType], None]) -> None:
    """Call ``call`` with the module ``name``: now if it is loaded, else as soon as it is."""
    module = sys.modules.get(name)
    if module is not None:
        call(module)
        return
    _wanted.setdefault(name, []).append(call)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def forget(name: str) -> None:
    """Wait for ``name`` no longer."""
    _wanted.pop(name, None)
    if not _wanted and _finder in sys.meta_path:
        sys.meta_path.remove(_finder)


class _Finder:
    """Finds the wanted modules as the other finders do, and wraps their loaders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec with a loader that calls us back; None for all other modules."""
        if fullname not in _wanted:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
                return spec
        return None


class _Loader:
    """The module's own loader, and a word to us when it is done."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Make the module as its own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, give it its own loader back, and call who waited for it."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        calls = _wanted.get(module.__name__, [])
        forget(module.__name__)
        for call in calls:
            call(module)


_finder = _Finder()
