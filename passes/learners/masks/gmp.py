"""GMP: gradual magnitude pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from autoprune.passes.learners.masks.mask_training import MaskMethod, MaskTraining, magnitudes
from autoprune.passes.learners.schedule import Polynomial, Timing


@dataclass(frozen=True)
class GMP(MaskMethod, name="gmp"):
    """Gradual magnitude pruning (Zhu and Gupta, 2017), for any format.

    After `t` steps the sparsity is `s (1 - (1 - (t - t0) / (n dt))^3)` (equation 1, from 0), where
    the pruning part begins at `t0` and has `n` periods of `dt` steps. When a period ends, the
    weights or blocks with the smallest norms are removed, and not trained any more. Formats that
    say themselves how much is kept get there by the same cubic: of N:M the number of kept inputs
    falls from M to N.
    """

    timing: ClassVar[Timing] = Timing(start=0.1, stop=0.7, periods=10, ramp=Polynomial(3))

    def after(self, training: MaskTraining) -> None:
        if training.period_ends:
            scores = magnitudes(training)
            training.set_levels(training.schedule.reached(training.step + 1), scores)
            training.choose(scores)
