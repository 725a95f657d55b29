"""HESSO-CRIC: before anything is chosen, find out which units only seem redundant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from autoprune.errors import LearnerError
from autoprune.passes.learners.sharding import reshard
from autoprune.passes.learners.units.saliency import (
    TINY,
    Moments,
    hesso_saliency,
    moments_of,
    normalized,
)
from autoprune.passes.learners.units.selection import lowest
from autoprune.passes.learners.units.unit_training import Method, UnitTraining

LEVELS = (0.25, 0.5, 0.75)
"""Shares of each group that are set to zero for one look at the loss."""


@dataclass(frozen=True)
class HESSOCRIC(Method, name="hesso_cric"):
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

    def pauses(self, training: UnitTraining) -> bool:
        return "done" not in training.memory and self._begin(training) <= training.step < (
            training.schedule.start
        )

    def gradients(self, training: UnitTraining) -> None:
        if not self.pauses(training):
            return
        memory, units = training.memory, training.units
        sample = (training.step - self._begin(training)) % self.samples
        if training.step == self._begin(training):
            memory["tried"] = units.none()
            memory["deviation"] = self._deviation(training)
            for name in ("xd", "dd", "seen"):
                memory[name] = units.zeros()
        if not sample:
            _keep(training)
        moments = moments_of(units, training.weights, lambda _, part: part.dense_gradient)
        if not sample:
            _collect(training, moments, ~memory["tried"])
            scores = training.agreed(self._scores(training))
            memory["trying"] = training.target(scores) & ~memory["tried"]
            # Of these, only what the path shows counts; this step is its first sample.
            for name in ("xd", "dd", "seen"):
                memory[name] = torch.where(memory["trying"], 0.0, memory[name])
        _collect(training, moments, memory["trying"])

    def after(self, training: UnitTraining) -> None:
        memory = training.memory
        if self.pauses(training):
            sample = (training.step - self._begin(training)) % self.samples
            left = self.samples - sample - 1
            if left and bool(memory["trying"].any()):
                factors = torch.where(memory["trying"], left / (left + 1), 1.0)
                training.units.among(memory["trying"]).scale(factors)
            elif not left or not sample:
                self._end(training)
        elif training.schedule.begins_period(training.step):
            if training.step == training.schedule.start:
                memory["target"] = training.target(memory["scores"])
            training.choose(memory["target"], memory["scores"])

    def _begin(self, training: UnitTraining) -> int:
        cycles = min(self.cycles, training.schedule.start // self.samples)
        if cycles < 1:
            raise LearnerError(
                f"{training.schedule.start} steps before the pruning part are too few to try units "
                f"in cycles of {self.samples}",
                hint="give a Timing with a later start, or HESSOCRIC with fewer samples",
            )
        return training.schedule.start - cycles * self.samples

    def _end(self, training: UnitTraining) -> None:
        """Put the weights back; forget them after the last cycle."""
        memory = training.memory
        _put_back(training)
        memory["tried"] = memory["tried"] | memory["trying"]
        memory["scores"] = training.agreed(self._scores(training))
        last = training.step + 1 == training.schedule.start
        if last or not bool((training.target(memory["scores"]) & ~memory["tried"]).any()):
            training.memory = {
                "scores": memory["scores"], "tried": memory["tried"], "done": torch.ones(())
            }  # fmt: skip
            training.weights = []

    def _scores(self, training: UnitTraining) -> Tensor:
        memory = training.memory
        seen = memory["seen"].clamp_min(1)
        weights = training.weights
        moments = Moments(
            xx=training.units.sums(lambda i, _: weights[i].float().square()),
            dd=memory["dd"] / seen,
            xd=memory["xd"] / seen,
            size=training.units.sizes(),
        )
        return hesso_saliency(moments, training.units) + memory["deviation"]

    def _deviation(self, training: UnitTraining) -> Tensor:
        """Relative change of the loss by setting a unit's share of its group to zero."""
        deviation = training.units.zeros()
        if self.loss is None:
            return deviation
        _keep(training)
        norms = training.agreed(training.units.norms())
        reference = self._loss(training)
        start = 0
        for group in training.units.groups:
            own = training.units.none()
            own[start : start + group.units] = True
            start += group.units
            below = training.units.none()
            for level in LEVELS:
                mask = lowest(norms, own, round(level * group.units))
                training.units.among(mask).scale(1.0 - mask.float())
                change = self._loss(training) / max(abs(reference), TINY) - 1
                _put_back(training)
                deviation[mask & ~below] = max(change, 0.0)
                below = mask
            deviation[own & ~below] = max(change, 0.0)
        return normalized(training.agreed(deviation), training.units)

    def _loss(self, training: UnitTraining) -> float:
        assert self.loss is not None
        loss = float(self.loss())
        reshard(training.model)
        return loss


def _collect(training: UnitTraining, moments: Moments, mask: Tensor) -> None:
    memory = training.memory
    memory["xd"] = memory["xd"] + torch.where(mask, moments.xd, 0.0)
    memory["dd"] = memory["dd"] + torch.where(mask, moments.dd, 0.0)
    memory["seen"] = memory["seen"] + mask


def _keep(training: UnitTraining) -> None:
    """Remember weights and buffers, in the state, so that a run can stop within a cycle."""
    training.weights = training.units.copies()
    for i, buffer in enumerate(training.model.buffers()):
        training.memory[f"buffer.{i}"] = buffer.clone()


def _put_back(training: UnitTraining) -> None:
    for part, weights in zip(training.units.slices, training.weights, strict=True):
        part.local.copy_(weights)
    for i, buffer in enumerate(training.model.buffers()):
        buffer.copy_(training.memory[f"buffer.{i}"])
