"""How much units matter: the criteria by which those are chosen that go.

A criterion is a function from a `UnitView`, the units of one group, to one number per unit; the
units with the lowest go first. What it looks at besides weights, it declares.
"""

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
from autoprune.passes.pruning.criteria.l1 import l1
from autoprune.passes.pruning.criteria.l2 import l2
from autoprune.passes.pruning.criteria.random import random
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
    "l1",
    "l2",
    "random",
    "score",
    "score_groups",
]
