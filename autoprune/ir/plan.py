"""Plan: which units of which groups stay, as plain data that can be saved, edited and applied.

A plan names groups by the parameter they start from. It also carries, for every parameter it
touches, the axis types in terms of those groups, so that a checkpoint can be cut to size without
tracing the model again:

    {"groups": {"conv1.weight:0": {"units": 4, "kept": [0, 2]}},
     "parameters": {"conv1.weight": ["conv1.weight:0", 3, 3, 3],
                    "fc.weight": [10, {"prod": ["conv1.weight:0", 49]}]}, ...}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from autoprune.errors import PlanError
from autoprune.ir import axes as ax
from autoprune.ir.axes import Axis, Indices, Leaf, Prod, Sum
from autoprune.ir.files import write_atomically
from autoprune.ir.group import Group

FORMAT = 1

Expression = int | str | dict[str, Any]
"""An axis type in JSON: a fixed size, a group's name, `{"prod": [...]}` or `{"sum": [...]}`."""


@dataclass(frozen=True)
class Choice:
    """The units of one group that stay: `kept` out of `range(units)`, increasing."""

    units: int
    kept: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What to keep of each group of a graph.

    Attributes:
        graph: digest of the graph the plan was made for.
        groups: by group name, the units kept.
        parameters: by parameter name, the axis type of each dimension.
        attributes: by module path and attribute name, the axis type whose size the attribute
            states; this is what lets a model of the user's own class be cut without tracing.
        rebuildable: whether slicing parameters and setting attributes is all it takes. Otherwise
            the model has to be traced again, which needs example inputs.
    """

    graph: str
    groups: Mapping[str, Choice]
    parameters: Mapping[str, tuple[Expression, ...]] = field(default_factory=dict)
    attributes: Mapping[str, Mapping[str, tuple[Expression, ...]]] = field(default_factory=dict)
    rebuildable: bool = False

    def to_json(self) -> str:
        """The plan as JSON text, one group a line."""
        groups = ",\n".join(
            f"    {json.dumps(name)}: "
            + json.dumps({"units": choice.units, "kept": list(choice.kept)})
            for name, choice in self.groups.items()
        )
        parameters = ",\n".join(
            f"    {json.dumps(name)}: {json.dumps(axes)}" for name, axes in self.parameters.items()
        )
        return (
            "{\n"
            f'  "format": {FORMAT},\n'
            f'  "graph": "{self.graph}",\n'
            f'  "rebuildable": {json.dumps(self.rebuildable)},\n'
            f'  "groups": {{\n{groups}\n  }},\n'
            f'  "parameters": {{\n{parameters}\n  }},\n'
            f'  "attributes": {json.dumps(self.attributes)}\n'
            "}\n"
        )

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan back.

        Raises:
            PlanError: if the text is no plan, or a choice is out of range.
        """
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise PlanError(
                    f"plan has format {data['format']}, this version reads {FORMAT}",
                    hint="write it again with this version of autoprune",
                )
            plan = cls(
                graph=str(data["graph"]),
                groups={
                    name: Choice(_whole(c["units"]), tuple(_whole(u) for u in c["kept"]))
                    for name, c in data["groups"].items()
                },
                parameters={name: tuple(e) for name, e in data["parameters"].items()},
                attributes={
                    path: {name: tuple(e) for name, e in entries.items()}
                    for path, entries in data["attributes"].items()
                },
                rebuildable=bool(data["rebuildable"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PlanError(
                f"this is not a plan: {type(error).__name__}: {error}",
                hint="a plan is what Plan.save or Plan.to_json wrote",
            ) from error
        plan.check()
        return plan

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON."""
        write_atomically(path, self.to_json().encode())

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan that `save` wrote.

        Raises:
            PlanError: if the file cannot be read or is no plan.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PlanError(f"the plan cannot be read: {error}", where=str(path)) from error
        return cls.from_json(text)

    def check(self) -> None:
        """Check that every choice is a non-empty increasing selection of existing units.

        Raises:
            PlanError: naming the group.
        """
        for name, choice in self.groups.items():
            kept = choice.kept
            increasing = all(a < b for a, b in pairwise(kept))
            if not kept or not increasing or kept[0] < 0 or kept[-1] >= choice.units:
                raise PlanError(
                    f"kept units must be increasing numbers from 0 to {choice.units - 1}, "
                    "at least one",
                    where=f"group {name}",
                )

    def kept(self, groups: Mapping[str, Group]) -> dict[int, Indices]:
        """The choice as kept units by leaf, for the groups of a traced graph.

        Raises:
            PlanError: if a group is unknown or has another number of units.
        """
        chosen: dict[int, Indices] = {}
        for name, choice in self.groups.items():
            group = groups.get(name)
            if group is None or group.units != choice.units:
                found = "no such group" if group is None else f"{group.units} units"
                raise PlanError(
                    f"the plan expects a group of {choice.units} units, the model has {found}",
                    where=f"group {name}",
                    hint="apply the plan to the architecture it was made for",
                )
            chosen[group.leaf.uid] = np.array(choice.kept, dtype=np.intp)
        return chosen

    def axes(self, expressions: tuple[Expression, ...]) -> tuple[Axis, ...]:
        """Axis types with leaves numbered as in `choices`."""
        numbers = {name: i for i, name in enumerate(self.groups)}
        fresh = iter(range(len(numbers), 1 << 62))

        def build(e: Expression) -> Axis:
            if isinstance(e, bool) or not isinstance(e, int | str | dict):
                raise PlanError(f"{e!r} is no axis type")
            if isinstance(e, int):
                return ax.ONE if e == 1 else Leaf(next(fresh), e) if e else Sum(())
            if isinstance(e, str):
                if e not in numbers:
                    raise PlanError("an axis type names a group that is not in the plan", where=e)
                return Leaf(numbers[e], self.groups[e].units)
            if set(e) == {"prod"}:
                return ax.prod(*(build(part) for part in e["prod"]))
            if set(e) == {"sum"}:
                return ax.concat(*(build(part) for part in e["sum"]))
            raise PlanError(f"{e!r} is no axis type")

        return tuple(build(e) for e in expressions)

    def choices(self) -> dict[int, Indices]:
        """Kept units by leaf number, for axes built by `axes`."""
        return {
            i: np.array(choice.kept, dtype=np.intp) for i, choice in enumerate(self.groups.values())
        }


def _whole(number: object) -> int:
    if type(number) is not int:
        raise TypeError(f"{number!r} is not a whole number")
    return number


def expression(axis: Axis, names: Mapping[int, str]) -> Expression:
    """An axis type in JSON, where leaf `uid` is called `names[uid]` (others are fixed sizes)."""
    if axis.uids.isdisjoint(names):
        return axis.size
    if isinstance(axis, Leaf):
        return names[axis.uid]
    if isinstance(axis, Prod):
        return {"prod": [expression(f, names) for f in axis.factors]}
    return {"sum": [expression(t, names) for t in axis.terms]}
