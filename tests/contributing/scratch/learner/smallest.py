"""The smallest units go."""

from __future__ import annotations

from dataclasses import dataclass

from autoprune.passes.learners.units.unit_training import Method, UnitTraining


@dataclass(frozen=True)
class Smallest(Method, name="smallest"):
    """When a period begins, those with the lowest norms begin to shrink."""

    def after(self, training: UnitTraining) -> None:
        if training.schedule.begins_period(training.step):
            scores = training.agreed(training.units.norms())
            training.choose(training.target(scores), scores)
