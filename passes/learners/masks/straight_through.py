"""SR-STE: masks follow the weights, all of which are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from autoprune.errors import LearnerError
from autoprune.passes.learners.masks.mask_training import MaskMethod, MaskTraining, magnitudes
from autoprune.passes.learners.schedule import Timing


@dataclass(frozen=True)
class SRSTE(MaskMethod, name="sr_ste"):
    """Sparse-refined straight-through estimator (Zhou et al., ICLR 2021), for any format.

    The network computes with the largest weights, chosen anew in every step. Their gradient is
    applied to all weights, straight through the mask, and those masked at present decay: the
    gradient is `g + decay (1 - mask) w` (equation 9). So what was removed may come back, but masks
    settle. After the pruning part they are fixed.

    Attributes:
        decay: lambda_W.
        progressive: whether the sparsity rises over the periods; of N:M the number of kept inputs
            then falls from M to N. Otherwise it is there from the beginning.
    """

    timing: ClassVar[Timing] = Timing(start=0.0, stop=0.8, periods=4)

    decay: float = 2e-4
    progressive: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.decay < float("inf"):
            raise LearnerError(f"a decay of {self.decay} is not a number from 0")

    def gradients(self, training: MaskTraining) -> None:
        """Let masked weights decay; once masks are fixed, they get no gradient."""
        if not training.hidden:
            super().gradients(training)
            return
        parts = zip(training.weights, training.masks, training.hidden, strict=True)
        for weight, mask, hidden in parts:
            if weight.parameter.grad is not None:
                weight.parameter.grad.add_(hidden.masked_fill(mask, 0.0), alpha=self.decay)

    def after(self, training: MaskTraining) -> None:
        schedule = training.schedule
        if not schedule.prunes(training.step):
            return
        scores = magnitudes(training)
        if training.step == schedule.start or training.period_ends:
            reached = schedule.reached(training.step + 1) if self.progressive else 1.0
            training.set_levels(reached, scores)
        training.choose(scores)

    def hides(self, training: MaskTraining) -> bool:
        return training.schedule.prunes(training.step)
