"""Who refers to an object: finding every place that does.

Two jobs need this: sweeping the *names* that modules bound early (`lockwatch.patch.names`), and replacing
*lock objects* that exist already (`lockwatch.patch.adopt`). Both ask the garbage collector who refers to an
object. Some referrers are of no use by themselves (a bare dict may be the attributes of an object, the values
of a table or keyword defaults), so `References` climbs on from those until it knows the owner, a generation
of referrers at a time.

Guarantees: no code of the program runs. What cannot be replaced (a tuple, a set, a frame, an object of an
extension) is named, never guessed at.

Assumes: the garbage collector knows the containers. What it does not know (local variables, C structures, most
of what is in ``gc.freeze()``) is not found; whoever needs to be sure that nothing was missed must count
references, as ``adopt`` does.

Cost: one pass over all container objects per generation (some milliseconds for a hundred thousand), at most
`DEPTH`.
"""

from __future__ import annotations

import gc
import sys
from collections import defaultdict, deque
from types import BuiltinMethodType, CellType, FrameType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from lockwatch._core.fastpath import MutexBase
from lockwatch.patch.places import (
    CellContents,
    ClassAttribute,
    Default,
    Item,
    Owner,
    Place,
    Slot,
    class_dict,
    class_name,
    instance_dict,
    is_a,
    module_dict,
    module_of,
    slots,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DEPTH: Final = 7
"""Generations to climb: lock, attributes, Condition, attributes, Event, attributes, module."""
WIDEST: Final = 500
"""Objects whose owners are looked for at once; those beyond are left without an owner."""

FROZEN_AT_START: Final = 1_000
"""At most so many objects does an interpreter freeze by itself (3.12 some 400); ``gc.freeze()`` finds thousands."""

METHODS: Final = (BuiltinMethodType, MethodType)
"""The types of bound methods."""

_OURS: Final = "lockwatch.patch"
_CLIMBED: Final = frozenset(
    {"Condition", "Event", "Semaphore", "BoundedSemaphore", "Barrier", "Queue", "LifoQueue", "PriorityQueue"}
)
"""Instances of these classes are named by their owner: 'app.stop', not 'Event'."""


class References:
    """Who refers to some objects, and who to those, up to owners that have a name.

    Holds strong references to what it found: drop it before counting references.

    Args:
        targets: The objects to start from.
    """

    def __init__(self, targets: Sequence[object]) -> None:
        self._namespaces = {
            id(module_dict(module)): name
            for name, module in list(sys.modules.items())
            if is_a(module, ModuleType)
        }
        self._parents: dict[int, dict[int, object]] = {}  # by identity: an object, and its containers
        self._nodes: list[object] = []  # keeps the identities in _parents from being used again
        unseen = [(one, _contents(one)) for one in self._unseen()]
        own = {id(self._nodes), id(self._parents), id(targets)}
        generation = tuple(targets)
        for _ in range(DEPTH):
            if not generation:
                break
            following: dict[int, object] = {}
            own |= {id(generation), id(following)}
            for one in generation:
                own.add(id(self._parents.setdefault(id(one), {})))
            self._nodes.extend(generation)
            wanted = {id(one) for one in generation}
            containers = gc.get_referrers(*generation)
            own.add(id(containers))
            containers += [one for one, contents in unseen if contents & wanted]
            for container in containers:
                if id(container) in own or _is_ours(container) or id(type(container)) in self._parents:
                    continue  # the last: an instance of a class that we look for
                for content in _contents(container) & self._parents.keys():
                    self._parents[content][id(container)] = container
                if id(container) not in self._parents and self._needs_owner(container):
                    following[id(container)] = container
            generation = tuple(following.values())[:WIDEST]

    def _unseen(self) -> Iterator[object]:
        """Yield containers that the garbage collector does not tell of.

        It leaves out what is in ``gc.freeze()``, and, on the free-threaded 3.13, modules, classes and functions
        once a second thread has been started. What can be reached from the modules by name is found here.
        """
        if gc.get_freeze_count() <= FROZEN_AT_START and gc.is_tracked(vars(sys)):
            return
        for module in list(sys.modules.values()):
            if is_a(module, ModuleType):
                namespace = module_dict(module)
                yield namespace
                for value in list(namespace.values()):
                    if is_a(value, type):
                        yield value
                        yield from (one for one in gc.get_referents(value) if type(one) is dict)
                        for attribute in list(class_dict(value).values()):
                            yield from _parts(attribute)
                    yield from _parts(value)

    def _needs_owner(self, container: object) -> bool:
        kind = type(container)
        if issubclass(kind, dict):
            return id(container) not in self._namespaces
        return kind in (list, tuple, deque, CellType, *METHODS) or _is_climbed(kind)

    def parents(self, target: object) -> list[object]:
        """Return the containers that refer to ``target``."""
        return list(self._parents.get(id(target), {}).values())

    def methods(self, target: object) -> list[Any]:
        """Return the bound methods of ``target`` that exist."""
        return [one for one in self.parents(target) if _is_method(one, target)]

    def places(self, target: object) -> tuple[list[Place], list[str]]:
        """Return the places that hold ``target``, and in words what else refers to it, its bound methods excepted."""
        places: list[Place] = []
        others: list[str] = []
        for container in self.parents(target):
            if not _is_method(container, target):
                found = list(self._spots(target, container, DEPTH))
                places += found
                if not found:
                    others.append(_describe(container))
        return places, others

    def owners(self, target: object) -> list[Owner]:
        """Return whose the tuples and deques are that refer to ``target``, as far as that is known."""
        owners = [self._owner(one, DEPTH) for one in self.parents(target) if type(one) in (tuple, deque)]
        return [owner for owner in owners if owner is not None]

    def _spots(self, target: object, container: Any, depth: int) -> Iterator[Place]:
        """Yield each place in ``container`` that holds ``target``; nothing if there is none that can be written."""
        kind = type(container)
        if issubclass(kind, dict):
            yield from self._dict_spots(target, container, depth)
        elif kind is list:
            owner = self._owner(container, depth)
            if owner is not None:
                for index, value in enumerate(list(container)):
                    if value is target:
                        yield Item(container, index, owner, f"[{index}]", "item")
        elif kind is tuple:
            for function in self.parents(container):
                if type(function) is FunctionType and function.__defaults__ is container:
                    for index, value in enumerate(function.__defaults__ or ()):
                        if value is target:
                            whose = Owner(function.__qualname__, str(function.__module__), function)
                            yield Default(
                                function, index, whose, f".{_default_name(function, index)}", "default"
                            )
        elif kind is CellType:
            yield CellContents(container, None, self._cell_owner(container), "", "closure")
        elif not issubclass(kind, (type, FunctionType, ModuleType, FrameType, *METHODS)):
            yield from self._instance_spots(target, container, depth)

    def _dict_spots(self, target: object, container: Any, depth: int) -> Iterator[Place]:
        keys = [key for key, value in list(dict.items(container)) if value is target]
        if type(container) is defaultdict and container.default_factory is target:
            owner = self._owner(container, depth) or Owner("defaultdict", "", container)
            yield Slot(container, "default_factory", owner, ".default_factory", "factory")
        if not keys:
            return
        for parent in self.parents(container):
            if is_a(parent, type) and all(class_dict(parent).get(key) is target for key in keys):
                whose = _class_owner(parent)
                for key in keys:
                    yield ClassAttribute(parent, key, whose, f".{key}", "class")
                return
        whose_dict = self._owner(container, depth)
        if whose_dict is not None:
            for key in keys:
                part = f"[{_key(key)}]" if whose_dict.role == "item" or type(key) is not str else f".{key}"
                yield Item(container, key, whose_dict, part, whose_dict.role)

    def _instance_spots(self, target: object, container: object, depth: int) -> Iterator[Place]:
        owner = self._instance_owner(container, depth)
        attributes = instance_dict(container) or {}
        for key, value in list(attributes.items()):
            if value is target:
                yield Item(attributes, key, owner, f".{key}", "attribute")
        for key, value in slots(container):
            if value is target:
                factory = key == "default_factory" and module_of(type(container)) == "dataclasses"
                yield Slot(container, key, owner, f".{key}", "factory" if factory else "attribute")

    def _owner(self, container: Any, depth: int) -> Owner | None:
        """Return whose a dict or list is; None if nobody with a name has it."""
        name = self._namespaces.get(id(container))
        if name is not None:
            return _namespace_owner(name)
        if depth <= 0:
            return None
        parents = self.parents(container)
        for parent in parents:
            if type(parent) is FunctionType:
                module = str(parent.__module__)
                if parent.__kwdefaults__ is container:
                    return Owner(parent.__qualname__, module, parent, role="default")
                if parent.__globals__ is container:
                    given = container.get("__name__")
                    return _namespace_owner(given if type(given) is str else module)
            elif is_a(parent, ModuleType):
                return _namespace_owner(str(module_dict(parent).get("__name__")))
            elif not is_a(parent, type, FrameType) and instance_dict(parent) is container:
                return self._instance_owner(parent, depth - 1)._replace(role="attribute")
        for parent in parents:  # in no role of its own, so in that of what it is kept in
            for place in self._spots(container, parent, depth - 1):
                return Owner(place.label, place.module, place.root)
        for parent in parents:
            if is_a(parent, MutexBase):  # a hold: the C twin keeps it where no attribute leads to
                return Owner("hold", module_of(MutexBase), parent)
        return None

    def _instance_owner(self, instance: object, depth: int) -> Owner:
        """Return how to call an object: by its class, or, for a Condition and its like, by who has it."""
        kind = type(instance)
        if _is_climbed(kind):
            for parent in self.parents(instance) if depth > 0 else ():
                for place in self._spots(instance, parent, depth - 1):
                    return Owner(place.label, place.module, place.root)
            return Owner(class_name(kind), "", instance)
        return _class_owner(kind)._replace(root=instance)

    def _cell_owner(self, cell: CellType) -> Owner:
        for closure in self.parents(cell):
            for function in self.parents(closure):
                if type(function) is FunctionType and function.__closure__ is closure:
                    for name, one in zip(
                        function.__code__.co_freevars, function.__closure__ or (), strict=False
                    ):
                        if one is cell:
                            return Owner(
                                f"{function.__qualname__}.{name}", str(function.__module__), function
                            )
        return Owner("a closure", "", cell)


def _contents(container: object) -> set[int]:
    return {id(one) for one in gc.get_referents(container)}


def _parts(thing: Any) -> tuple[object, ...]:
    """Return a function with what it keeps values in; nothing for other things."""
    if type(thing) is not FunctionType:
        return ()
    cells = thing.__closure__ or ()
    return tuple(one for one in (thing, thing.__defaults__, thing.__kwdefaults__, cells, *cells) if one)


def _namespace_owner(module: str) -> Owner:
    return Owner(module, module, module, role="global")


def _class_owner(kind: Any) -> Owner:
    return Owner(class_name(kind), module_of(kind), kind)


def _is_climbed(kind: type) -> bool:
    return class_name(kind) in _CLIMBED and module_of(kind) in ("threading", "queue")


def _is_method(thing: Any, target: object) -> bool:
    return type(thing) in METHODS and thing.__self__ is target


def _is_ours(container: Any) -> bool:
    """Whether a container belongs to the search itself: its frames and notes are not the program's."""
    if type(container) is FrameType:
        return str(container.f_globals.get("__name__")).startswith(_OURS)
    return module_of(type(container)).startswith(_OURS)


def _default_name(function: FunctionType, index: int) -> str:
    code = function.__code__
    first = code.co_argcount - len(function.__defaults__ or ())
    return code.co_varnames[first + index] if first >= 0 else str(index)


def _key(key: object) -> str:
    return repr(key) if type(key) in (str, int, bytes, bool) else "..."


def _describe(container: Any) -> str:
    if type(container) is FrameType:
        return f"a local variable of {container.f_code.co_qualname}()"
    name = class_name(type(container))
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
