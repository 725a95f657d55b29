"""The sum of magnitudes."""

from __future__ import annotations

from autoprune.passes.pruning.criteria.criterion import criterion
from autoprune.passes.pruning.criteria.view import Scores, UnitView, magnitudes


@criterion("l1")
def l1(units: UnitView) -> Scores:
    """The sum of the magnitudes of all weights of the unit, in every parameter.

    As for filters by Li et al., ICLR 2017, there of what makes the unit alone.
    """
    return units.sums(magnitudes)
