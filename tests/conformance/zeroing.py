"""The law, from the plan alone: what the original computes with the removed units set to zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from autoprune.ir.plan import Choice, Expression, Plan

Units = dict[str, np.ndarray]
"""By group, the unit at each position of an axis, -1 for none."""


def zeroed(network: nn.Module, plan: Plan, guarantees: Mapping[str, str], inputs: Any) -> Any:
    """Outputs with the removed units zeroed in what makes them, and if need be in what reads them.

    Layers whose names start with `read` read units; zero in those is only what groups of other
    guarantees than `zero-invariant` and `folded` lose.
    """
    state = {n: p.detach().clone() for n, p in network.named_parameters() if n in plan.parameters}
    for name, tensor in state.items():
        groups = {
            group: choice
            for group, choice in plan.groups.items()
            if not name.startswith("read") or guarantees[group] not in ("zero-invariant", "folded")
        }
        axes = [units_along(e, plan) for e in plan.parameters[name]]
        tensor[torch.from_numpy(removed(axes, groups))] = 0
    with torch.no_grad():
        return torch.func.functional_call(network, state, inputs)


def removed(axes: list[Units], groups: Mapping[str, Choice]) -> np.ndarray:
    """Whether each element of a parameter belongs to a removed unit."""
    shape = [len(next(iter(units.values()))) for units in axes]
    gone = np.zeros(shape, bool)
    for name, choice in groups.items():
        inner = _spread(axes, name)
        kept = choice.array()
        if choice.outer:
            stays = np.zeros((len(kept), choice.units), bool)
            np.put_along_axis(stays, kept, True, axis=1)
            found = stays[_spread(axes, choice.outer), inner]
        else:
            found = np.isin(inner, kept)
        gone |= (inner >= 0) & ~found
    return gone


def _spread(axes: list[Units], group: str) -> np.ndarray:
    """The unit of a group that each element of a parameter belongs to."""
    total: np.ndarray = np.full([1] * len(axes), -1)
    for dim, units in enumerate(axes):
        along = units.get(group, np.array([-1]))
        total = np.maximum(total, along.reshape([-1 if d == dim else 1 for d in range(len(axes))]))
    return total


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
