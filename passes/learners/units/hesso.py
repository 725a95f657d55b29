"""HESSO: choose in periods, shrink linearly, train on."""

from __future__ import annotations

from dataclasses import dataclass

from autoprune.passes.learners.units.saliency import hesso_saliency, update_moments
from autoprune.passes.learners.units.unit_training import Method, UnitTraining


@dataclass(frozen=True)
class HESSO(Method, name="hesso"):
    """Hybrid efficient structured sparse optimizer (Chen et al., 2024): no settings but the target.

    When a period begins, the units with the lowest saliency are added to those that will be
    removed; they shrink linearly until they are zero when it ends. The rest trains undisturbed.
    """

    def before(self, training: UnitTraining) -> None:
        if training.schedule.begins_period(training.step):
            training.scratch = training.units.copies()

    def after(self, training: UnitTraining) -> None:
        if training.schedule.begins_period(training.step):
            rates = training.rates(training.units)
            moments = update_moments(training.units, training.scratch, rates)
            scores = training.agreed(hesso_saliency(moments, training.units))
            training.choose(training.target(scores), scores)
            training.scratch = []
