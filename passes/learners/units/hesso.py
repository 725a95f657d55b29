"""HESSO: choose in periods, shrink linearly, train on."""

from __future__ import annotations

from dataclasses import dataclass

from autoprune.passes.learners.units.method import Method
from autoprune.passes.learners.units.saliency import hesso_saliency, update_moments
from autoprune.passes.learners.units.state import Course


@dataclass(frozen=True)
class HESSO(Method):
    """Hybrid efficient structured sparse optimizer (Chen et al., 2024): no settings but the target.

    When a period begins, the units with the lowest saliency are added to those that will be
    removed; they shrink linearly until they are zero when it ends. The rest trains undisturbed.
    """

    def before(self, course: Course) -> None:
        """Keep the weights of steps whose update is judged."""
        if course.schedule.begins_period(course.step):
            course.scratch = course.units.copies()

    def after(self, course: Course) -> None:
        """Choose the units of the period."""
        if course.schedule.begins_period(course.step):
            rates = course.rates(course.units)
            moments = update_moments(course.units, course.scratch, rates)
            scores = course.agreed(hesso_saliency(moments, course.units))
            course.choose(course.target(scores), scores)
            course.scratch = []
