"""Zeros within the weights that stay, in patterns that sparse kernels use.

`autoprune.sparsify` makes a trained network sparse at once, a `Sparsifier` while it trains.
Formats, masks and corrections are those of `autoprune.passes.sparsify`.
"""

from autoprune.learners.schedule import Cosine, Polynomial, Timing
from autoprune.sparsity.gmp import GMP
from autoprune.sparsity.learnable import Learnable
from autoprune.sparsity.method import MaskMethod
from autoprune.sparsity.optimizer import MaskedOptimizer
from autoprune.sparsity.result import SparseResult
from autoprune.sparsity.sparsifier import Sparsifier
from autoprune.sparsity.srigl import SRigL
from autoprune.sparsity.straight_through import SRSTE
from autoprune.sparsity.training import Training

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
