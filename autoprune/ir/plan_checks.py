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
    """Check all but the seal; `sizes` has the axes per whose units groups are chosen, too.

    Raises:
        PlanError: if a choice is none of the group's units, a name refers to nothing in the plan,
            or a number is none that a cut could cause. It says `where` the step is.
    """

    def check(holds: bool, problem: str, place: str) -> None:
        if not holds:
            raise PlanError(problem, where=f"{place}{where}")

    for name, choice in plan.groups.items():
        place = f"group {name}"
        fits = 0 < choice.units <= LARGEST_SIZE
        check(fits, f"a group cannot have {choice.units:.6g} units", place)
        check(not choice.problem(), choice.problem(), place)
        check(
            not choice.outer or len(choice.kept) == sizes[choice.outer],
            f"{choice.outer} has {sizes.get(choice.outer)} units, and kept units are listed for "
            f"{len(choice.kept)}",
            place,
        )
    counts = {name: choice.count for name, choice in plan.groups.items()}
    largest = 1.0
    named: dict[str, set[str]] = {}
    for name, axes in plan.parameters.items():
        named[name] = _names(axes, sizes, f"parameter {name}{where}")
        for axis in axes:
            before, after = _size(axis, {}, sizes), _size(axis, counts, sizes)
            fits = before <= LARGEST_SIZE
            check(fits, "no parameter has so long an axis", f"parameter {name}")
            largest = max(largest, before / max(after, 1))
    mentioned = set[str]().union(*named.values())
    for name, choice in plan.groups.items():
        place, outer = f"group {name}", choice.outer
        check(name in mentioned, "no parameter of the plan has this group", place)
        known = not outer or outer in mentioned
        check(known, f"its outer axis {outer:.80} is not in the plan", place)
    for names in plan.alike:
        alike = {name: counts[name] for name in names if name in counts}
        check(
            len(set(alike.values())) <= 1,
            "the network's code states the size of these groups only once, so equally many units "
            f"of each have to stay: {alike}",
            f"group {next(iter(names), ''):.80}",
        )
    for path, entries in plan.attributes.items():
        for name, axes in entries.items():
            place = f"attribute {path}.{name}"
            found = _names(axes, sizes, f"{place}{where}")
            check(bool(found), "the plan sets an attribute to no size that changes", place)
    if not plan.rebuildable and (plan.attributes or plan.factors or plan.constants):
        raise PlanError(f"the plan changes attributes of a network that has to be traced{where}")
    limit = largest**STRONGEST * (1 + 1e-6)
    for name, factor in plan.factors.items():
        group, scale, offset = factor.group, factor.scale, factor.offset
        place, of = f"parameter {name}", f"a factor is for the group {group:.80}, which"
        check(name in named, "the plan has a factor for a parameter it does not list", place)
        check(not group or group in plan.groups, f"{of} is not in the plan", place)
        check(not group or group in named[name], f"{of} the parameter does not have", place)
        fits = _plausible(scale, limit) and abs(offset) <= LARGEST_SHIFT * abs(scale - 1)
        check(fits, f"no cut of these units causes the factor {scale:g} (and {offset:g})", place)
    for path, values in plan.constants.items():
        for name, (old, new) in values.items():
            # Without an old value the default changes: the epsilon of a norm.
            fits = _plausible(new / old, limit) if old else 0 <= new <= 1
            problem = f"no cut of these units changes {old} to {new:g}"
            check(fits, problem, f"attribute {path}.{name}")


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
