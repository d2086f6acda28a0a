"""Names of locks and places in the source, worked out from the code that made them.

Guarantees:

* Nothing here raises; what cannot be told is None. Nothing is imported when called, so that it works in a
  program that is stuck inside an import. No warning is shown for the program's source.
* No code object, frame or syntax tree of more than a few files is kept; the answers are, by place, and
bounded.

Assumptions: the source on disk is the one that runs. If it was edited since, a name can be wrong or missing;
a wrong one needs a call that ends at the very same line and column.

Method: the instruction's position (PEP 657) finds the call in the syntax tree; the path from the call up to
its statement says what it is assigned to. Without columns (``-X no_debug_ranges``) the line's only likely
call is taken; without source (``-c``, ``exec``, ``.pyc`` alone) the instruction that stores the result.

==========================================  ==========================
source                                      name
==========================================  ==========================
``self._lock = Lock()`` in class Client     ``Client._lock``
``client_lock = Lock()``                    ``client_lock``
``lock: Lock = Lock()`` in class Client     ``Client.lock``
``locks['a'] = Lock()``, ``{'a': Lock()}``  ``locks['a']``
``locks[key] = Lock()``, comprehensions     ``locks[...]``
``a, b = Lock(), Lock()``                   ``a``, ``b``
``self.cond = Condition(Lock())``           ``Client.cond``
``Worker(lock=Lock())``                     ``Worker(lock)``
``def f(lock=Lock())``                      ``f(lock)``
``return Lock()`` in ``def make``           ``make()``
==========================================  ==========================

Cost: one parse of a file (some 10 ms for each 1,000 lines), then one look-up for each place.
"""

import ast
import dis
import io
import itertools
import linecache
import os
import re
import sys
import tokenize
from collections.abc import Iterator, Sequence
from types import CodeType

from lockwatch.findings import Site

# linecache imports these when first used (in newer versions); we may be called where no import can succeed.
_NEEDED_BY_LINECACHE = (io, os, sys, tokenize)

_MOST_NAMES = 4096
_MOST_TREES = 8
_LONGEST_KEY = 40

_Position = tuple[int | None, int | None, int | None, int | None]
"""First and last line, first column and the one after the last, as ``code.co_positions()`` gives them."""

_names: dict[tuple[str, _Position, int], str | None] = {}
_trees: dict[str, ast.Module] = {}


def line_of(code: CodeType, lasti: int) -> int:
    """Return the source line of an instruction.

    Args:
        code: the code object.
        lasti: offset of the instruction in bytes (``frame.f_lasti``); below 0 for not started.
    """
    for start, end, line in code.co_lines():
        if start <= lasti < end and line is not None:
            return line
    return code.co_firstlineno


def site(code: CodeType, lasti: int) -> Site:
    """Return the place of an instruction; the arguments are those of `line_of`."""
    return Site(code.co_filename, line_of(code, lasti), code.co_name)


def lock_name(code: CodeType, lasti: int) -> str | None:
    """Return what the lock made by a call is named in the source, or None.

    Args:
        code: the code object that called ``Lock()``.
        lasti: offset of the call's instruction in bytes (``frame.f_lasti``).
    """
    try:
        position = _position(code, lasti)
        if code.co_filename.startswith("<"):  # generated code: many pieces share a name and their positions
            return _from_source(code, position) or _from_bytecode(code, lasti)

        key = (code.co_filename, position, lasti if position[2] is None else -1)
        if key in _names:
            return _names[key]

        if len(_names) >= _MOST_NAMES:
            _names.clear()
        name = _names[key] = _from_source(code, position) or _from_bytecode(code, lasti)
    except Exception:  # a name is a nicety; RecursionError for a deeply nested source, for example
        return None
    return name


def clear() -> None:
    """Forget all names and syntax trees, for example after the source has changed."""
    _names.clear()
    _trees.clear()


