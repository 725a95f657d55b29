"""Whether a step of a plan makes sense by itself, before it meets a network.

A plan cuts weights and sets attributes without a look at the graph, so one that was edited or
damaged must not get as far as that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import isfinite, prod
from typing import TYPE_CHECKING

from autoprune.errors import PlanError
from autoprune.ir.plan_parts import Expression

if TYPE_CHECKING:
    from autoprune.ir.plan import Plan

LARGEST_SIZE = 2**40
"""Positions of the longest axis."""

DEEPEST = 32
"""Products and sums within each other in an axis type; unification makes a few."""

STRONGEST = 4
"""Factors are powers of the share of an axis that stays. Norms and attention take its root, and
what is computed from them, such as a square, takes other powers up to this one."""

LARGEST_SHIFT = 100.0
"""Largest constant added to a weight before it is used; some norms have 1 + weight as a gain."""


def check_step(plan: Plan, sizes: Mapping[str, int], where: str = "") -> None:
    """Check all but the seal.

    Args:
        plan: the step.
        sizes: units of the groups and of the axes per whose units they are chosen.
        where: what to add to the places that errors name.

    Raises:
        PlanError: if a choice is none of the group's units, a name refers to nothing in the plan,
            or a number is none that a cut could cause.
    """
    for name, choice in plan.groups.items():
        place = f"group {name}{where}"
        if not 0 < choice.units <= LARGEST_SIZE:
            raise PlanError(f"a group cannot have {choice.units:.6g} units", where=place)
        problem = choice.problem()
        if problem:
            raise PlanError(problem, where=place)
        if choice.outer and len(choice.kept) != sizes[choice.outer]:
            raise PlanError(
                f"{choice.outer} has {sizes[choice.outer]} units, and kept units are listed for "
                f"{len(choice.kept)}",
                where=place,
            )
    largest = 1.0
    mentioned = set[str]()
    for name, axes in plan.parameters.items():
        place = f"parameter {name}{where}"
        mentioned |= _names(axes, sizes, place)
        for axis in axes:
            if _size(axis, {}, sizes) > LARGEST_SIZE:
                raise PlanError("no parameter has so long an axis", where=place)
            after = _size(axis, {name: c.count for name, c in plan.groups.items()}, sizes)
            largest = max(largest, _size(axis, {}, sizes) / max(after, 1))
    for name, choice in plan.groups.items():
        place = f"group {name}{where}"
        if name not in mentioned:
            raise PlanError("no parameter of the plan has this group", where=place)
        if choice.outer and choice.outer not in mentioned:
            raise PlanError(f"its outer axis {choice.outer:.80} is not in the plan", where=place)
    for names in plan.alike:
        counts = {name: plan.groups[name].count for name in names if name in plan.groups}
        if len(set(counts.values())) > 1:
            raise PlanError(
                "the network's code states the size of these groups only once, so equally many "
                f"units of each have to stay: {counts}",
                where=f"group {names[0]:.80}{where}",
            )
    for path, entries in plan.attributes.items():
        for name, axes in entries.items():
            place = f"attribute {path}.{name}{where}"
            if not _names(axes, sizes, place):
                raise PlanError("the plan sets an attribute to no size that changes", where=place)
    if not plan.rebuildable and (plan.attributes or plan.factors or plan.constants):
        raise PlanError(f"the plan changes attributes of a network that has to be traced{where}")
    _check_numbers(plan, sizes, largest**STRONGEST * (1 + 1e-6), where)


def _check_numbers(plan: Plan, sizes: Mapping[str, int], limit: float, where: str) -> None:
    """Check that factors and constants are such as a cut can bring about."""
    for name, factor in plan.factors.items():
        place = f"parameter {name}{where}"
        if name not in plan.parameters:
            raise PlanError("the plan has a factor for a parameter it does not list", where=place)
        if factor.group and factor.group not in plan.groups:
            raise PlanError(
                f"a factor is for the group {factor.group:.80}, which is not in the plan",
                where=place,
            )
        if factor.group and factor.group not in _names(plan.parameters[name], sizes, place):
            raise PlanError(
                f"a factor is for the group {factor.group:.80}, which the parameter does not have",
                where=place,
            )
        if not _plausible(factor.scale, limit) or not (
            abs(factor.offset) <= LARGEST_SHIFT * abs(factor.scale - 1)
        ):
            raise PlanError(
                f"no cut of these units causes the factor {factor.scale:g} (and {factor.offset:g})",
                where=place,
            )
    for path, entries in plan.constants.items():
        for name, (old, new) in entries.items():
            # Without an old value the default changes: the epsilon of a norm.
            fits = _plausible(new / old, limit) if old else 0 <= new <= 1
            if not fits:
                raise PlanError(
                    f"no cut of these units changes {old} to {new:g}",
                    where=f"attribute {path}.{name}{where}",
                )


def _plausible(factor: float, limit: float) -> bool:
    return isfinite(factor) and 1 / limit <= factor <= limit


def _names(axes: Iterable[Expression], sizes: Mapping[str, int], where: str) -> set[str]:
    """The groups and other axes that axis types name, all of which have to be in the plan."""
    return {name for axis in axes for name in _checked(axis, sizes, where, 0)}


def _checked(axis: object, sizes: Mapping[str, int], where: str, depth: int) -> Iterator[str]:
    if isinstance(axis, str):
        if axis not in sizes:
            raise PlanError(
                f"an axis type names the group {axis:.80}, which is not in the plan", where=where
            )
        yield axis
    elif isinstance(axis, dict) and len(axis) == 1 and depth < DEEPEST:
        ((kind, parts),) = axis.items()
        if kind not in ("prod", "sum") or not isinstance(parts, list):
            raise PlanError(f"{axis!r:.80} is no axis type", where=where)
        for part in parts:
            yield from _checked(part, sizes, where, depth + 1)
    elif type(axis) is not int or not 0 <= axis <= LARGEST_SIZE:
        raise PlanError(f"{axis!r:.80} is no axis type", where=where)


def _size(axis: Expression, kept: Mapping[str, int], sizes: Mapping[str, int]) -> int:
    """Positions of an axis when of some groups so many units stay."""
    if isinstance(axis, int):
        return axis
    if isinstance(axis, str):
        return kept.get(axis, sizes[axis])
    ((kind, parts),) = axis.items()
    return (prod if kind == "prod" else sum)(_size(part, kept, sizes) for part in parts)
