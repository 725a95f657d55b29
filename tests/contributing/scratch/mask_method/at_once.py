"""The smallest weights go, all at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from autoprune.passes.learners.masks.mask_training import MaskMethod, MaskTraining, magnitudes
from autoprune.passes.learners.schedule import Timing


@dataclass(frozen=True)
class AtOnce(MaskMethod, name="at_once"):
    """When the only period ends."""

    timing: ClassVar[Timing] = Timing(start=0.0, stop=0.5, periods=1)

    def after(self, training: MaskTraining) -> None:
        if training.period_ends:
            scores = magnitudes(training)
            training.set_levels(1.0, scores)
            training.choose(scores)
