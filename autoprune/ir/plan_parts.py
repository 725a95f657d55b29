"""What plans are made of, and their steps as JSON.

What is read may have been edited by hand, damaged, or made to do harm: every value is of the type
it has to be, or an error. Whether it makes sense is another question (`plan_checks`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from autoprune.errors import PlanError
from autoprune.ir.axes import Axis, Leaf, Prod
from autoprune.ir.positions import Indices

if TYPE_CHECKING:
    from autoprune.ir.plan import Plan

T = TypeVar("T")

Expression = int | str | dict[str, Any]
"""An axis type in JSON: a fixed size, a group's name, `{"prod": [...]}` or `{"sum": [...]}`."""


@dataclass(frozen=True)
class KeptUnits:
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

    @property
    def rows(self) -> Sequence[Sequence[int]]:
        """`kept` for each unit of the outer axis, if there is one."""
        return cast("Sequence[Sequence[int]]", self.kept if self.outer else (self.kept,))

    @property
    def count(self) -> int:
        """How many units stay."""
        return len(self.rows[0]) if self.rows else 0

    def array(self) -> Indices:
        """`kept` as an array; shape [units kept] or [units of the outer axis, units kept]."""
        return np.array(self.kept, dtype=np.intp)

    def problem(self) -> str:
        """What is wrong with the choice, or nothing."""
        for row in self.rows:
            increasing = all(a < b for a, b in pairwise(row))
            if not row or not increasing or row[0] < 0 or row[-1] >= self.units:
                return (
                    f"kept units must be increasing numbers from 0 to {self.units - 1}, "
                    "at least one"
                )
        if not self.rows or len({len(row) for row in self.rows}) > 1:
            return f"equally many units must be kept for each unit of {self.outer}"
        return ""


@dataclass(frozen=True, slots=True)
class Factor:
    """What a parameter becomes so that it takes up a factor: `scale * p + offset`.

    Meant are the positions of a group, or all without one.
    """

    group: str
    scale: float
    offset: float = 0.0


def expression(axis: Axis, names: Mapping[int, str]) -> Expression:
    """An axis type in JSON, where leaf `uid` is called `names[uid]` (others are fixed sizes)."""
    if axis.uids.isdisjoint(names):
        return axis.size
    if isinstance(axis, Leaf):
        return names[axis.uid]
    if isinstance(axis, Prod):
        return {"prod": [expression(f, names) for f in axis.factors]}
    return {"sum": [expression(t, names) for t in axis.terms]}


def parse(text: str) -> Any:
    """The JSON in a text; PlanError if it is none, or nested too deeply to be read."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanError(
            f"this is not a plan: {type(error).__name__}: {error}",
            hint="a plan is what Plan.save or Plan.to_json wrote",
        ) from error


def write_step(plan: Plan) -> dict[str, Any]:
    """What `read_step` reads of a plan, in the present format."""
    return {
        "graph": plan.graph,
        "architecture": plan.architecture,
        "seal": plan.seal,
        "rebuildable": plan.rebuildable,
        "groups": {name: _write_choice(choice) for name, choice in plan.groups.items()},
        "outers": dict(plan.outers),
        "alike": [list(names) for names in plan.alike],
        "parameters": {name: list(axes) for name, axes in plan.parameters.items()},
        "attributes": {
            path: {name: list(axes) for name, axes in entries.items()}
            for path, entries in plan.attributes.items()
        },
        "factors": {name: [f.group, f.scale, f.offset] for name, f in plan.factors.items()},
        "folded": list(plan.folded),
        "constants": {path: dict(entries) for path, entries in plan.constants.items()},
    }


def read_step(data: Any, version: int) -> dict[str, Any]:
    """The fields of one step of a plan; those that format 1 lacks are left out.

    Raises:
        AttributeError, KeyError, OverflowError, TypeError, ValueError: if it is none.
    """
    fields: dict[str, Any] = {
        "graph": _text(data["graph"]),
        "groups": {name: _read_choice(c) for name, c in data["groups"].items()},
        "parameters": {name: _list(e) for name, e in data["parameters"].items()},
        "attributes": {
            path: {name: _list(e) for name, e in entries.items()}
            for path, entries in data["attributes"].items()
        },
        "factors": {
            name: Factor(_text(group), _real(scale), _real(offset))
            for name, (group, scale, offset) in data["factors"].items()
        },
        "constants": {
            path: {
                name: (None if old is None else _real(old), _real(new))
                for name, (old, new) in entries.items()
            }
            for path, entries in data["constants"].items()
        },
        "folded": tuple(_text(name) for name in _list(data["folded"])),
        "rebuildable": _of(data["rebuildable"], bool, "true or false"),
    }
    if version > 1:
        fields |= {
            "outers": {name: _whole(size) for name, size in data["outers"].items()},
            "alike": tuple(tuple(map(_text, _list(names))) for names in _list(data["alike"])),
            "architecture": _text(data["architecture"]),
            "seal": _text(data["seal"]),
        }
    return fields


def _write_choice(choice: KeptUnits) -> dict[str, Any]:
    outer = {"outer": choice.outer} if choice.outer else {}
    return {"units": choice.units, **outer, "kept": choice.kept}


def _read_choice(data: Mapping[str, Any]) -> KeptUnits:
    outer, kept = _text(data.get("outer", "")), _list(data["kept"])
    rows = [tuple(map(_whole, _list(row))) for row in (kept if outer else [data["kept"]])]
    return KeptUnits(_whole(data["units"]), tuple(rows) if outer else rows[0], outer)


def _of(value: object, kind: type[T], what: str) -> T:
    if type(value) is not kind:  # True is no number
        raise TypeError(f"{value!r:.40} is not {what}")
    return value


def _list(values: object) -> tuple[Any, ...]:
    return tuple(_of(values, list, "a list"))


def _text(value: object) -> str:
    return _of(value, str, "a text")


def _whole(number: object) -> int:
    return _of(number, int, "a whole number")


def _real(number: object) -> float:
    return float(number if type(number) is int else _of(number, float, "a number"))
