"""Chance."""

from __future__ import annotations

from autoprune.passes.pruning.criteria.criterion import criterion
from autoprune.passes.pruning.criteria.view import Scores, UnitView


@criterion("random", needs=())
def random(units: UnitView) -> Scores:
    """Independent uniform scores: the baseline every criterion must beat."""
    return units.rng.random(units.shape)
