"""Zeros within the weights that stay, in patterns that sparse kernels use.

`autoprune.sparsify` makes a trained network sparse at once, a `Sparsifier` while it trains.
Formats, masks and corrections are those of `autoprune.passes.sparsify`.
"""

from autoprune.passes.learners.masks.gmp import GMP
from autoprune.passes.learners.masks.learnable import Learnable
from autoprune.passes.learners.masks.method import MaskMethod
from autoprune.passes.learners.masks.optimizer import MaskedOptimizer
from autoprune.passes.learners.masks.srigl import SRigL
from autoprune.passes.learners.masks.straight_through import SRSTE
from autoprune.passes.learners.masks.training import Training
from autoprune.passes.learners.schedule import Cosine, Polynomial, Timing
from autoprune.passes.learners.sparsifier import Sparsifier
from autoprune.passes.sparsify.result import SparseResult

__all__ = [
    "GMP",
    "SRSTE",
    "Cosine",
    "Learnable",
    "MaskMethod",
    "MaskedOptimizer",
    "Polynomial",
    "SRigL",
    "SparseResult",
    "Sparsifier",
    "Timing",
    "Training",
]
