"""The Euclidean norm."""

from __future__ import annotations

import numpy as np

from autoprune.passes.pruning.criteria.criterion import criterion
from autoprune.passes.pruning.criteria.view import Scores, UnitView, squares


@criterion("l2")
def l2(units: UnitView) -> Scores:
    """Group magnitude: the Euclidean norm of all weights of the unit, in every parameter.

    Depgraph (Fang et al., CVPR 2023) calls it the group L2 norm.
    """
    return np.sqrt(units.sums(squares))
