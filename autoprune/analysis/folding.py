"""Where units leave constants, and which parameters then keep their values in zeroed networks."""

from __future__ import annotations

from collections.abc import Mapping

from autoprune.analysis.typing import TypedGraph
from autoprune.ir.graph import Node, Value
from autoprune.ir.group import Group, Guarantee
from autoprune.ir.positions import Kept
from autoprune.ops.views import Call

Spared = Mapping[str, frozenset[int]]
"""By parameter, the leaves whose removed positions are not set to zero in it."""


def folding_calls(
    typed: TypedGraph, groups: Mapping[int, Group], kept: Kept
) -> list[tuple[Node, frozenset[int]]]:
    """The calls that read constants, with the leaves of the units that leave them."""
    found: dict[str, set[int]] = {}
    for uid in kept:
        if groups[uid].guarantee is Guarantee.FOLDED:
            for name in groups[uid].folds:
                found.setdefault(name, set()).add(uid)
    return [(n, frozenset(found[n.name])) for n in typed.graph.nodes if n.name in found]


def spared_parameters(typed: TypedGraph, groups: Mapping[int, Group], kept: Kept) -> Spared:
    """Parameters in which removed units are not set to zero to compare with.

    Weights that read the constants of folded units, and directions of weights of norm zero.
    """
    spared: dict[str, frozenset[int]] = {}
    for uid in kept:
        for name in groups[uid].spared:
            spared[name] = spared.get(name, frozenset()) | {uid}
    for node, uids in folding_calls(typed, groups, kept):
        weight = operand(node, "weight").name
        spared[weight] = spared.get(weight, frozenset()) | uids
    return spared


def operand(node: Node, name: str) -> Value:
    """The tensor argument of a call; GraphError if there is none."""
    return Call(node, {}).tensor(name)
