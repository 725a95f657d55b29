"""Importance of units: a criterion maps the weights of a group to one score per unit.

The units with the lowest scores are removed first. A criterion is any function from
`GroupWeights` to an array of `units` scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from autoprune.errors import AutopruneError
from autoprune.ir.axes import Axis
from autoprune.ir.group import Group
from autoprune.ir.positions import unit_positions

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
    """

    group: Group
    weights: Mapping[str, Array]
    types: Mapping[str, tuple[Axis, ...]]
    rng: np.random.Generator

    @property
    def units(self) -> int:
        """Number of units."""
        return self.group.units

    def sums(self, function: Callable[[Array], Array]) -> Scores:
        """Sum of an elementwise function over all weights of each unit; shape [units]."""
        total = np.zeros(self.units)
        for occurrence in self.group.occurrences:
            weight = self.weights.get(occurrence.parameter)
            if weight is None:
                continue
            others = tuple(d for d in range(weight.ndim) if d != occurrence.dim)
            per_position = function(weight).sum(axis=others, dtype=np.float64)
            axis = self.types[occurrence.parameter][occurrence.dim]
            total += per_position[unit_positions(axis, self.group.leaf.uid)].sum(axis=1)
        return total

    def matrices(self) -> list[Array]:
        """Per occurrence, the weights of each unit as a row; shape [units, weights of a unit]."""
        rows = []
        for occurrence in self.group.occurrences:
            weight = self.weights.get(occurrence.parameter)
            if weight is not None:
                axis = self.types[occurrence.parameter][occurrence.dim]
                positions = unit_positions(axis, self.group.leaf.uid)
                moved = np.moveaxis(weight, occurrence.dim, 0)
                rows.append(moved[positions].reshape(self.units, -1))
        return rows


Criterion = Callable[[GroupWeights], Any]


def l2(weights: GroupWeights) -> Scores:
    """Group magnitude: the Euclidean norm of all weights of the unit, in every parameter.

    Depgraph (Fang et al., CVPR 2023) calls it the group L2 norm.
    """
    return np.sqrt(weights.sums(np.square))


def random(weights: GroupWeights) -> Scores:
    """Independent uniform scores: the baseline every criterion must beat."""
    return weights.rng.random(weights.units)


CRITERIA: dict[str, Criterion] = {"l2": l2, "random": random}


def find_criterion(criterion: str | Criterion) -> Criterion:
    """A criterion by name, or the function itself.

    Raises:
        AutopruneError: if the name is unknown.
    """
    if callable(criterion):
        return criterion
    if criterion not in CRITERIA:
        raise AutopruneError(
            f"there is no criterion {criterion!r}",
            hint=f"use one of {', '.join(sorted(CRITERIA))}, or a function from GroupWeights to "
            "one score per unit",
        )
    return CRITERIA[criterion]


def score(criterion: Criterion, weights: GroupWeights) -> Scores:
    """Apply a criterion and check what it returns.

    Raises:
        AutopruneError: if it does not return one finite number per unit.
    """
    try:
        scores = np.asarray(criterion(weights), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise AutopruneError(
            f"a criterion must return {weights.units} finite scores: {error}",
            where=f"group {weights.group.name}",
        ) from error
    if scores.shape != (weights.units,) or not np.isfinite(scores).all():
        raise AutopruneError(
            f"a criterion must return {weights.units} finite scores, got shape {scores.shape}",
            where=f"group {weights.group.name}",
        )
    return scores
