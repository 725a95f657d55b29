"""From an analysed graph to the rows of a report: what each group costs, what pins each axis."""

from __future__ import annotations

import re
from collections.abc import Mapping

from autoprune.analysis.cost import CostModel
from autoprune.analysis.groups import Groups, leaf_names
from autoprune.analysis.resizing import sizes_of
from autoprune.analysis.typing import TypedGraph
from autoprune.ir.graph import Graph, Node
from autoprune.ir.positions import Kept, PerOuter
from autoprune.report.data import GroupRow, PinnedRow, UnknownOperator


class Reasons:
    """Finds the operator call, and so the line of code, that a reason ends with."""

    def __init__(self, graph: Graph) -> None:
        self._nodes = {node.label: node for node in graph.nodes}

    def split(self, reason: str) -> tuple[str, Node | None]:
        """A reason without the call it mentions, and that call."""
        for place in re.finditer(r" \(| at ", reason):
            label = reason[place.end() :]
            node = self._nodes.get(label.removesuffix(")") if "(" in place[0] else label)
            if node is not None:
                return reason[: place.start()], node
        return reason, None


def group_rows(
    typed: TypedGraph, found: Groups, costs: CostModel, kept: Kept, reasons: Mapping[int, str]
) -> tuple[GroupRow, ...]:
    """A row for each group.

    Args:
        typed: the graph.
        found: its groups.
        costs: its costs.
        kept: kept units by leaf.
        reasons: by leaf, why a group was left alone.
    """
    full, sizes, places = costs.at({}), sizes_of(kept), Reasons(typed.graph)
    names = leaf_names(typed)
    outers = {uid: names[c.outer] for uid, c in kept.items() if isinstance(c, PerOuter)}
    rows = []
    for group in found.groups:
        uid = group.leaf.uid
        reason, node = places.split(reasons.get(uid, group.reason))
        params, flops = costs.saved(uid, 1)
        unit_params, unit_flops = costs.saved(uid, group.units - 1)
        rows.append(
            GroupRow(
                name=group.name,
                units=group.units,
                kept=sizes.get(uid, group.units),
                guarantee=str(group.guarantee),
                where=tuple(f"{o.parameter}:{o.dim}" for o in group.occurrences),
                reason=reason,
                source=node.source if node else "",
                params=params / max(1, full.params),
                flops=flops / max(1, full.flops),
                unit_params=unit_params,
                unit_flops=unit_flops,
                outer=outers.get(uid, ""),
            )
        )
    return tuple(rows)


def pinned_rows(typed: TypedGraph, found: Groups) -> tuple[PinnedRow, ...]:
    """A row for each parameter axis outside the groups."""
    places = Reasons(typed.graph)
    rows = []
    for axis in found.pinned:
        reason, node = places.split(axis.reason)
        where = (node.name, node.source) if node else ("", "")
        rows.append(PinnedRow(axis.name, axis.size, axis.where, reason, *where))
    return tuple(rows)


def unknown_operators(typed: TypedGraph) -> tuple[UnknownOperator, ...]:
    """Operators without a rule, by name."""
    calls: dict[str, list[Node]] = {}
    for node in typed.unknown:
        calls.setdefault(node.op, []).append(node)
    return tuple(
        UnknownOperator(op, len(nodes), nodes[0].source) for op, nodes in sorted(calls.items())
    )
