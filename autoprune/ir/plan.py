"""Plan: which units of which groups stay, as plain data that can be saved, edited and applied.

A plan names groups by the parameter they start from. It also carries, for every parameter it
touches, the axis types in terms of those groups, so that a checkpoint can be cut to size without
tracing the model again:

    {"groups": {"conv1.weight:0": {"units": 4, "kept": [0, 2]}},
     "parameters": {"conv1.weight": ["conv1.weight:0", 3, 3, 3],
                    "fc.weight": [10, {"prod": ["conv1.weight:0", 49]}]}, ...}

Units that are chosen per unit of another axis (per head) name that axis, and list the units kept
for each of its units: `{"units": 4, "outer": "q.weight:0/0", "kept": [[0, 2], [1, 2]]}`.

The plan of a network that was pruned several times is a sequence of such steps, each in terms of
the network that it was made for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autoprune.errors import PlanError
from autoprune.ir import axes as ax
from autoprune.ir.axes import Axis, Leaf, Sum
from autoprune.ir.files import read_file, write_atomically
from autoprune.ir.group import Group
from autoprune.ir.plan_checks import check_step
from autoprune.ir.plan_parts import (
    Expression,
    Factor,
    KeptUnits,
    parse,
    read_step,
    write_step,
)
from autoprune.ir.positions import Indices, Kept, PerOuter

FORMAT = 2

LARGEST = 2**28
"""Bytes of the longest text that is unpacked as a plan."""


@dataclass(frozen=True, repr=False)
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
        outers: units of the axes per whose units groups are chosen.
        alike: groups of which as many units have to stay as of each other, because the module's own
            code states their size only once.
        architecture: digest of the names and shapes of the parameters of the module that the plan
            was made for; empty for ONNX models, and in plans of format 1.
        seal: digest of all that is no choice of units; empty in plans of format 1.
        earlier: the plans by which the model that this one was made for had been pruned before.
    """

    graph: str
    groups: Mapping[str, KeptUnits]
    parameters: Mapping[str, tuple[Expression, ...]] = field(default_factory=dict)
    attributes: Mapping[str, Mapping[str, tuple[Expression, ...]]] = field(default_factory=dict)
    factors: Mapping[str, Factor] = field(default_factory=dict)
    constants: Mapping[str, Mapping[str, tuple[float | None, float]]] = field(default_factory=dict)
    folded: tuple[str, ...] = ()
    rebuildable: bool = False
    outers: Mapping[str, int] = field(default_factory=dict)
    alike: tuple[tuple[str, ...], ...] = ()
    architecture: str = ""
    seal: str = ""
    earlier: tuple[Plan, ...] = ()

    def __repr__(self) -> str:
        shown = ", ".join(self.groups)
        names = shown if len(shown) < 60 else f"{next(iter(self.groups))} and others"
        return (
            f"Plan: {len(self.groups)} groups lose units ({names or 'none'}), of the graph "
            f"{self.graph[:8]}; to_json() has all"
        )

    @property
    def steps(self) -> tuple[Plan, ...]:
        """The prunings that the plan describes, in their order; each is a plan of its own."""
        return (*self.earlier, replace(self, earlier=()))

    @property
    def origin(self) -> str:
        """Digest of the graph that the first pruning started from."""
        return self.steps[0].graph

    def after(self, earlier: Plan | None) -> Plan:
        """This plan for a network that another one made, as a plan for what that one was for."""
        if earlier is None:
            return self
        return replace(self, earlier=(*earlier.steps, *self.earlier))

    def sealed(self) -> Plan:
        """The plan as it may be written: what is no choice of units may not change any more."""
        outers = {name: size for name, size in self.sizes.items() if name not in self.groups}
        whole = replace(self, outers=outers)
        return replace(whole, seal=whole._digest())

    def _digest(self) -> str:
        """SHA-256 of all that is no choice of units.

        Factors depend on how many units stay, so with factors that belongs to it too.
        """
        exact = bool(self.factors or self.constants)
        content = write_step(self) | {
            "groups": {
                name: [choice.units, choice.count if exact else None]
                for name, choice in self.groups.items()
            }
        }
        text = json.dumps({k: v for k, v in content.items() if k != "seal"}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        """The plan as JSON text, one group a line."""
        *earlier, last = (step if step.seal else step.sealed() for step in self.steps)
        content = {
            "format": FORMAT,
            **write_step(last),
            "earlier": [write_step(e) for e in earlier],
        }
        return "{\n" + ",\n".join(f'  "{k}": {_lines(k, v)}' for k, v in content.items()) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan back.

        Raises:
            PlanError: if the text is no plan, or a damaged one, or a choice is out of range.
        """
        data = parse(text)
        try:
            version = data["format"]
            if version not in (1, FORMAT) or isinstance(version, bool):
                raise PlanError(
                    f"plan has format {version!r:.20}, this version reads {FORMAT}",
                    hint="write it again with this version of autoprune",
                )
            earlier = data["earlier"] if version == FORMAT else []
            if not isinstance(earlier, list):
                raise TypeError("the earlier steps are no list")
            first = tuple(cls(**read_step(step, version)) for step in earlier)
            plan = cls(**read_step(data, version), earlier=first)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise PlanError(
                f"this is not a plan: {type(error).__name__}: {error!s:.200}",
                hint="a plan is what Plan.save or Plan.to_json wrote",
            ) from error
        if version == FORMAT and not all(step.seal for step in plan.steps):
            raise PlanError("the plan has lost its seal", hint="use the file as it was written")
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
            text = read_file(path).decode()
        except (OSError, UnicodeDecodeError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or error
            raise PlanError(f"the plan cannot be read: {reason}", where=str(path)) from error
        return cls.from_json(text)

    def check(self) -> None:
        """Check that the plan makes sense, whatever network it is for, and is whole.

        Of each group a non-empty increasing selection of existing units stays, for each unit of
        another axis where it is made per that; every name in it refers to something in it; numbers
        are such as a cut can bring about; and nothing was changed but the choice of units.

        Raises:
            PlanError: naming the group, parameter or attribute.
        """
        for number, step in enumerate(self.steps, 1):
            where = f", step {number} of {len(self.steps)}" if self.earlier else ""
            check_step(step, step.sizes, where)
            if step.seal and step.seal != step._digest():
                raise PlanError(
                    "the plan was damaged, or more was edited than which units stay",
                    where=f"graph {step.graph[:12]}{where}",
                    hint="edit `kept` alone; in a plan with factors as many units have to stay as "
                    "before, since the factors depend on that",
                )

    @property
    def sizes(self) -> dict[str, int]:
        """Units of every group, then of every other axis per whose units a group is chosen."""
        found = {name: choice.units for name, choice in self.groups.items()}
        listed = {c.outer: len(c.kept) for c in self.groups.values() if c.outer}
        for name, units in {**self.outers, **listed}.items():
            found.setdefault(name, units)
        return found

    def kept(self, groups: Mapping[str, Group], outers: Mapping[int, Leaf]) -> Kept:
        """The choice as kept units by leaf, for the groups of a traced graph by name.

        By leaf, `outers` has the leaf per whose units its own may be chosen.

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
        """Axis types with leaves numbered as in `choices`; the plan has passed `check`."""
        sizes = self.sizes
        numbers = {name: i for i, name in enumerate(sizes)}
        fresh = iter(range(len(numbers), 1 << 62))

        def build(e: Expression) -> Axis:
            if isinstance(e, int):
                return ax.ONE if e == 1 else Leaf(next(fresh), e) if e else Sum(())
            if isinstance(e, str):
                return Leaf(numbers[e], sizes[e])
            ((kind, parts),) = e.items()
            return (ax.prod if kind == "prod" else ax.concat)(*map(build, parts))

        return tuple(build(e) for e in expressions)

    def choices(self) -> Kept:
        """Kept units by leaf number, for axes built by `axes`."""
        numbers = {name: i for i, name in enumerate(self.sizes)}
        return {
            numbers[name]: PerOuter(numbers[choice.outer], choice.array())
            if choice.outer
            else choice.array()
            for name, choice in self.groups.items()
        }


def _lines(key: str, value: Any) -> str:
    """JSON of a part of a plan, one group or parameter a line."""
    if key in ("groups", "parameters") and value:
        rows = (f"    {json.dumps(name)}: {json.dumps(entry)}" for name, entry in value.items())
        return "{\n" + ",\n".join(rows) + "\n  }"
    return json.dumps(value)
