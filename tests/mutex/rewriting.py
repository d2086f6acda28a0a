"""The mutex's source, rewritten into steps: generators that yield before each access to shared state.

The functions of ``lockwatch/_core/mutex.py``, ``mutexbase.py`` and ``twin.py`` become generator functions that
``yield`` before each access to shared state (also between two accesses within one expression), so the code under
test is the code that runs, and a *step* is one access with the purely local work that follows it. What is yielded
says of what kind the access is.

What counts as local is named in `PRIVATE`; every attribute not named there is taken as shared, so a new one makes the
search larger, never blind. With ``fine=True`` local statements are steps, too: there an exception or a handler may
come, while no other thread needs to be tried there, since such steps commute with all of theirs.
"""

from __future__ import annotations

import ast
import re
from typing import Any

SHARED = "shared"
LOCAL = "local"
OWN = "own"
"""The step reads or writes its own waiter's slot, or asks whether that waiter is queued: local before it ever was."""
STATE = "state"
"""The step only reads who owns the lock: local while that is the thread itself, since nobody else writes it then."""

ATOMIC = frozenset(
    [
        "__init__",
        "__del__",
        "wake",
        "locked",
        "blockers",
        "forget_waits",
        "reset",
        "check_timeout",
        "_refuse_release",
        "_became_signal",
        "_in_turn",
        "starves",
        "_time_left",
        "_grantable",
        "_in_handler",
        "unqueue",
        "_caller",
    ]
)
"""Functions that are one step: at most one access to shared state each."""

CLOCK = frozenset(["monotonic_ns", "starves", "_time_left"])
"""Functions that read the clock: shared state where the clock may tick."""

PRIVATE = frozenset(
    [
        "waits",
        "holds",
        "_key",
        "_ref",
        "_acquisitions",
        "_contended",
        "_handoffs",
        "agent",
        "main",
        "ended",
        "parker",
        "since_ns",
        "deadline_ns",
        "recheck_ns",
        "notice_ns",
        "loop_block_ns",
        "leaving",
        "hold",
        "f_code",
        "f_lasti",
        "f_globals",
        "starvation_threshold_ns",
        "loop_block_ns",
        "notice_ns",
        "block",
        "error",
        "resource",
        "current",
        "finding",
        "get",
        "setdefault",
        "pop",
        "append",
        "remove",
        "insert",
        "acquire",
        "release",
        "give_way",
        "unpark",
        "park",
        "begin_again",
        "_undo",
        "_undo_level",
        "_let_go",
        "_unlist",
        "_acquire_with",
        "_became_signal",
        "_refuse_release",
        "_state",
        "_queue",
    ]
)
"""Attributes that only their own thread or the lock's owner writes, methods, and bindings that never change."""

SHARED_OBJECTS = {"state", "queue"}
OWN_WAITER = {"waiter", "self"}


SIMPLE = (
    ast.Assign,
    ast.AugAssign,
    ast.AnnAssign,
    ast.Expr,
    ast.Return,
    ast.Raise,
    ast.Delete,
    ast.Continue,
    ast.Break,
    ast.Pass,
)


