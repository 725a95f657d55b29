"""The report on a choice of units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autoprune.analysis.groups import Groups, leaf_names
from autoprune.analysis.resizing import sizes_of
from autoprune.analysis.typing import TypedGraph, unused_parameters
from autoprune.ir.graph import Node, spelled
from autoprune.ir.positions import Kept, PerOuter
from autoprune.ir.reason import Reason
from autoprune.passes.pruning.allocation import COUNTED
from autoprune.passes.pruning.analysed import Analysis
from autoprune.passes.pruning.request import Request
from autoprune.report import GroupRow, PinnedRow, Report, Subject, UnknownOperator

LITTLE = 0.5
"""If exact groups leave more than this share of the parameters, the report says why."""


def shortfall(request: Request, report: Report) -> str:
    """How far a result is from what was asked for, if it is further than the tolerance."""
    name, asked = request.budget
    if name == "dead" and not report.pruned:
        return (
            "Nothing is dead: every unit that may go has weights or a bias that are not zero where "
            "it is made, and weights that are not zero where it is read. (Without weights, a unit "
            "still puts out its bias, or what a norm adds.)"
        )
    if name not in COUNTED:
        return ""
    reached = getattr(report.after, name) / getattr(report.before, name)
    if abs(reached - asked) <= request.tolerance:
        return ""
    return (
        f"{name}={asked:g} cannot be met within {request.tolerance:.0%}, as groups shrink in steps "
        f"too large for this; the network has {reached:.4f}, the nearest reachable."
    )


def make_report(
    analysis: Analysis, kept: Kept, reasons: Mapping[int, Reason], **fields: Any
) -> Report:
    """The report on a choice; an empty choice gives the report on what could be chosen."""
    typed, found, costs = analysis.typed, analysis.found, analysis.costs
    least = costs.at({g.leaf.uid: 1 for g in found.groups if g.guarantee.exact})
    return Report(
        before=costs.at({}),
        after=costs.at(sizes_of(kept)),
        least=least,
        groups=tuple(_group_rows(analysis, kept, reasons)),
        pinned=_pinned_rows(found),
        unknown_operators=_unknown_operators(typed),
        analysis_seconds=analysis.seconds,
        notes=(*analysis.probing.notes(), *_notes(analysis, least.params)),
        inputs=tuple(spelled(v.name, v.dtype, v.shape) for v in analysis.graph.inputs),
        subject=Subject(typed, {g.name: g.leaf.uid for g in found.groups}, kept),
        **fields,
    )


def _group_rows(
    analysis: Analysis, kept: Kept, reasons: Mapping[int, Reason]
) -> Iterator[GroupRow]:
    costs, sizes, names = analysis.costs, sizes_of(kept), leaf_names(analysis.typed)
    full = costs.at({})
    for group in analysis.found.groups:
        uid, units = group.leaf.uid, kept.get(group.leaf.uid)
        reason = reasons.get(uid, group.reason)
        params, flops = costs.saved(uid, 1)
        unit_params, unit_flops = costs.saved(uid, group.units - 1)
        yield GroupRow(
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
            outer=names[units.outer] if isinstance(units, PerOuter) else "",
        )


def _pinned_rows(found: Groups) -> tuple[PinnedRow, ...]:
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


def _unknown_operators(typed: TypedGraph) -> tuple[UnknownOperator, ...]:
    calls: dict[str, list[Node]] = {}
    for node in typed.unknown:
        calls.setdefault(node.op, []).append(node)
    return tuple(
        UnknownOperator(op, len(nodes), nodes[0].source) for op, nodes in sorted(calls.items())
    )


def _notes(analysis: Analysis, least: int) -> list[str]:
    """Why little or nothing can be pruned, if so."""
    found, full = analysis.found, analysis.costs.params({})
    exact = [g for g in found.groups if g.guarantee.exact]
    notes = []
    unused = unused_parameters(analysis.graph)
    if unused:
        notes.append(
            f"{len(unused)} parameters are not used in evaluation mode and stay as they are, "
            f"such as {unused[0].name}; code that uses them in training may not fit any more."
        )
    if not full:
        return [*notes, "The model has no parameters."]
    if least < LITTLE * full:
        return notes
    largest = sorted(found.pinned, key=lambda p: -p.size)[:3]
    because = "; ".join(f"{p.where[0]} ({p.size}): {p.reason}" for p in largest)
    notes.append(
        f"Exact groups cover only {1 - least / full:.0%} of the parameters. "
        f"The largest pinned axes are {because}."
        if exact
        else f"Nothing can be pruned exactly. The largest pinned axes are {because}."
    )
    if len(exact) < len(found.groups):
        notes.append(
            f"{len(found.groups) - len(exact)} more groups change the function when they are "
            "pruned; allow them with Options(approximate=True)."
        )
    return notes
