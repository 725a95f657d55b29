"""From an analysed graph to the rows of a report: what each group costs, what pins each axis."""

from __future__ import annotations

from collections.abc import Mapping

from autoprune.analysis.cost import CostModel
from autoprune.analysis.groups import Groups, leaf_names
from autoprune.analysis.resizing import sizes_of
from autoprune.analysis.typing import TypedGraph
from autoprune.ir.axes import Axis, Leaf, leaves
from autoprune.ir.graph import Node
from autoprune.ir.positions import Kept, PerOuter
from autoprune.ir.reason import Reason
from autoprune.report.data import GroupRow, PinnedRow, UnknownOperator


def group_rows(
    typed: TypedGraph, found: Groups, costs: CostModel, kept: Kept, reasons: Mapping[int, Reason]
) -> tuple[GroupRow, ...]:
    """A row for each group.

    Args:
        typed: the graph.
        found: its groups.
        costs: its costs.
        kept: kept units by leaf.
        reasons: by leaf, why a group was left alone.
    """
    full, sizes, names = costs.at({}), sizes_of(kept), leaf_names(typed)
    outers = {uid: names[c.outer] for uid, c in kept.items() if isinstance(c, PerOuter)}
    rows = []
    for group in found.groups:
        uid = group.leaf.uid
        reason = reasons.get(uid, group.reason)
        params, flops = costs.saved(uid, 1)
        unit_params, unit_flops = costs.saved(uid, group.units - 1)
        rows.append(
            GroupRow(
                name=group.name,
                units=group.units,
                kept=sizes.get(uid, group.units),
                guarantee=str(group.guarantee),
                where=tuple(map(str, group.occurrences)),
                reason=reason.text,
                source=reason.source,
                params=params / max(1, full.params),
                flops=flops / max(1, full.flops),
                unit_params=unit_params,
                unit_flops=unit_flops,
                outer=outers.get(uid, ""),
            )
        )
    return tuple(rows)


def pinned_rows(found: Groups) -> tuple[PinnedRow, ...]:
    """A row for each parameter axis outside the groups."""
    return tuple(
        PinnedRow(
            axis.name,
            axis.size,
            tuple(map(str, axis.where)),
            axis.reason.text,
            axis.reason.node.name if axis.reason.node else "",
            axis.reason.source,
        )
        for axis in found.pinned
    )


def unknown_operators(typed: TypedGraph) -> tuple[UnknownOperator, ...]:
    """Operators without a rule, by name."""
    calls: dict[str, list[Node]] = {}
    for node in typed.unknown:
        calls.setdefault(node.op, []).append(node)
    return tuple(
        UnknownOperator(op, len(nodes), nodes[0].source) for op, nodes in sorted(calls.items())
    )


def union_notes(typed: TypedGraph) -> dict[str, list[str]]:
    """By call, which axes are one and which keep their size because of it; by `""`, the rest.

    An axis is named by the first value that it was made for: `conv1.weight:0`.
    """
    names: dict[int, str] = {}
    for value, shape in typed.made.items():
        for dim, axis in enumerate(shape):
            if isinstance(axis, Leaf):
                names.setdefault(axis.uid, f"{value}:{dim}")
    for axis in {axis for shape in typed.types.values() for axis in shape}:
        for leaf in leaves(axis):
            names.setdefault(leaf.uid, str(leaf))
    notes: dict[str, list[str]] = {}

    def spell(axis: Axis) -> str:
        known = names.get(axis.uid) if isinstance(axis, Leaf) else None
        return known or str(typed.solver.resolve(axis))

    for leaf, axis, node in typed.solver.unions:
        one, other = spell(leaf), spell(axis)
        if one != other:  # parts without a name of their own
            notes.setdefault(node.name if node else "", []).append(f"{one} is {other}")
    pinned: dict[tuple[str, str], list[str]] = {}
    for uid, reason in typed.pins.items():
        if uid in names:
            key = (reason.node.name if reason.node else "", reason.text)
            pinned.setdefault(key, []).append(names[uid])
    for (node_name, text), axes in pinned.items():
        notes.setdefault(node_name, []).append(f"{', '.join(axes)} pinned: {text}")
    return notes