class Rewriter(ast.NodeTransformer):
    """Turns functions into generators of steps."""

    def __init__(self, names: set[str], *, fine: bool, clock: bool) -> None:
        self.names = names
        self.fine = fine
        self.clock = clock
        self.seen = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if node.name in self.names:
            node.body = self.block(node.body)
            node.body.append(ast.parse("if 0: yield").body[0])
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name("Exception", node.ctx) if node.id == "BaseException" else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
        return ast.YieldFrom(node) if name in self.names else node

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        self.generic_visit(node)
        foreign = node.attr == "slot" and getattr(node.value, "id", None) not in OWN_WAITER
        if foreign and isinstance(node.ctx, ast.Load):
            # its owner may put a new one there between look-up and use
            return _at(node, _expression(f"((_slot := {ast.unparse(node)}), (yield {SHARED!r}), _slot)[2]"))
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        values: list[ast.expr] = []
        for value in node.values:
            inner = value.operand if isinstance(value, ast.UnaryOp) else value
            kind = LOCAL if isinstance(inner, ast.BoolOp) else self.kind(value)
            changed = self.visit(value)
            values.append(_before(kind, changed) if kind is not LOCAL and self.seen else changed)
            self.seen = self.seen or kind is not LOCAL
        node.values = values
        return node

    def point(self, node: ast.AST) -> str:
        """Say what the first step of a statement or condition is."""
        self.seen = False
        first = node
        while isinstance(first, ast.BoolOp | ast.UnaryOp):
            if isinstance(first, ast.UnaryOp):
                first = first.operand
            else:
                first = next(
                    (value for value in first.values if self.kind(value) is not LOCAL), first.values[0]
                )
        return self.kind(first)

    def block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        return [piece for statement in body for piece in self.statement(statement)]

    def statement(self, node: ast.stmt) -> list[ast.stmt]:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return []
        if isinstance(node, ast.Try):
            node.body = self.block(node.body)
            for handler in node.handlers:
                handler.type = handler.type and self.visit(handler.type)
                handler.body = self.block(handler.body)
            node.orelse = self.block(node.orelse)
            node.finalbody = self.block(node.finalbody)
            return [node]
        if isinstance(node, ast.While):
            kind = self.point(node.test)
            test = self.visit(node.test)
            node.test = test if kind is LOCAL and not self.fine else _before(kind, test)
            node.body, node.orelse = self.block(node.body), self.block(node.orelse)
            return [node]
        if isinstance(node, ast.If):
            kind = self.point(node.test)
            node.test = self.visit(node.test)
            node.body, node.orelse = self.block(node.body), self.block(node.orelse)
        elif isinstance(node, ast.For):
            kind = self.point(node.iter)
            node.iter = self.visit(node.iter)
            node.body = self.block(node.body)
        else:
            assert isinstance(node, SIMPLE), f"the simulation does not know {ast.unparse(node)}"
            kind = self.point(node)
            node = self.generic_visit(node)  # type: ignore[assignment]
        if kind is LOCAL and not self.fine:
            return [node]
        return [_at(node, _statement(f"yield {kind!r}")), node]

    def kind(self, node: ast.AST) -> str:
        """Say what evaluating ``node`` itself, and not what it calls as a generator, touches."""
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Attribute)
            and node.value.attr in ("_state", "_queue")
        ):
            return LOCAL  # an alias
        text = ast.unparse(node)
        if re.fullmatch(r"(waiter|self) not in (lock\._)?queue", text):
            return OWN
        found = {self._touch(inner) for inner in ast.walk(node)} - {LOCAL}
        if STATE in found and not re.search(r"state\.get\(OWNED\)|OWNED in", text):
            return SHARED
        return SHARED if len(found) > 1 else found.pop() if found else LOCAL

    def _touch(self, node: ast.AST) -> str:
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
            if name == "begin_again":
                return OWN
            if name in ("unpark", "unqueue") or (self.clock and name in CLOCK):
                return SHARED
        elif isinstance(node, ast.Attribute):
            if node.attr == "slot" and getattr(node.value, "id", None) in OWN_WAITER:
                return OWN
            if node.attr == "_state":
                return STATE
            if node.attr not in PRIVATE or node.attr == "_queue":
                return SHARED
        elif isinstance(node, ast.Name) and node.id in SHARED_OBJECTS:
            return STATE if node.id == "state" else SHARED
        return LOCAL


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _statement(text: str) -> ast.stmt:
    return ast.parse(text).body[0]


def _before(kind: str, node: ast.expr) -> ast.expr:
    template: Any = _at(node, _expression(f"((yield {kind!r}), None)[1]"))
    template.value.elts[1] = node
    return ast.Subscript(template.value, template.slice, template.ctx)


def _at(place: ast.AST, node: Any) -> Any:
    """Give ``node``, which is ours, the line of ``place``, which it goes with."""
    for inner in ast.walk(node):
        ast.copy_location(inner, place)
    return node
