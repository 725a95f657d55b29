"""Optimizers that find the small network while the large one trains.

A `Method` says how units are found and brought to zero; `autoprune.Pruner` makes an optimizer of it
that wraps any other.
"""

from autoprune.passes.learners.distillation import Distillation
from autoprune.passes.learners.feature_flow import FeatureFlow
from autoprune.passes.learners.optimizer import SparseOptimizer
from autoprune.passes.learners.schedule import Cosine, Polynomial, Timing
from autoprune.passes.learners.units.bayes import TurboVBI
from autoprune.passes.learners.units.cric import HESSOCRIC
from autoprune.passes.learners.units.envelope import WGSEF
from autoprune.passes.learners.units.halfspace import DHSPG, HSPG
from autoprune.passes.learners.units.hesso import HESSO
from autoprune.passes.learners.units.history import Record
from autoprune.passes.learners.units.penalties import GroupLasso, Polarization
from autoprune.passes.learners.units.unit_training import Method

__all__ = [
    "DHSPG",
    "HESSO",
    "HESSOCRIC",
    "HSPG",
    "WGSEF",
    "Cosine",
    "Distillation",
    "FeatureFlow",
    "GroupLasso",
    "Method",
    "Polarization",
    "Polynomial",
    "Record",
    "SparseOptimizer",
    "Timing",
    "TurboVBI",
]
