"""An acyclic graph that is kept in topological order while edges come in: Pearce and Kelly's algorithm.

Source: Pearce and Kelly, "A dynamic topological sort algorithm for directed acyclic graphs" (2006), in the
form of absl's ``GraphCycles``: an edge that would close a cycle is refused, the graph stays as it was, and
the path that is in its way is the answer.

Guarantees:
  * Every edge goes from a lower to a higher rank, after each call.
  * A refused edge has changed nothing, ranks included.
  * A node that was removed leaves nothing behind.

Assumes: one caller at a time (`lockwatch._core.lockorder` lets in one). Nodes are hashable values of our own,
mostly numbers: no user's ``__hash__`` or ``__eq__`` runs here.

Cost: an edge that is there already, or that agrees with the order, costs two look-ups; one that does not
costs the nodes between its ends in the order, of which mostly there are few.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator


class OrderGraph:
    """A directed graph without cycles, and a topological order of it.

    Attributes:
        edges: How many edges there are.
    """

    __slots__ = ("_after", "_before", "_next", "_rank", "edges")

    def __init__(self) -> None:
        self._rank: dict[Hashable, int] = {}
        self._after: dict[Hashable, dict[Hashable, None]] = {}
        self._before: dict[Hashable, dict[Hashable, None]] = {}
        self._next = 0
        self.edges = 0

    def __len__(self) -> int:
        return len(self._rank)

    def __contains__(self, node: Hashable) -> bool:
        return node in self._rank

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._rank)

    def add(self, node: Hashable) -> None:
        """Add a node without edges, behind all others, if it is not there yet."""
        if node not in self._rank:
            self._rank[node] = self._next
            self._next += 1
            self._after[node] = {}
            self._before[node] = {}

    def has(self, first: Hashable, second: Hashable) -> bool:
        """Return whether the edge is there."""
        return second in self._after.get(first, ())

    def after(self, node: Hashable) -> tuple[Hashable, ...]:
        """Return the nodes to which edges lead from ``node``."""
        return tuple(self._after.get(node, ()))

    def before(self, node: Hashable) -> tuple[Hashable, ...]:
        """Return the nodes from which edges lead to ``node``."""
        return tuple(self._before.get(node, ()))

    def insert(self, first: Hashable, second: Hashable) -> list[Hashable] | None:
        """Add an edge, and its nodes where they are missing, unless it would close a cycle.

        Returns:
            None if the edge is there now; else the path from ``second`` to ``first`` that forbids it, both
            ends included, and nothing has changed but that the nodes are known.
        """
        self.add(first)
        self.add(second)
        if first == second:
            return [first]
        if second in self._after[first]:
            return None
        low, high = self._rank[second], self._rank[first]
        if high > low:
            path, ahead = self._forward(second, first, high)
            if path is not None:
                return path
            self._reorder(self._backward(first, low), ahead)
        self._after[first][second] = None
        self._before[second][first] = None
        self.edges += 1
        return None

    def _forward(
        self, start: Hashable, goal: Hashable, limit: int
    ) -> tuple[list[Hashable] | None, list[Hashable]]:
        """Search along the edges among ranks up to ``limit``.

        Returns the path to ``goal``, if there is one, and the nodes met.
        """
        came: dict[Hashable, Hashable] = {start: start}
        stack = [start]
        while stack:
            node = stack.pop()
            for after in self._after[node]:
                if after == goal:
                    path = [goal, node]
                    while node != start:
                        node = came[node]
                        path.append(node)
                    return path[::-1], []
                if after not in came and self._rank[after] < limit:
                    came[after] = node
                    stack.append(after)
        return None, list(came)

    def _backward(self, start: Hashable, limit: int) -> list[Hashable]:
        """Return the nodes that lead to ``start``, of those with ranks above ``limit``."""
        seen = {start: None}
        stack = [start]
        while stack:
            for before in self._before[stack.pop()]:
                if before not in seen and self._rank[before] > limit:
                    seen[before] = None
                    stack.append(before)
        return list(seen)

    def _reorder(self, behind: list[Hashable], ahead: list[Hashable]) -> None:
        """Share the ranks of both sets out anew: first to those that come before, each set in its old order."""
        nodes = sorted(behind, key=self._rank.__getitem__) + sorted(ahead, key=self._rank.__getitem__)
        pool = sorted(self._rank[node] for node in nodes)
        for node, rank in zip(nodes, pool, strict=True):
            self._rank[node] = rank

    def remove_edge(self, first: Hashable, second: Hashable) -> None:
        """Take an edge out, if it is there; the order stays valid."""
        if self.has(first, second):
            del self._after[first][second]
            del self._before[second][first]
            self.edges -= 1

    def remove(self, node: Hashable) -> None:
        """Take a node out, with its edges; the order of the others stays valid."""
        if node not in self._rank:
            return
        for after in self._after.pop(node):
            del self._before[after][node]
            self.edges -= 1
        for before in self._before.pop(node):
            del self._after[before][node]
            self.edges -= 1
        del self._rank[node]

    def _check(self) -> None:
        """Assert the invariants; for tests."""
        assert self.edges == sum(map(len, self._after.values())) == sum(map(len, self._before.values()))
        assert len(set(self._rank.values())) == len(self._rank), "two nodes have one rank"
        for node, others in self._after.items():
            for other in others:
                assert self._rank[node] < self._rank[other], f"{node} -> {other} goes against the order"
                assert node in self._before[other]
