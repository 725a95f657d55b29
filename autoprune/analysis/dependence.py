"""What depends on what: which calls on which outputs, and weights and units on parameters.

Layers read as their weights parameters, or what is computed from these alone:

    mask                 weight_orig * weight_mask                -> linear
    weight norm          weight_g * weight_v / norm(weight_v)     -> conv2d
    low-rank update      weight + up @ down                       -> linear

How much a unit matters is to be seen in what is multiplied with activations, not in what that is
computed from: a masked weight does nothing, however large it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from autoprune.analysis.typing import TypedGraph
from autoprune.ir.graph import Graph, Node
from autoprune.ir.group import Group, Occurrence
from autoprune.ops.rule import find, holds, writes_in_place
from autoprune.ops.views import Call


def constants(graph: Graph) -> frozenset[str]:
    """Values that depend on parameters and buffers alone, not on the graph's inputs or chance."""
    found = {p.value.name for p in graph.parameters}
    for node in graph.nodes:
        operator = find(node.op)
        drawn = operator is not None and holds(operator.draws, Call(node, {}))
        if all(v.name in found for v in node.tensors) and not drawn:
            found.update(v.name for v in node.outputs)
    return frozenset(found)


def effective_weights(graph: Graph) -> tuple[str, ...]:
    """Names of the values computed from trained parameters that meet what depends on inputs.

    A parameter that is moved on the way, and not changed, counts itself. One that meets what the
    graph makes of nothing, such as a causal mask, counts as it is there: its magnitude would
    drown in that of the mask.
    """
    fixed = constants(graph)
    trained = {p.value.name for p in graph.parameters if p.kind == "parameter"}
    kept = {p.value.name for p in graph.parameters}
    producer: dict[str, Node] = {}
    met: dict[str, None] = {}
    for node in graph.nodes:
        given = [v.name for v in node.tensors]
        if all(v.name in fixed for v in node.outputs) and kept.issuperset(given):
            made = [v.name for v in node.outputs] if given else []
            kept.update(made)
            if not trained.isdisjoint(given):
                trained.update(made)
            producer.update((v.name, node) for v in node.outputs)
        else:
            met.update((name, None) for name in given if name in trained)
    return tuple(dict.fromkeys(_unmoved(name, producer) for name in met))


def _unmoved(name: str, producer: Mapping[str, Node]) -> str:
    """What a value shares its elements with that is nearest to the parameters."""
    while name in producer:
        node = producer[name]
        operator = find(node.op)
        if operator is None or not operator.aliases or len(node.tensors) != 1:
            break
        name = node.tensors[0].name
    return name


def as_read(groups: Sequence[Group], typed: TypedGraph, values: Iterable[str]) -> tuple[Group, ...]:
    """Groups with the places where their units lie in effective weights.

    Units that lie in none of `values`, such as the rank of a low-rank update, stay with the
    parameters.
    """
    found: dict[int, list[Occurrence]] = {}
    for name in values:
        for dim, axis in enumerate(typed.types[name]):
            for uid in axis.uids:
                found.setdefault(uid, []).append(Occurrence(name, dim))
    return tuple(
        replace(group, occurrences=tuple(found.get(group.leaf.uid, group.occurrences)))
        for group in groups
    )


def producers(typed: TypedGraph) -> dict[int, frozenset[str]]:
    """By leaf, the parameters that make an activation along it.

    A call that is given a parameter makes the units of those of its axes that it puts out; over
    the others it sums. Tensors computed of parameters alone, such as masked weights, stand for
    the parameters that they are computed of.
    """
    sources = {p.value.name: frozenset((p.value.name,)) for p in typed.graph.parameters}
    made: dict[int, set[str]] = {}
    for node in typed.graph.nodes:
        names = [v.name for v in node.inputs]
        given = frozenset[str]().union(*(sources.get(name, ()) for name in names))
        if all(name in sources for name in names):
            sources.update((v.name, given) for v in node.outputs)
            continue
        put_out = frozenset[int]().union(*(typed.uids[v.name] for v in node.outputs))
        for name in names:
            if name in sources:
                for uid in put_out & typed.uids[name]:
                    made.setdefault(uid, set()).update(
                        p for p in sources[name] if uid in typed.uids[p]
                    )
    return {uid: frozenset(names) for uid, names in made.items()}


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
