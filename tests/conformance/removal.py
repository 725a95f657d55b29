"""What a plan removes from a tensor, read off the plan alone: cutting is not asked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from autoprune.ir.plan import Expression, KeptUnits, Plan

Units = dict[str, np.ndarray]
"""By group, the unit at each position of an axis, -1 for none."""


def removed(axes: list[Units], groups: Mapping[str, KeptUnits]) -> np.ndarray:
    """Whether each element of a parameter belongs to a removed unit."""
    shape = [len(next(iter(units.values()))) for units in axes]
    gone = np.zeros(shape, bool)
    for name, choice in groups.items():
        kept = choice.array()
        for dim, units in enumerate(axes):
            if name not in units:
                continue
            inner = _along(units[name], dim, len(axes))
            if choice.outer:
                stays = np.zeros((len(kept), choice.units), bool)
                np.put_along_axis(stays, kept, True, axis=1)
                found = stays[_outer(axes, choice.outer), inner]
            else:
                found = np.isin(inner, kept)
            gone |= (inner >= 0) & ~found
    return gone


def _along(units: np.ndarray, dim: int, rank: int) -> np.ndarray:
    """Numbers along one dimension, to be broadcast to the others."""
    return units.reshape([-1 if d == dim else 1 for d in range(rank)])


def _outer(axes: list[Units], group: str) -> np.ndarray:
    """The unit of a group, which occurs in one dimension, that each element belongs to."""
    [dim] = [d for d, units in enumerate(axes) if group in units]
    return _along(axes[dim][group], dim, len(axes))


def units_along(expression: Expression, plan: Plan) -> Units:
    """The units along one axis of a parameter, and under the name '' its positions."""
    if isinstance(expression, int):
        return {"": np.arange(expression)}
    if isinstance(expression, str):
        choice = plan.groups.get(expression)
        size = (
            choice.units
            if choice
            else next(len(c.kept) for c in plan.groups.values() if c.outer == expression)
        )
        return {"": np.arange(size), expression: np.arange(size)}
    parts = [units_along(part, plan) for part in next(iter(expression.values()))]
    names = {name for part in parts for name in part if name}
    sizes = [len(part[""]) for part in parts]
    if "sum" in expression:
        joined = {
            name: np.concatenate(
                [part.get(name, np.full(n, -1)) for part, n in zip(parts, sizes, strict=True)]
            )
            for name in names
        }
        return {"": np.arange(sum(sizes)), **joined}
    places = np.unravel_index(np.arange(np.prod(sizes)), sizes)
    found: Units = {"": np.arange(np.prod(sizes))}
    for name in names:
        found[name] = np.maximum.reduce(
            [part[name][at] for part, at in zip(parts, places, strict=True) if name in part]
        )
    return found
