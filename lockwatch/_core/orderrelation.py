"""What is known of the order of locks, at one level (locks, or lock classes): a graph, its evidence, its cycles.

The acyclic part is an `OrderGraph <lockwatch._core.ordergraph>`; edges that it refused are kept beside it,
since a cycle that cannot deadlock yet (one thread alone, a gate) may with the next context. So every cycle
has a refused edge in it, and as long as there are none nothing is searched.

Guarantees: bounded by the limits that `trim` is given; a node that goes leaves nothing behind.

Assumes: one caller at a time.

Cost: see `OrderGraph`; a search for cycles looks at `STEPS` paths at most, the shortest first.
"""

from __future__ import annotations

from collections import deque

from lockwatch._core.orderedges import MOST_IMPLIED, Edge, choose
from lockwatch._core.ordergraph import OrderGraph

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from lockwatch._core.orderedges import Context

STEPS = 2_000
"""Paths looked at in one search."""

LONGEST = 32
"""Locks in a cycle; longer ones are not looked for."""

SPLICED = 100
"""Pairs of neighbours looked at when a lock goes."""


class Cycle:
    """A cycle that can become a deadlock.

    Attributes:
        nodes: The locks or classes that are known still, in order; the first is held by the first party, which
            takes the second, or one that is gone and was taken before the second.
        counts: How often each order was seen, one for each context.
        contexts: One for each order.
    """

    __slots__ = ("contexts", "counts", "nodes")

    def __init__(self, nodes: list[Hashable], counts: list[int], contexts: list[Context]) -> None:
        self.nodes = nodes
        self.counts = counts
        self.contexts = contexts


class Relation:
    """The order of locks, or of lock classes.

    Args:
        accepts: Asked about the contexts of a cycle before it counts.
    """

    __slots__ = ("_accepts", "_refused", "_refused_before", "_used", "edges", "graph")

    def __init__(self, accepts: Callable[[Sequence[Context]], bool] | None = None) -> None:
        self.graph = OrderGraph()
        self.edges: dict[tuple[Hashable, Hashable], Edge] = {}
        self._refused: dict[Hashable, dict[Hashable, None]] = {}
        self._refused_before: dict[Hashable, dict[Hashable, None]] = {}
        self._used: dict[Hashable, None] = {}
        self._accepts = accepts

    def learn(self, first: Hashable, second: Hashable, context: Context) -> Cycle | None:
        """Learn that ``second`` was taken under ``first``.

        Returns:
            The smallest cycle through this edge that can become a deadlock, if there is one now.
        """
        for node in (first, second):
            self._used.pop(node, None)
            self._used[node] = None  # the last one used stands last
        edge = self._edge(first, second)
        if not edge.learn(context) or not self._refused:
            return None
        for path in self._paths(second, first):
            nodes = [first, *path[:-1]]
            around = [self.edges[pair] for pair in zip(nodes, [*nodes[1:], first], strict=True)]
            contexts = choose(around, context)
            if contexts is not None and (self._accepts is None or self._accepts(contexts)):
                counts = {id(seen): edge.count() for edge in around for seen in edge.contexts}
                return Cycle(nodes, [counts.get(id(one)) or one.tally.total() for one in contexts], contexts)
            dangerous = contexts or choose(around, context, timeless=True)
            if dangerous is not None:  # it may close when one of them is done again in a later segment
                for seen in (*dangerous, *(seen for edge in around for seen in edge.contexts)):
                    seen.drop()
        return None

    def _edge(self, first: Hashable, second: Hashable) -> Edge:
        edge = self.edges.get((first, second))
        if edge is None:
            edge = self.edges[first, second] = Edge()
            if self.graph.insert(first, second) is not None:
                edge.refused = True
                self._refused.setdefault(first, {})[second] = None
                self._refused_before.setdefault(second, {})[first] = None
        return edge

    def _after(self, node: Hashable) -> tuple[Hashable, ...]:
        return (*self.graph.after(node), *self._refused.get(node, ()))

    def _before(self, node: Hashable) -> tuple[Hashable, ...]:
        return (*self.graph.before(node), *self._refused_before.get(node, ()))

    def _paths(self, start: Hashable, goal: Hashable) -> Iterator[list[Hashable]]:
        """Give the paths from ``start`` to ``goal`` that meet no node twice, the shortest first."""
        useful = {goal}
        stack = [goal]
        while stack:
            for node in self._before(stack.pop()):
                if node not in useful:
                    useful.add(node)
                    stack.append(node)
        if start not in useful:
            return
        steps = STEPS
        paths: deque[list[Hashable]] = deque([[start]])
        while paths and steps > 0:
            path = paths.popleft()
            for node in self._after(path[-1]):
                steps -= 1
                if node == goal:
                    yield [*path, goal]
                elif node in useful and node not in path and len(path) < LONGEST:
                    paths.append([*path, node])

    def splice(self, node: Hashable) -> None:
        """Forget a lock that is gone, but keep the order that it implied among its neighbours.

        There is no new cycle by that: what goes around by the new edges went around by the lock.
        """
        after = self._after(node)
        tried = 0
        for before in self._before(node):
            for behind in after:
                tried += 1
                if before != behind and tried <= SPLICED:
                    ways = self.edges[before, node].through(self.edges[node, behind])
                    if ways:
                        edge = self._edge(before, behind)
                        edge.implied = (ways + edge.implied)[:MOST_IMPLIED]
        self.remove(node)

    def remove(self, node: Hashable) -> None:
        """Forget a lock or class, and every edge of it."""
        for after in self._after(node):
            self.edges.pop((node, after), None)
        for before in self._before(node):
            self.edges.pop((before, node), None)
        for after in self._refused.pop(node, ()):
            _discard(self._refused_before, after, node)
        for before in self._refused_before.pop(node, ()):
            _discard(self._refused, before, node)
        self.graph.remove(node)
        self._used.pop(node, None)

    def trim(self, nodes: int, edges: int) -> int:
        """Forget those used longest ago until the limits hold, and a tenth more; return how many went."""
        if len(self._used) <= nodes and len(self.edges) <= edges:
            return 0
        gone = 0
        while len(self._used) > nodes * 9 // 10 or len(self.edges) > edges * 9 // 10:
            oldest = next(iter(self._used), None)
            if oldest is None:
                break
            self.remove(oldest)
            gone += 1
        return gone

    def __len__(self) -> int:
        return len(self._used)


def _discard(table: dict[Hashable, dict[Hashable, None]], key: Hashable, item: Hashable) -> None:
    items = table.get(key)
    if items is not None:
        items.pop(item, None)
        if not items:
            del table[key]
