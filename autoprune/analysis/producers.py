"""Which parameters make the units of an axis, and which merely read them."""

from __future__ import annotations

from autoprune.analysis.typing import TypedGraph


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
