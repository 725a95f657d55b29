"""Plan: which units of which groups stay, as plain data that can be saved, edited and applied.

A plan names groups by the parameter they start from. It also carries, for every parameter it
touches, the axis types in terms of those groups, so that a checkpoint can be cut to size without
tracing the model again:

    {"groups": {"conv1.weight:0": {"units": 4, "kept": [0, 2]}},
     "parameters": {"conv1.weight": ["conv1.weight:0", 3, 3, 3],
                    "fc.weight": [10, {"prod": ["conv1.weight:0", 49]}]}, ...}

Units that are chosen per unit of another axis (per head) name that axis, and list the units kept
for each of its units: `{"units": 4, "outer": "q.weight:0/0", "kept": [[0, 2], [1, 2]]}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np

from autoprune.errors import PlanError
from autoprune.ir import axes as ax
from autoprune.ir.axes import Axis, Leaf, Prod, Sum
from autoprune.ir.files import write_atomically
from autoprune.ir.group import Group
from autoprune.ir.positions import Indices, Kept, PerOuter

FORMAT = 1

Expression = int | str | dict[str, Any]
"""An axis type in JSON: a fixed size, a group's name, `{"prod": [...]}` or `{"sum": [...]}`."""


@dataclass(frozen=True)
class Choice:
    """The units of one group that stay.

    Attributes:
        units: how many there were.
        kept: increasing numbers out of `range(units)`; with `outer`, equally many for each unit
            of that axis.
        outer: the axis per whose units they were chosen (named as groups are), or nothing.
    """

    units: int
    kept: tuple[int, ...] | tuple[tuple[int, ...], ...]
    outer: str = ""

    def array(self) -> Indices:
        """`kept` as an array; shape [units kept] or [units of the outer axis, units kept]."""
        return np.array(self.kept, dtype=np.intp)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        outer = {"outer": self.outer} if self.outer else {}
        return {"units": self.units, **outer, "kept": self.kept}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Choice:
        """Read a choice back.

        Raises:
            KeyError, TypeError: if the data is no choice.
        """
        outer = data.get("outer", "")
        if not isinstance(outer, str):
            raise TypeError(f"{outer!r} is not the name of an axis")
        kept = data["kept"]
        if outer:
            return cls(_whole(data["units"]), tuple(_wholes(row) for row in kept), outer)
        return cls(_whole(data["units"]), _wholes(kept))

    def problem(self) -> str:
        """What is wrong with the choice, or nothing."""
        rows = cast("Sequence[Sequence[int]]", self.kept if self.outer else (self.kept,))
        for row in rows:
            increasing = all(a < b for a, b in pairwise(row))
            if not row or not increasing or row[0] < 0 or row[-1] >= self.units:
                return (
                    f"kept units must be increasing numbers from 0 to {self.units - 1}, "
                    "at least one"
                )
        if not rows or len({len(row) for row in rows}) > 1:
            return f"equally many units must be kept for each unit of {self.outer}"
        return ""


