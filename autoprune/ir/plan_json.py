"""The steps of plans as JSON: every value is of the type it has to be, or an error.

What is read here may have been edited by hand, damaged, or made to do harm. Whether it makes
sense is another question (`plan_checks`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from autoprune.errors import PlanError
from autoprune.ir.plan_parts import Factor, KeptUnits

if TYPE_CHECKING:
    from autoprune.ir.plan import Plan

T = TypeVar("T")


def parse(text: str) -> Any:
    """The JSON in a text.

    Raises:
        PlanError: if it is no JSON, or nested too deeply to be read.
    """
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
        "factors": {name: _factor(*entry) for name, entry in data["factors"].items()},
        "constants": {
            path: {name: _constant(*entry) for name, entry in entries.items()}
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


def _factor(group: object, scale: object, offset: object) -> Factor:
    return Factor(_text(group), _real(scale), _real(offset))


def _constant(old: object, new: object) -> tuple[float | None, float]:
    return None if old is None else _real(old), _real(new)


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
