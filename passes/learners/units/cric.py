"""HESSO-CRIC: before anything is chosen, find out which units only seem redundant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from autoprune.errors import LearnerError
from autoprune.passes.learners.sharding import reshard
from autoprune.passes.learners.units.method import Method
from autoprune.passes.learners.units.saliency import (
    TINY,
    Moments,
    gradient_moments,
    hesso_saliency,
    normalized,
)
from autoprune.passes.learners.units.selection import lowest
from autoprune.passes.learners.units.state import Course

LEVELS = (0.25, 0.5, 0.75)
"""Shares of each group that are set to zero for one look at the loss."""


@dataclass(frozen=True)
class HESSOCRIC(Method):
    """HESSO with the corrective redundant identification cycle (Chen et al., 2024, section 4).

    Saliency at one point condemns units that the network cannot do without. So in the last steps
    before the pruning part, units that seem redundant are tried: in cycles of a few steps, in which
    the base optimizer rests, the candidates are moved along the straight path to zero, and <x, g>
    is collected with the gradients g found there; its mean is the change of the loss when they go
    (the first-order term of Taylor, with several samples). Weights and buffers are then put back.
    What is now among the lowest and was not tried makes the next cycle, until there is nothing
    new. With `loss`, the change of the loss when a quarter, a half and three quarters of a group
    are zero is added to the saliencies of the units that were. All units that go are then chosen at
    once, by the collected saliencies, and shrink period by period as in HESSO.

    Attributes:
        cycles: cycles at most; fewer if the steps before the pruning part do not suffice.
        samples: steps of a cycle, each with a batch of the training loop.
        loss: returns the loss on some fixed batch; called three times per group and once more.
            None leaves this term out.
    """

    cycles: int = 10
    samples: int = 5
    loss: Callable[[], float | Tensor] | None = field(default=None, repr=False)

    def pauses(self, course: Course) -> bool:
        """While units are tried."""
        return "done" not in course.memory and self._begin(course) <= course.step < (
            course.schedule.start
        )

    def gradients(self, course: Course) -> None:
        """Collect <x, g>."""
        if not self.pauses(course):
            return
        memory, units = course.memory, course.units
        sample = (course.step - self._begin(course)) % self.samples
        if course.step == self._begin(course):
            memory["tried"] = units.none()
            memory["deviation"] = self._deviation(course)
            for name in ("xd", "dd", "seen"):
                memory[name] = units.zeros()
        if not sample:
            _keep(course)
        moments = gradient_moments(units, course.weights)
        if not sample:
            _collect(course, moments, ~memory["tried"])
            scores = course.agreed(self._scores(course))
            memory["trying"] = course.target(scores) & ~memory["tried"]
            # Of these, only what the path shows counts; this step is its first sample.
            for name in ("xd", "dd", "seen"):
                memory[name] = torch.where(memory["trying"], 0.0, memory[name])
        _collect(course, moments, memory["trying"])

    def after(self, course: Course) -> None:
        """Move on along the path, end a cycle, or choose the units of a period."""
        memory = course.memory
        if self.pauses(course):
            sample = (course.step - self._begin(course)) % self.samples
            left = self.samples - sample - 1
            if left and bool(memory["trying"].any()):
                factors = torch.where(memory["trying"], left / (left + 1), 1.0)
                course.units.among(memory["trying"]).scale(factors)
            elif not left or not sample:
                self._end(course)
        elif course.schedule.begins_period(course.step):
            if course.step == course.schedule.start:
                memory["target"] = course.target(memory["scores"])
            course.choose(memory["target"], memory["scores"])

    def _begin(self, course: Course) -> int:
        """The first step of the first cycle."""
        cycles = min(self.cycles, course.schedule.start // self.samples)
        if cycles < 1:
            raise LearnerError(
                f"{course.schedule.start} steps before the pruning part are too few to try units "
                f"in cycles of {self.samples}",
                hint="give a Timing with a later start, or HESSOCRIC with fewer samples",
            )
        return course.schedule.start - cycles * self.samples

    def _end(self, course: Course) -> None:
        """Put the weights back; forget them after the last cycle."""
        memory = course.memory
        _put_back(course)
        memory["tried"] = memory["tried"] | memory["trying"]
        memory["scores"] = course.agreed(self._scores(course))
        last = course.step + 1 == course.schedule.start
        if last or not bool((course.target(memory["scores"]) & ~memory["tried"]).any()):
            course.memory = {
                "scores": memory["scores"], "tried": memory["tried"], "done": torch.ones(())
            }  # fmt: skip
            course.weights = []

    def _scores(self, course: Course) -> Tensor:
        memory = course.memory
        seen = memory["seen"].clamp_min(1)
        weights = course.weights
        moments = Moments(
            xx=course.units.sums(lambda i, _: weights[i].float().square()),
            dd=memory["dd"] / seen,
            xd=memory["xd"] / seen,
            size=course.units.sizes(),
        )
        return hesso_saliency(moments, course.units) + memory["deviation"]

    def _deviation(self, course: Course) -> Tensor:
        """Relative change of the loss by setting a unit's share of its group to zero."""
        deviation = course.units.zeros()
        if self.loss is None:
            return deviation
        _keep(course)
        norms = course.agreed(course.units.norms())
        reference = self._loss(course)
        start = 0
        for group in course.units.groups:
            own = course.units.none()
            own[start : start + group.units] = True
            start += group.units
            below = course.units.none()
            for level in LEVELS:
                mask = lowest(norms, own, round(level * group.units))
                course.units.among(mask).scale(1.0 - mask.float())
                change = self._loss(course) / max(abs(reference), TINY) - 1
                _put_back(course)
                deviation[mask & ~below] = max(change, 0.0)
                below = mask
            deviation[own & ~below] = max(change, 0.0)
        return normalized(course.agreed(deviation), course.units)

    def _loss(self, course: Course) -> float:
        assert self.loss is not None
        loss = float(self.loss())
        reshard(course.model)
        return loss


def _collect(course: Course, moments: Moments, mask: Tensor) -> None:
    memory = course.memory
    memory["xd"] = memory["xd"] + torch.where(mask, moments.xd, 0.0)
    memory["dd"] = memory["dd"] + torch.where(mask, moments.dd, 0.0)
    memory["seen"] = memory["seen"] + mask


def _keep(course: Course) -> None:
    """Remember weights and buffers, in the state, so that a run can stop within a cycle."""
    course.weights = course.units.copies()
    for i, buffer in enumerate(course.model.buffers()):
        course.memory[f"buffer.{i}"] = buffer.clone()


def _put_back(course: Course) -> None:
    for part, weights in zip(course.units.slices, course.weights, strict=True):
        part.local.copy_(weights)
    for i, buffer in enumerate(course.model.buffers()):
        buffer.copy_(course.memory[f"buffer.{i}"])