@dataclass(frozen=True, slots=True)
class Factor:
    """What a parameter becomes so that it takes up a factor: `scale * p + offset`.

    Attributes:
        group: the group whose positions are meant, or nothing for all.
        scale: see above.
        offset: see above.
    """

    group: str
    scale: float
    offset: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What to keep of each group of a graph.

    Attributes:
        graph: digest of the graph the plan was made for.
        groups: by group name, the units kept.
        parameters: by parameter name, the axis type of each dimension.
        attributes: by module path and attribute name, the axis type whose size the attribute
            states; this is what lets a model of the user's own class be cut without tracing.
        factors: by parameter name, the factor it takes up.
        constants: by module path and attribute name, the old and the new value of a number, such
            as the epsilon of a norm.
        folded: biases that take up constants; they depend on the weights that are cut.
        rebuildable: whether slicing parameters and setting attributes is all it takes. Otherwise
            the model has to be traced again, which needs example inputs.
    """

    graph: str
    groups: Mapping[str, Choice]
    parameters: Mapping[str, tuple[Expression, ...]] = field(default_factory=dict)
    attributes: Mapping[str, Mapping[str, tuple[Expression, ...]]] = field(default_factory=dict)
    factors: Mapping[str, Factor] = field(default_factory=dict)
    constants: Mapping[str, Mapping[str, tuple[float | None, float]]] = field(default_factory=dict)
    folded: tuple[str, ...] = ()
    rebuildable: bool = False

    def to_json(self) -> str:
        """The plan as JSON text, one group a line."""
        groups = ",\n".join(
            f"    {json.dumps(name)}: " + json.dumps(choice.to_json())
            for name, choice in self.groups.items()
        )
        parameters = ",\n".join(
            f"    {json.dumps(name)}: {json.dumps(axes)}" for name, axes in self.parameters.items()
        )
        factors = {name: [f.group, f.scale, f.offset] for name, f in self.factors.items()}
        return (
            "{\n"
            f'  "format": {FORMAT},\n'
            f'  "graph": "{self.graph}",\n'
            f'  "rebuildable": {json.dumps(self.rebuildable)},\n'
            f'  "groups": {{\n{groups}\n  }},\n'
            f'  "parameters": {{\n{parameters}\n  }},\n'
            f'  "attributes": {json.dumps(self.attributes)},\n'
            f'  "factors": {json.dumps(factors)},\n'
            f'  "folded": {json.dumps(self.folded)},\n'
            f'  "constants": {json.dumps(self.constants)}\n'
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
                groups={name: Choice.from_json(c) for name, c in data["groups"].items()},
                parameters={name: tuple(e) for name, e in data["parameters"].items()},
                attributes={
                    path: {name: tuple(e) for name, e in entries.items()}
                    for path, entries in data["attributes"].items()
                },
                factors={name: _factor(*entry) for name, entry in data["factors"].items()},
                constants={
                    path: {name: _constant(*entry) for name, entry in entries.items()}
                    for path, entries in data["constants"].items()
                },
                folded=tuple(str(name) for name in data["folded"]),
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

        One that is made per unit of another axis needs such a selection for each of them.

        Raises:
            PlanError: naming the group.
        """
        for name, choice in self.groups.items():
            problem = choice.problem()
            if problem:
                raise PlanError(problem, where=f"group {name}")
            if choice.outer and len(choice.kept) != self._sizes()[choice.outer]:
                raise PlanError(
                    f"{choice.outer} has {self._sizes()[choice.outer]} units, and kept units are "
                    f"listed for {len(choice.kept)}",
                    where=f"group {name}",
                )
        for name, factor in self.factors.items():
            if factor.group and factor.group not in self.groups:
                raise PlanError(
                    f"a factor is for the group {factor.group}, which is not in the plan",
                    where=f"parameter {name}",
                )

    def _sizes(self) -> dict[str, int]:
        """Units of every group and of every axis per whose units a group is chosen."""
        outers = {c.outer: len(c.kept) for c in self.groups.values() if c.outer}
        return {name: choice.units for name, choice in self.groups.items()} | {
            name: units for name, units in outers.items() if name not in self.groups
        }

    def kept(self, groups: Mapping[str, Group], outers: Mapping[int, Leaf]) -> Kept:
        """The choice as kept units by leaf, for the groups of a traced graph.

        Args:
            groups: by name.
            outers: by leaf, the leaf per whose units its own may be chosen.

        Raises:
            PlanError: if a group is unknown or has another number of units.
        """
        chosen: dict[int, Indices | PerOuter] = {}
        for name, choice in self.groups.items():
            group = groups.get(name)
            if group is None or group.units != choice.units:
                found = "no such group" if group is None else f"{group.units} units"
                raise PlanError(
                    f"the plan expects a group of {choice.units} units, the model has {found}",
                    where=f"group {name}",
                    hint="apply the plan to the architecture it was made for",
                )
            uid = group.leaf.uid
            chosen[uid] = choice.array()
            if choice.outer:
                if uid not in outers or outers[uid].size != len(choice.kept):
                    raise PlanError(
                        f"units of this group cannot be chosen per unit of {choice.outer}",
                        where=f"group {name}",
                    )
                chosen[uid] = PerOuter(outers[uid].uid, choice.array())
        return chosen

    def axes(self, expressions: tuple[Expression, ...]) -> tuple[Axis, ...]:
        """Axis types with leaves numbered as in `choices`."""
        sizes = self._sizes()
        numbers = {name: i for i, name in enumerate(sizes)}
        fresh = iter(range(len(numbers), 1 << 62))

        def build(e: Expression) -> Axis:
            if isinstance(e, bool) or not isinstance(e, int | str | dict):
                raise PlanError(f"{e!r} is no axis type")
            if isinstance(e, int):
                return ax.ONE if e == 1 else Leaf(next(fresh), e) if e else Sum(())
            if isinstance(e, str):
                if e not in numbers:
                    raise PlanError("an axis type names a group that is not in the plan", where=e)
                return Leaf(numbers[e], sizes[e])
            if set(e) == {"prod"}:
                return ax.prod(*(build(part) for part in e["prod"]))
            if set(e) == {"sum"}:
                return ax.concat(*(build(part) for part in e["sum"]))
            raise PlanError(f"{e!r} is no axis type")

        return tuple(build(e) for e in expressions)

    def choices(self) -> Kept:
        """Kept units by leaf number, for axes built by `axes`."""
        numbers = {name: i for i, name in enumerate(self._sizes())}
        return {
            numbers[name]: PerOuter(numbers[choice.outer], choice.array())
            if choice.outer
            else choice.array()
            for name, choice in self.groups.items()
        }


def _factor(group: object, scale: object, offset: object) -> Factor:
    if not isinstance(group, str):
        raise TypeError(f"{group!r} is not the name of a group")
    return Factor(group, _real(scale), _real(offset))


def _constant(old: object, new: object) -> tuple[float | None, float]:
    return None if old is None else _real(old), _real(new)


def _real(number: object) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"{number!r} is not a number")
    return float(number)


def _wholes(numbers: Iterable[object]) -> tuple[int, ...]:
    return tuple(_whole(n) for n in numbers)


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
