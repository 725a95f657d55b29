"""What each step of a pruning found, printed between the steps for whoever looks for an error.

`AUTOPRUNE_TRACE=1` prints it on stderr, `Options(trace=...)` where one wants it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoprune.analysis.cost import CostModel
from autoprune.analysis.groups import Groups
from autoprune.analysis.resizing import cut_graph, resized_calls
from autoprune.analysis.typing import TypedGraph
from autoprune.ir.axes import Axis, Leaf, leaves
from autoprune.ir.positions import Kept, PerOuter
from autoprune.report.quantities import quantity, share

Trace: TypeAlias = Callable[[str], object] | TextIO | bool | None
"""Where it is printed: a function that takes a text, a file, True for stderr, False for nowhere;
None for stderr if the environment says `AUTOPRUNE_TRACE=1`."""


def show(trace: Trace, step: str, describe: Callable[[], object]) -> None:
    """Print what a step found; it is described only if somebody wants to know."""
    if trace is None:
        trace = os.environ.get("AUTOPRUNE_TRACE", "0") not in ("", "0")
    if trace is False:
        return
    text = f"# {step}\n\n{describe()}\n\n"
    if callable(trace):
        trace(text)
    else:
        (sys.stderr if trace is True else trace).write(text)


def types_text(typed: TypedGraph) -> str:
    """The graph with its axis types; below each call, what it makes one and what it pins."""
    return typed.graph.text(typed.types, _union_notes(typed))


def _union_notes(typed: TypedGraph) -> dict[str, list[str]]:
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


def costs_text(found: Groups, costs: CostModel) -> str:
    """The costs, and the shares that would go if one unit of a group stayed."""
    full = costs.at({})
    lines = [f"{quantity(full.params)} parameters, {quantity(full.flops)} FLOPs"]
    for group in found:
        params, flops = costs.saved(group.leaf.uid, 1)
        parts = share(params / max(1, full.params)), share(flops / max(1, full.flops))
        lines.append(f"{group.leaf} {group.name}: {parts[0]} of the parameters, {parts[1]} FLOPs")
    return "\n".join(lines)


def scores_text(names: Mapping[int, str], scores: Mapping[int, NDArray[Any]]) -> str:
    """By leaf, the scores of its units."""
    with np.printoptions(precision=4, threshold=64, edgeitems=8, linewidth=96):
        return "\n".join(f"{names[uid]}: {array}" for uid, array in scores.items())


def kept_text(names: Mapping[int, str], kept: Kept) -> str:
    """By leaf, the units that stay."""
    with np.printoptions(threshold=64, edgeitems=8, linewidth=96):
        return "\n".join(
            f"{names[uid]}: {len(units)} units, "
            f"{units.units if isinstance(units, PerOuter) else units}"
            for uid, units in kept.items()
        )


def cut_text(typed: TypedGraph, kept: Kept) -> str:
    """The graph of the cut network; below calls, what is rescaled so that cutting is zeroing."""
    notes: dict[str, list[str]] = {}
    for name, call in resized_calls(typed, kept).items():
        if call.scale != 1.0:
            notes.setdefault(name, []).append(f"its output times {call.scale:g}")
        if call.share != 1.0:
            notes.setdefault(name, []).append(f"statistics over a share of {call.share:g}")
    return cut_graph(typed, kept).text(notes=notes)
