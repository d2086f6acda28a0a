"""The order graph alone: refused edges change nothing, and it agrees with networkx on random edges."""

from __future__ import annotations

import random

import networkx as nx
import pytest

from lockwatch._core.ordergraph import OrderGraph


def test_refused_edge_gives_the_path_and_changes_nothing() -> None:
    """An edge that would close a cycle is answered by the path that forbids it."""
    graph = OrderGraph()
    for pair in ((1, 2), (2, 3), (3, 4)):
        assert graph.insert(*pair) is None
    before = (graph.edges, dict(graph._rank))
    assert graph.insert(4, 1) == [1, 2, 3, 4]
    assert graph.insert(3, 2) == [2, 3]
    assert (graph.edges, graph._rank) == before
    graph._check()


def test_edge_against_the_ranks_is_taken_where_there_is_no_path() -> None:
    """Ranks are only an order found so far: they give way to a new edge."""
    graph = OrderGraph()
    graph.insert(1, 2)
    graph.insert(3, 4)
    assert graph.insert(4, 1) is None
    assert graph.insert(2, 3) == [3, 4, 1, 2]
    graph._check()


def test_removed_node_leaves_nothing() -> None:
    """A node that goes takes its edges along, and what it forbade is allowed."""
    graph = OrderGraph()
    graph.insert(1, 2)
    graph.insert(2, 3)
    graph.remove(2)
    assert (len(graph), graph.edges) == (2, 0)
    assert graph.insert(3, 1) is None
    graph._check()


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_networkx(seed: int) -> None:
    """Random edges and removals: an edge is refused exactly if a path leads back, and that path is one."""
    chance = random.Random(seed)
    graph, oracle = OrderGraph(), nx.DiGraph()
    size = chance.choice([4, 8, 30])
    for _ in range(300):
        first, second = chance.randrange(size), chance.randrange(size)
        if chance.random() < 0.05:
            graph.remove(first)
            if first in oracle:
                oracle.remove_node(first)
        elif chance.random() < 0.05:
            graph.remove_edge(first, second)
            if oracle.has_edge(first, second):
                oracle.remove_edge(first, second)
        else:
            oracle.add_nodes_from([first, second])
            forbidden = nx.has_path(oracle, second, first)
            path = graph.insert(first, second)
            assert (path is not None) == forbidden
            if path is None:
                oracle.add_edge(first, second)
            else:
                assert (path[0], path[-1]) == (second, first)
                assert nx.is_path(oracle, path)
        graph._check()
        assert graph.edges == oracle.number_of_edges()
