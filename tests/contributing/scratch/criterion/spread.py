"""How different the weights of a unit are."""

from __future__ import annotations

from autoprune.passes.pruning.criteria.criterion import criterion
from autoprune.passes.pruning.criteria.view import Scores, UnitView


@criterion("spread")
def spread(units: UnitView) -> Scores:
    """The standard deviation of the weights, summed over the parameters of the unit."""
    return sum(matrix.std(axis=1) for matrix in units.matrices())
