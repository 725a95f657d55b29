"""The plan of a choice: what is kept, in terms of names instead of leaves."""

from __future__ import annotations

from collections.abc import Mapping

from autoprune.analysis.groups import leaf_names
from autoprune.analysis.typing import TypedGraph
from autoprune.errors import PlanError
from autoprune.ir import axes as ax
from autoprune.ir.axes import Axis
from autoprune.ir.plan import Plan
from autoprune.ir.plan_parts import Factor, KeptUnits, expression
from autoprune.ir.positions import Indices, Kept, PerOuter

Attributes = Mapping[str, Mapping[str, tuple[Axis, ...]]]
"""By module path and attribute name: the axes whose sizes the attribute states."""

Constants = Mapping[str, Mapping[str, tuple[float | None, float]]]
"""By module path and attribute name: the old and the new value of a number."""


def make_plan(
    typed: TypedGraph,
    names: Mapping[int, str],
    kept: Kept,
    attributes: Attributes | None = None,
    factors: Mapping[str, Factor] | None = None,
    constants: Constants | None = None,
) -> Plan:
    """The plan that says in JSON what `kept` and `attributes` say in axis types.

    Groups are named by leaf. Without `attributes`, what to set in a model of the user's own class,
    the network has to be traced again. Parameters take up `factors`; `constants` are numbers that
    modules keep.
    """
    called = leaf_names(typed)
    chosen = {uid: names[uid] for uid in kept}
    chosen |= {c.outer: called[c.outer] for c in kept.values() if isinstance(c, PerOuter)}
    units = {leaf.uid: leaf.size for s in typed.types.values() for a in s for leaf in ax.leaves(a)}
    return Plan(
        graph=typed.graph.digest,
        groups={names[uid]: _choice(units[uid], stay, called) for uid, stay in kept.items()},
        parameters={
            p.value.name: tuple(expression(a, chosen) for a in typed.types[p.value.name])
            for p in typed.graph.parameters
            if p.value.name in (factors or {})
            or any(not a.uids.isdisjoint(kept) for a in typed.types[p.value.name])
        },
        attributes={
            path: {
                name: tuple(expression(a, chosen) for a in axes) for name, axes in entries.items()
            }
            for path, entries in (attributes or {}).items()
        },
        factors=factors or {},
        constants=constants or {},
        rebuildable=attributes is not None,
    )


def check_complete(plan: Plan, typed: TypedGraph, kept: Kept) -> None:
    """Check that a plan step lists the parameters that it cuts, and no others; PlanError if not."""
    names = {p.value.name for p in typed.graph.parameters}
    cut = {name for name in names if any(not a.uids.isdisjoint(kept) for a in typed.types[name])}
    for name in sorted(cut ^ plan.parameters.keys()):
        if name in cut:
            raise PlanError("the plan does not list a parameter that it cuts", where=name)
        if name not in names:
            raise PlanError("the plan cuts a parameter that the model does not have", where=name)


def _choice(units: int, stay: Indices | PerOuter, names: Mapping[int, str]) -> KeptUnits:
    if isinstance(stay, PerOuter):
        rows = tuple(tuple(int(u) for u in row) for row in stay.units)
        return KeptUnits(units, rows, names[stay.outer])
    return KeptUnits(units, tuple(int(u) for u in stay))
