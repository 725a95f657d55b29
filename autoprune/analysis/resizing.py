"""What a choice of kept units does to sizes and to the arguments of calls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from autoprune.analysis.dependence import needed
from autoprune.analysis.typing import TypedGraph
from autoprune.ir import axes as ax
from autoprune.ir.graph import Argument, Graph, Node, Value
from autoprune.ir.positions import Kept
from autoprune.ops.views import Resized, Sizing


def sizes_of(kept: Kept) -> dict[int, int]:
    """Leaf sizes after the cut."""
    return {uid: len(units) for uid, units in kept.items()}


def resized_calls(typed: TypedGraph, kept: Kept) -> dict[str, Resized]:
    """What changes in each call after the cut, by node name; unchanged calls are left out.

    Statistics are rescaled only where an output that matters depends on them.
    """
    sizes, matter = sizes_of(kept), needed(typed.graph)
    calls: dict[str, Resized] = {}
    for node in typed.graph.nodes:
        if all(typed.uids[v.name].isdisjoint(kept) for v in (*node.inputs, *node.outputs)):
            continue
        resized = typed.operator_of(node).resize(Sizing(node, typed.types, sizes))
        arguments = {
            name: value
            for name, value in resized.arguments.items()
            if resized.op is not None or node.arguments.get(name) != value
        }
        call = replace(resized, arguments=arguments)
        if node.name not in matter:
            call = replace(call, scale=1.0, share=1.0)
        if call.changes:
            calls[node.name] = call
    return calls


def cut_graph(typed: TypedGraph, kept: Kept) -> Graph:
    """The graph of the cut network: new sizes, and the new arguments of calls that state some."""
    graph, sizes, calls = typed.graph, sizes_of(kept), resized_calls(typed, kept)
    before = [*graph.inputs, *(p.value for p in graph.parameters)]
    before += [v for node in graph.nodes for v in node.outputs]
    after = {
        v.name: replace(v, shape=tuple(ax.size(axis, sizes) for axis in typed.types[v.name]))
        for v in before
    }

    def cut(argument: Argument) -> Argument:
        if isinstance(argument, tuple):
            return tuple(map(cut, argument))
        return after[argument.name] if isinstance(argument, Value) else argument

    def cut_all(values: Iterable[Value]) -> tuple[Value, ...]:
        return tuple(after[v.name] for v in values)

    def cut_node(node: Node) -> Node:
        call = calls.get(node.name, Resized())
        old = dict(list(node.arguments.items())[: 1 if call.op else None])
        return replace(
            node,
            op=call.op or node.op,
            arguments={name: cut(a) for name, a in {**old, **call.arguments}.items()},
            outputs=cut_all(node.outputs),
        )

    return Graph(
        cut_all(graph.inputs),
        tuple(replace(p, value=after[p.value.name]) for p in graph.parameters),
        tuple(map(cut_node, graph.nodes)),
        *map(cut_all, (graph.outputs, graph.mutated, graph.loose)),
    )


def shrunk_sizes(typed: TypedGraph, kept: Kept) -> dict[int, set[int]]:
    """By size before the cut, what axes of that size shrink to."""
    sizes = sizes_of(kept)
    found: dict[int, set[int]] = {}
    for axis in {axis for shape in typed.types.values() for axis in shape}:
        new = ax.size(axis, sizes)
        if new != axis.size:
            found.setdefault(axis.size, set()).add(new)
    return found