def _position(code: CodeType, lasti: int) -> _Position:
    positions = itertools.islice(code.co_positions(), max(lasti, 0) // 2, None)
    return next(positions, (line_of(code, lasti), None, None, None))


# --- from the source -------------------------------------------------------------------------------------


def _from_source(code: CodeType, position: _Position) -> str | None:
    tree = _tree(code.co_filename)
    if tree is None:
        return None
    path = _path_to_call(tree, position)
    if path is None:
        return None
    if code.co_name.isidentifier() and all(getattr(node, "name", None) != code.co_name for node in path):
        return None  # not inside that function: other source than the one that runs
    return _Namer(path).name()


def _tree(filename: str) -> ast.Module | None:
    if filename in _trees:
        return _trees[filename]

    source = "".join(linecache.getlines(filename))
    if not source:
        return None
    # Bad escapes would make the parser warn, a second time and in our name. Only the structure counts here.
    source = re.sub(r"\\(.)", _without_bad_escape, source)
    tree = ast.parse(source)
    if len(_trees) >= _MOST_TREES:
        _trees.clear()
    _trees[filename] = tree
    return tree


def _without_bad_escape(match: re.Match[str]) -> str:
    char = match[1]
    return match[0] if char in "\\'\"abfnrtvxuUN01234567" else "/" + char


def _path_to_call(tree: ast.Module, position: _Position) -> list[ast.AST] | None:
    """Return the nodes from the module down to the call (or subscript) that the instruction stands for."""
    line, end_line, column, end_column = position
    if line is None:
        return None
    if end_line is None or column is None or end_column is None:
        return _only_call(tree, line)

    start, end = (line, column), (end_line, end_column)
    best: list[ast.AST] | None = None
    for path in _paths(tree, line, end_line):
        node = path[-1]
        if not isinstance(node, ast.Call | ast.Subscript) or _end(node) != end:
            continue
        # The instruction of a call over several lines may begin at the method's name, so inside its node. Of
        # nodes with one end the innermost begins last: f().g() ends where its own call ends, and f() does not.
        if (node.lineno, node.col_offset) <= start and (best is None or len(path) > len(best)):
            best = path
    return best


def _only_call(tree: ast.Module, line: int) -> list[ast.AST] | None:
    """Return the path to the one call on a line that looks like making a lock; no columns tell which."""
    calls = [path for path in _paths(tree, line, line) if isinstance(path[-1], ast.Call)]
    calls = [path for path in calls if path[-1].lineno == line]  # type: ignore[attr-defined]
    likely = [path for path in calls if "lock" in _callee(path[-1]).lower()] or calls
    return likely[0] if len(likely) == 1 else None


def _paths(tree: ast.Module, line: int, end_line: int) -> Iterator[list[ast.AST]]:
    """Yield the path from the module to each node that covers the lines."""
    todo: list[list[ast.AST]] = [[tree]]
    while todo:
        path = todo.pop()
        yield path
        for child in ast.iter_child_nodes(path[-1]):
            first = getattr(
                child, "lineno", None
            )  # None: arguments, keyword (to 3.8), comprehension, withitem
            decorators = getattr(child, "decorator_list", None)
            if decorators and first is not None:
                first = min(first, decorators[0].lineno)
            if first is None or (first <= line and end_line <= _end(child)[0]):
                todo.append([*path, child])


def _end(node: ast.AST) -> tuple[int, int]:
    return getattr(node, "end_lineno", 0) or 0, getattr(node, "end_col_offset", 0) or 0


_APPENDERS = frozenset({"add", "append", "appendleft", "insert", "put", "put_nowait"})
_FACTORY_ARGUMENTS = frozenset({"default_factory", "factory", "default"})


class _Namer:
    """Climbs from a call to its statement and gathers the name on the way."""

    def __init__(self, path: Sequence[ast.AST]) -> None:
        self.path = path
        self.suffix = ""
        self.keyword: str | None = None
        self.depth = len(path)  # how far the climb has come

    def name(self) -> str | None:
        node = self.path[-1]
        if isinstance(node, ast.Subscript):  # a defaultdict made the lock when it was asked for a key
            return self._expression(node)

        for depth in range(len(self.path) - 2, -1, -1):
            parent, child = self.path[depth], self.path[depth + 1]
            self.depth = depth
            done, name = self._step(parent, child)
            if done:
                return None if name is None else name + self.suffix
        return None

    def _step(self, parent: ast.AST, child: ast.AST) -> tuple[bool, str | None]:
        """Return whether the climb ends at this parent, and with which name."""
        match parent:
            case ast.Assign(targets=targets):
                return True, self._assigned(targets, child)
            case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
                return True, self._expression(target, of_scope=True)
            case ast.NamedExpr(target=target):
                return True, self._expression(target)
            case ast.withitem(optional_vars=ast.expr() as target):
                return True, self._expression(target)
            case ast.Return() | ast.Yield():
                return True, self._function("()")
            case ast.arguments():
                return True, self._default(parent, child)
            case ast.Call():
                return self._argument(parent, child)
            case ast.keyword(arg=argument):
                self.keyword = argument
            case ast.Dict():
                self.suffix = f"[{_key(_key_of(parent, child))}]" + self.suffix
            case ast.Tuple() | ast.List():
                index = next((i for i, item in enumerate(parent.elts) if item is child), None)
                self.suffix = f"[{'...' if index is None else index}]" + self.suffix
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp() | ast.Set():
                self.suffix = "[...]" + self.suffix
            case ast.Lambda():
                self.suffix = "()" + self.suffix
            case ast.BoolOp() | ast.IfExp() | ast.Await() | ast.Starred():
                pass
            case _:
                return True, None
        return False, None

    def _assigned(self, targets: list[ast.expr], value: ast.AST) -> str | None:
        # `lock = self._lock = Lock()`: the one that outlives the function tells more
        target = next((target for target in targets if not isinstance(target, ast.Name)), targets[0])
        if isinstance(target, ast.Tuple | ast.List):
            index = re.match(r"\[(\d+)\]", self.suffix)
            if not (index and isinstance(value, ast.Tuple | ast.List)) or any(
                isinstance(item, ast.Starred) for item in [*target.elts, *value.elts]
            ):
                return None
            if int(index[1]) >= len(target.elts):
                return None
            target = target.elts[int(index[1])]
            self.suffix = self.suffix[index.end() :]
        return self._expression(target, of_scope=True)

    def _argument(self, call: ast.Call, child: ast.AST) -> tuple[bool, str | None]:
        """Pass through a call of which the lock is an argument, or end there."""
        callee, keyword = _callee(call), self.keyword
        self.keyword = None
        if child is call.func:  # Lock().acquire and the like: what is assigned is not the lock
            return True, None

        if keyword is not None:
            if callee == "dict":
                self.suffix = f"[{keyword!r}]" + self.suffix
            elif keyword in _FACTORY_ARGUMENTS:  # dataclasses.field, attrs.field
                self.suffix = self.suffix.removeprefix("()")
            elif not callee.endswith("Condition"):
                return True, f"{callee}({keyword})"
            return False, None

        if isinstance(call.func, ast.Attribute) and callee in _APPENDERS:
            return True, f"{self._expression(call.func.value)}[...]"
        if isinstance(call.func, ast.Attribute) and callee == "setdefault":
            return True, f"{self._expression(call.func.value)}[{_key(call.args[0])}]"
        if callee == "defaultdict":
            self.suffix = "[...]" + self.suffix.removeprefix("()")
        return False, None

    def _default(self, arguments: ast.arguments, child: ast.AST) -> str | None:
        """Name the default value of a parameter: ``f(lock)``."""
        positional = [*arguments.posonlyargs, *arguments.args]
        pairs = [
            *zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True),
            *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
        ]
        parameter = next((parameter.arg for parameter, default in pairs if default is child), None)
        return None if parameter is None else self._function(f"({parameter})")

    def _function(self, ending: str) -> str | None:
        """Name the innermost function around the present node, with its class."""
        for index in range(self.depth - 1, -1, -1):
            node = self.path[index]
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                return ".".join([*self._classes(index), node.name]) + ending
        return None

    def _classes(self, depth: int) -> list[str]:
        """Name the classes around a node, outermost first, up to the next function."""
        found: list[str] = []
        for node in reversed(self.path[:depth]):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                break
            if isinstance(node, ast.ClassDef):
                found.insert(0, node.name)
        return found

    def _class_of(self, name: str) -> str | None:
        """Return the class whose method has this name (``self``, ``cls``) as its first parameter."""
        for index in range(len(self.path) - 1, 0, -1):
            node = self.path[index]
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            parameters = [*node.args.posonlyargs, *node.args.args]
            if parameters and parameters[0].arg == name:
                return ".".join(self._classes(index)) or None
        return None

    def _expression(self, node: ast.expr, *, of_scope: bool = False) -> str:
        """Show a target; in ``self.x`` the class stands for self, and before a class attribute (of_scope)."""
        if isinstance(node, ast.Name):
            classes = self._classes(self.depth) if of_scope else []
            return ".".join([*classes, node.id])
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name):
                return f"{self._class_of(node.value.id) or node.value.id}.{node.attr}"
            return f"{self._expression(node.value)}.{node.attr}"
        if isinstance(node, ast.Subscript):
            return f"{self._expression(node.value)}[{_key(node.slice)}]"
        if isinstance(node, ast.Call):
            return f"{self._expression(node.func)}()"
        return "..."


