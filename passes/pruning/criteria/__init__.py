"""How much units matter: the criteria by which those are chosen that go.

A criterion is a function from a `UnitView`, the units of one group, to one number per unit; the
units with the lowest go first. What it looks at besides weights, it declares. Each is a file here.
"""

from autoprune.ir.discovery import import_files
from autoprune.passes.pruning.criteria.criterion import (
    CRITERIA,
    Criterion,
    Score,
    criterion,
    find_criterion,
    forget_criterion,
    score,
    score_groups,
)
from autoprune.passes.pruning.criteria.view import NEEDS, Array, Need, Scores, Tensors, UnitView

__all__ = [
    "CRITERIA",
    "NEEDS",
    "Array",
    "Criterion",
    "Need",
    "Score",
    "Scores",
    "Tensors",
    "UnitView",
    "criterion",
    "find_criterion",
    "forget_criterion",
    "score",
    "score_groups",
]

import_files(__name__)
