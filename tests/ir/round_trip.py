"""What is printed of a graph suffices to analyse it again."""

from autoprune.analysis.cost import CostModel
from autoprune.analysis.groups import find_groups
from autoprune.analysis.typing import infer
from autoprune.ir.graph import Graph
from autoprune.ir.text import parse_graph, parse_groups, parse_types


def check_round_trip(graph: Graph) -> None:
    """The graph, its axis types, groups and costs, each printed and read."""
    again = parse_graph(str(graph))
    assert again == graph
    typed, read = infer(graph), infer(again)
    assert parse_graph(str(typed)) == graph
    assert parse_types(str(typed)) == typed.types == read.types
    assert typed.pins == read.pins
    found = find_groups(typed)
    assert parse_groups(str(found), again) == (found.groups, found.pinned)
    assert find_groups(read) == found
    uids = frozenset(g.leaf.uid for g in found)
    halved = {g.leaf.uid: g.units // 2 for g in found}
    for sizes in ({}, halved):
        assert CostModel(typed, uids).at(sizes) == CostModel(read, uids).at(sizes)
