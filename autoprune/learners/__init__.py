"""Optimizers that find the small network while the large one trains.

A `Method` says how units are found and brought to zero; `autoprune.Pruner` makes an optimizer of it
that wraps any other.
"""

from autoprune.learners.bayes import TurboVBI
from autoprune.learners.cric import HESSOCRIC
from autoprune.learners.distillation import Distillation
from autoprune.learners.envelope import WGSEF
from autoprune.learners.feature_flow import FeatureFlow
from autoprune.learners.halfspace import DHSPG, HSPG
from autoprune.learners.hesso import HESSO
from autoprune.learners.history import Record
from autoprune.learners.method import Method
from autoprune.learners.optimizer import SparseOptimizer
from autoprune.learners.penalties import GroupLasso, Polarization
from autoprune.learners.schedule import Cosine, Polynomial, Timing

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
