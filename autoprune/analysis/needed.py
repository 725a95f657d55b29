"""Which calls the outputs that matter depend on."""

from __future__ import annotations

from autoprune.ir.graph import Graph
from autoprune.ops.rule import writes_in_place


def needed(graph: Graph) -> frozenset[str]:
    """Names of the nodes that outputs which matter depend on.

    All, where all outputs matter, or where memory is written to, as that may reach any.
    """
    if not graph.loose or any(writes_in_place(node.op) for node in graph.nodes):
        return frozenset(node.name for node in graph.nodes)
    values = {v.name for v in graph.required}
    found: set[str] = set()
    for node in reversed(graph.nodes):
        if not values.isdisjoint(v.name for v in node.outputs):
            found.add(node.name)
            values.update(v.name for v in node.inputs)
    return frozenset(found)
