"""Importance of units: a criterion maps the weights of a group to one score per unit.

The units with the lowest scores are removed first. A criterion is any function from
`GroupWeights` to an array of `units` scores. Where the units may be chosen anew for each unit of
an outer axis, for each head say, it may score each of these choices, as an array of shape
[outer units, units]; `GroupWeights.sums` does.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from autoprune.errors import AutopruneError
from autoprune.ir.axes import Axis, Leaf
from autoprune.ir.group import Group, Occurrence
from autoprune.ir.positions import Indices, unit_at, unit_positions

CHUNK = 2**20
"""Elements of a weight that are looked at together."""

Array = npt.NDArray[Any]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GroupWeights:
    """The trained weights of one group, seen unit by unit.

    Attributes:
        group: the group.
        weights: by parameter name, the whole tensor.
        types: by parameter name, the axis type of each dimension.
        rng: seeded generator, for criteria that draw.
        outer: the leaf per whose units the group's units are chosen, or None.
    """

    group: Group
    weights: Mapping[str, Array]
    types: Mapping[str, tuple[Axis, ...]]
    rng: np.random.Generator
    outer: Leaf | None = None

    @property
    def units(self) -> int:
        """Number of units."""
        return self.group.units

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the scores: [units], or [outer units, units] where those may be told apart."""
        return (self.units,) if self.outer is None else (self.outer.size, self.units)

    def sums(self, function: Callable[[Array], Array]) -> Scores:
        """Sum of an elementwise function over all weights of each unit, in the shape of scores."""
        if self.outer is not None:
            return self._sums_per(self.outer, function)
        total = np.zeros(self.units)
        for occurrence in self.group.occurrences:
            weight = self.weights.get(occurrence.parameter)
            if weight is None:
                continue
            per_position = _sums_along(function, weight, occurrence.dim)
            axis = self.types[occurrence.parameter][occurrence.dim]
            if isinstance(axis, Leaf):
                total += per_position
            else:
                total += per_position[unit_positions(axis, self.group.leaf.uid)].sum(axis=1)
        return total

    def _sums_per(self, outer: Leaf, function: Callable[[Array], Array]) -> Scores:
        total = np.zeros(outer.size * self.units)
        for occurrence in self.group.occurrences:
            weight = self.weights.get(occurrence.parameter)
            if weight is None:
                continue
            owners, dims = self._owners(outer, occurrence)
            others = tuple(d for d in range(weight.ndim) if d not in dims)
            sums = function(weight).sum(axis=others, dtype=np.float64)
            owned = owners >= 0
            total += np.bincount(owners[owned], sums[owned], minlength=total.size)
        return total.reshape(self.shape)

    def _owners(self, outer: Leaf, occurrence: Occurrence) -> tuple[Indices, frozenset[int]]:
        """The place among the scores of the positions along some dimensions, -1 for none."""
        axes, dim = self.types[occurrence.parameter], occurrence.dim
        inner = unit_at(axes[dim], self.group.leaf.uid)
        if outer.uid in axes[dim].uids:
            owners = unit_at(axes[dim], outer.uid) * self.units + inner
            return np.where(inner < 0, -1, owners), frozenset((dim,))
        (other,) = (d for d, axis in enumerate(axes) if outer.uid in axis.uids)
        rows = unit_at(axes[other], outer.uid)
        grid = np.where(inner < 0, -1, rows[:, None] * self.units + inner)
        return grid if other < dim else grid.T, frozenset((dim, other))

    def matrices(self) -> list[Array]:
        """Per occurrence, the weights of each unit as a row; shape [units, weights of a unit].

        Scores made of them choose the same units for every outer unit.
        """
        rows = []
        for occurrence in self.group.occurrences:
            weight = self.weights.get(occurrence.parameter)
            if weight is not None:
                axis = self.types[occurrence.parameter][occurrence.dim]
                positions = unit_positions(axis, self.group.leaf.uid)
                moved = np.moveaxis(weight, occurrence.dim, 0)
                rows.append(moved[positions].reshape(self.units, -1))
        return rows


def _sums_along(function: Callable[[Array], Array], array: Array, dim: int) -> Scores:
    """Sum of an elementwise function over all dimensions but one.

    Of large arrays a few rows at a time, which then need no memory that is not in the caches.
    """
    rows = max(1, CHUNK * len(array) // max(1, array.size))
    parts = [
        _summed(function(array[i : i + rows]), dim) for i in range(0, max(1, len(array)), rows)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts) if dim == 0 else np.sum(parts, 0)


def _summed(array: Array, dim: int) -> Scores:
    """Sum over all dimensions but one; leading ones go first, as whole rows are added fast."""
    before, kept, after = prod(array.shape[:dim]), array.shape[dim], prod(array.shape[dim + 1 :])
    if dim:
        array = array.reshape(before, kept * after).sum(axis=0, dtype=np.float64)
    total: Scores = array.reshape(kept, after).sum(axis=1, dtype=np.float64)
    return total


Criterion = Callable[[GroupWeights], Any]


def l2(weights: GroupWeights) -> Scores:
    """Group magnitude: the Euclidean norm of all weights of the unit, in every parameter.

    Depgraph (Fang et al., CVPR 2023) calls it the group L2 norm.
    """
    return np.sqrt(weights.sums(_squared))


def _squared(array: Array) -> Array:
    """Squared magnitudes, also of complex numbers and of integers, which would overflow."""
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    return np.square(array) if array.dtype.kind != "c" else array.real**2 + array.imag**2


def random(weights: GroupWeights) -> Scores:
    """Independent uniform scores: the baseline every criterion must beat."""
    return weights.rng.random(weights.shape)


CRITERIA: dict[str, Criterion] = {"l2": l2, "random": random}


def find_criterion(criterion: str | Criterion) -> Criterion:
    """A criterion by name, or the function itself.

    Raises:
        AutopruneError: if the name is unknown.
    """
    if callable(criterion):
        return criterion
    if not isinstance(criterion, str) or criterion not in CRITERIA:
        meant = difflib.get_close_matches(str(criterion).lower(), CRITERIA, n=1)
        raise AutopruneError(
            f"there is no criterion {criterion!r}",
            hint=(f"did you mean {meant[0]!r}? " if meant else "")
            + f"use one of {', '.join(sorted(CRITERIA))}, or a function from GroupWeights to "
            "one score per unit",
        )
    return CRITERIA[criterion]


def score(criterion: Criterion, weights: GroupWeights) -> Scores:
    """Apply a criterion and check what it returns.

    Raises:
        AutopruneError: if it does not return one finite number per unit (or per unit of the
            outer axis and unit).
    """
    try:
        scores = np.asarray(criterion(weights), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise AutopruneError(
            f"a criterion must return {weights.units} finite scores: {error}",
            where=f"group {weights.group.name}",
        ) from error
    if scores.shape not in ((weights.units,), weights.shape) or not np.isfinite(scores).all():
        raise AutopruneError(
            f"a criterion must return {weights.units} finite scores, got shape {scores.shape}",
            where=f"group {weights.group.name}",
        )
    return scores
