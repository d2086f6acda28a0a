"""Planted bugs: changes of the mutex's source that the search has to find.

A change replaces a piece of the functions of one name, as ``ast.unparse`` writes them. If the piece is not there any more,
`simulation` refuses: a planted bug cannot silently become none.
"""

from __future__ import annotations

import ast
import textwrap
from dataclasses import dataclass


@dataclass(frozen=True)
class Replace:
    """One change.

    Attributes:
        function: The name of the function or method; all that have this name are changed.
        old: What is replaced. If it is of several lines and begins with a line break, they are whole lines, indented
            as in the function or not.
        new: What comes in its place.
    """

    function: str
    old: str
    new: str

    def __call__(self, tree: ast.Module) -> None:
        """Make the change in a module's tree."""
        for parent in ast.walk(tree):
            if isinstance(parent, ast.Module | ast.ClassDef):
                for place, node in enumerate(parent.body):
                    if isinstance(node, ast.FunctionDef) and node.name == self.function:
                        parent.body[place] = ast.parse(self._changed(ast.unparse(node))).body[0]

    def _changed(self, source: str) -> str:
        if not self.old.startswith("\n"):
            return source.replace(self.old, self.new)
        old, new = (textwrap.dedent(text).strip("\n") for text in (self.old, self.new))
        for depth in range(1, 5):
            indent = "    " * depth
            source = source.replace(textwrap.indent(old, indent), textwrap.indent(new, indent))
        return source
