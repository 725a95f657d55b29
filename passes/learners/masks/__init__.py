"""Zeros within the weights that stay, in patterns that sparse kernels use.

`autoprune.sparsify` makes a trained network sparse at once, a `Sparsifier` while it trains.
Formats, masks and corrections are those of `autoprune.passes.sparsify`.
"""

from typing import TYPE_CHECKING, Any

from autoprune.passes.learners.masks.gmp import GMP
from autoprune.passes.learners.masks.learnable import Learnable
from autoprune.passes.learners.masks.mask_training import MaskMethod
from autoprune.passes.learners.masks.mask_training import MaskTraining as Training
from autoprune.passes.learners.masks.srigl import SRigL
from autoprune.passes.learners.masks.straight_through import SRSTE
from autoprune.passes.learners.optimizer import SparseOptimizer as MaskedOptimizer
from autoprune.passes.learners.schedule import Cosine, Polynomial, Timing
from autoprune.passes.sparsify.result import SparseResult

if TYPE_CHECKING:
    from autoprune.passes.learners.sparsifier import Sparsifier

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


def __getattr__(name: str) -> Any:
    if name == "Sparsifier":  # which is made of what is here
        from autoprune.passes.learners.sparsifier import Sparsifier

        return Sparsifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
