"""Places that refer to an object: a name, an attribute, an item, a default, a variable of a closure.

Guarantees:
  * A `Place` is written in one step (one store into a dict, list, cell or slot), and by `Place.swap` only
    while it still has the old value.
  * No code of the program runs: no ``__getattr__``, ``__setattr__``, property, ``__eq__``, ``__hash__`` or
    ``__repr__``.

Which places there are is found out by `lockwatch.patch.references`.
"""

from __future__ import annotations

from types import GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# Looked up past metaclasses, instances and modules that answer such questions with code of their own. For the
# same reason there is no isinstance() below: it asks the object for its __class__.
class_dict: Any = type.__dict__["__dict__"].__get__
_class_mro: Any = type.__dict__["__mro__"].__get__
_class_module: Any = type.__dict__["__module__"].__get__
class_name: Any = type.__dict__["__qualname__"].__get__
module_dict: Any = vars(ModuleType)["__dict__"].__get__


def is_a(thing: object, *kinds: type) -> bool:
    """Return whether ``thing`` is an instance of one of the classes, whatever it says itself."""
    return issubclass(type(thing), kinds)


def module_of(kind: type) -> str:
    """Return the name of the module that a class says it is from."""
    return str(_class_module(kind))


def instance_dict(instance: object) -> dict[str, object] | None:
    """Return the attribute dict of an object, without running code of its class; None if it has none."""
    for base in _class_mro(type(instance)):
        getter = class_dict(base).get("__dict__")
        if type(getter) is GetSetDescriptorType:
            found = getter.__get__(instance)
            return found if is_a(found, dict) else None
    return None


def slots(instance: object) -> Iterator[tuple[str, object]]:
    """Yield the slots of an object that hold something, as (name, value)."""
    for base in _class_mro(type(instance)):
        for name, descriptor in list(class_dict(base).items()):
            if type(descriptor) is MemberDescriptorType:
                try:
                    yield name, descriptor.__get__(instance)
                except AttributeError:
                    continue


class Owner(NamedTuple):
    """Whose a container is.

    Attributes:
        label: How to call it.
        module: The module it belongs to.
        root: The object that the label starts from.
        role: What its entries are: "global", "default", "attribute" or "item".
    """

    label: str
    module: str
    root: object
    role: str = "item"


class Place:
    """One spot that refers to an object: `read` it, `write` another one into it.

    Attributes:
        owner: The object that is changed when the place is written.
        key: Which part of it: a key, a name, an index.
        label: How people call it: "logging._lock", "Client._lock", "connect.guard", "app.locks['a']".
        module: Name of the module that the place belongs to, "" if unknown.
        root: The object at the end of the climb: a module's name, a class, a function, an instance.
        role: "global", "class" (an attribute of one), "default", "closure", "attribute" (of an instance),
            "item" (of a dict or list) or "factory" (of a dataclass field or defaultdict).
    """

    __slots__ = ("key", "label", "module", "owner", "role", "root")

    def __init__(self, owner: Any, key: Any, whose: Owner, part: str, role: str) -> None:
        self.owner = owner
        self.key = key
        self.label = (whose.label + part).removeprefix("__main__.")
        self.module = whose.module
        self.root = whose.root
        self.role = role

    def read(self) -> object:
        """Return what is there now; None if the place is gone."""
        return self._read()

    def write(self, value: object) -> None:
        """Put ``value`` there.

        Raises:
            TypeError, AttributeError: The owner does not let itself be changed.
        """
        self._write(value)

    def _read(self) -> object:
        raise NotImplementedError

    def _write(self, value: object) -> None:
        raise NotImplementedError

    def swap(self, old: object, new: object) -> bool:
        """Put ``new`` there if ``old`` is what is there; returns whether it did."""
        if self.read() is not old:
            return False
        try:
            self.write(new)
        except (TypeError, AttributeError):
            return False
        return True


class Item(Place):
    """A value in a dict or list: a module's global, an attribute, a keyword default, an entry of a table."""

    __slots__ = ()

    def _read(self) -> object:
        if is_a(self.owner, dict):
            return dict.get(self.owner, self.key)
        return self.owner[self.key] if self.key < len(self.owner) else None

    def _write(self, value: object) -> None:
        if is_a(self.owner, dict):
            dict.__setitem__(self.owner, self.key, value)
        else:
            self.owner[self.key] = value


class ClassAttribute(Place):
    """An attribute of a class; written past any metaclass."""

    __slots__ = ()

    def _read(self) -> object:
        return class_dict(self.owner).get(self.key)

    def _write(self, value: object) -> None:
        type.__setattr__(self.owner, self.key, value)


class Default(Place):
    """A positional default of a function. The tuple is renewed; ``key`` is the index in it."""

    __slots__ = ()

    def _read(self) -> object:
        defaults = self.owner.__defaults__ or ()
        return defaults[self.key] if self.key < len(defaults) else None

    def _write(self, value: object) -> None:
        defaults = self.owner.__defaults__
        self.owner.__defaults__ = (*defaults[: self.key], value, *defaults[self.key + 1 :])


class CellContents(Place):
    """A variable of a closure."""

    __slots__ = ()

    def _read(self) -> object:
        try:
            return self.owner.cell_contents
        except ValueError:
            return None

    def _write(self, value: object) -> None:
        self.owner.cell_contents = value


class Slot(Place):
    """An attribute that is not in a dict: ``__slots__``, a dataclass Field's factory, a defaultdict's factory."""

    __slots__ = ()

    def _read(self) -> object:
        return object.__getattribute__(self.owner, self.key)

    def _write(self, value: object) -> None:
        object.__setattr__(self.owner, self.key, value)