def _callee(call: ast.AST) -> str:
    """Return the last part of the called name, empty for a call of something else."""
    function = getattr(call, "func", None)
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _key_of(literal: ast.Dict, value: ast.AST) -> ast.expr | None:
    pairs = zip(literal.keys, literal.values, strict=True)
    return next((key for key, item in pairs if item is value), None)


def _key(node: ast.expr | None) -> str:
    """Show a key that stands in the source as a constant; any other is ``...``."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int):
        text = repr(node.value)
        return text if len(text) <= _LONGEST_KEY else "..."
    return "..."


# --- from the bytecode -----------------------------------------------------------------------------------


def _from_bytecode(code: CodeType, lasti: int) -> str | None:
    """Return the name that the result is stored in at once, where there is no source to ask."""
    following = [
        instruction
        for instruction in dis.get_instructions(code)
        if instruction.offset > lasti and instruction.opname not in ("CACHE", "COPY", "NOP", "EXTENDED_ARG")
    ][:2]
    if not following:
        return None

    store = following[0]
    if store.opname in ("STORE_NAME", "STORE_FAST", "STORE_GLOBAL", "STORE_DEREF"):
        return f"{store.argval}"
    if len(following) == 2 and store.opname.startswith("LOAD_FAST") and following[1].opname == "STORE_ATTR":
        owner = code.co_qualname.rpartition(".")[0].rpartition("<locals>.")[2]
        is_self = code.co_argcount > 0 and store.argval == code.co_varnames[0] and owner.isidentifier()
        return f"{owner if is_self else store.argval}.{following[1].argval}"
    return None
