"""Masks that are trained by gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from autoprune.errors import LearnerError
from autoprune.passes.learners.masks.choices import Choices, choices_of, highest
from autoprune.passes.learners.masks.mask_training import MaskMethod, MaskTraining
from autoprune.passes.learners.schedule import Polynomial, Timing
from autoprune.passes.sparsify.weights import Weight

BISECTIONS = 22
"""Halvings of an interval of thresholds, which leave about 1e-5 of a temperature."""

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Of Adam, which trains the scores."""


@dataclass(frozen=True)
class Learnable(MaskMethod, name="learnable"):
    """Learnable masks, after MaskLLM (Fang et al., NeurIPS 2024), for the formats of autoprune.

    Every choice of a format (a block, an input of a group or of an output) has a score. A soft mask
    `sigmoid((score + noise - threshold) / temperature)` multiplies the weights, where the threshold
    of each row of choices is such that the mask sums up to as many as are kept, and the noise is
    Gumbel-distributed: the relaxed choice of the k highest (Xie and Ermon, 2019). MaskLLM relaxes
    the choice among all patterns of a group instead, of which there are too many in larger groups.
    Scores are trained by Adam with the gradient of the loss, together with the weights; they begin
    with the weights' norms. Temperature and noise fall over the pruning part, after which the
    choices with the highest scores stay.

    Attributes:
        rate: learning rate of the scores, which have a standard deviation of 1 at first.
        temperature: at the beginning and at the end.
        noise: scale of the noise at the beginning; it falls linearly to zero.
        seed: of the noise.
    """

    timing: ClassVar[Timing] = Timing(start=0.1, stop=0.7, periods=10, ramp=Polynomial(3))

    rate: float = 0.05
    temperature: tuple[float, float] = (1.0, 0.05)
    noise: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.rate, *self.temperature) <= 0 or self.noise < 0:
            raise LearnerError(
                f"{self} cannot learn masks", hint="rate and temperatures are above 0, noise from 0"
            )

    def check(self, weights: Sequence[Weight]) -> None:
        for weight in weights:
            if choices_of(weight.format, weight.shape) is None:
                raise LearnerError(
                    f"masks of the format {weight.format} cannot be learned by gradients",
                    where=weight.name,
                    hint="use blocks, N:M, fan-in, csr or bitmask; or gmp or sr_ste",
                )

    def gradients(self, training: MaskTraining) -> None:
        """Keep the gradients of scores, and make gradients of weights those of the hidden ones."""
        if not (training.hidden and "scores" in training.memory):
            super().gradients(training)
            return
        training.scratch = []
        gates = self.gates(training)
        for i, (weight, gate) in enumerate(zip(training.weights, gates, strict=True)):
            training.scratch.append(self._slope(training, i))
            if weight.parameter.grad is not None:
                weight.parameter.grad.mul_(gate)

    def after(self, training: MaskTraining) -> None:
        schedule, step = training.schedule, training.step
        if not schedule.prunes(step):
            return
        if step == schedule.start:
            self._begin(training)
        elif training.scratch:
            self._train(training)
        if training.period_ends:
            scores = training.memory["scores"]
            choices = [_choices(weight) for weight in training.weights]
            spread = [c.spread(s) for c, s in zip(choices, scores, strict=True)]
            # Scores may be negative; for a distribution by scores only their order counts.
            training.set_levels(schedule.reached(step + 1), [s - s.min() for s in spread])
            training.set_masks(
                c.spread(highest(_padded(c, s), levels))
                for c, s, levels in zip(choices, scores, training.levels, strict=True)
            )
        if step + 1 == schedule.stop:
            training.memory, training.cache = {}, {}

    def hides(self, training: MaskTraining) -> bool:
        return training.schedule.prunes(training.step)

    def gates(self, training: MaskTraining) -> list[Tensor]:
        if not (self.hides(training) and "scores" in training.memory):
            return training.masks
        return [
            weight.tensor(_choices(weight).spread(soft)).to(weight.parameter.dtype)
            for weight, soft in zip(training.weights, self._softs(training), strict=True)
        ]

    def _begin(self, training: MaskTraining) -> None:
        """Scores that begin with norms, of mean 0 and standard deviation 1."""
        scores = []
        for i, weight in enumerate(training.weights):
            norms = _choices(weight).rows(training.values(i).square()).sqrt()
            scores.append((norms - norms.mean()) / norms.std(correction=0).clamp_min(1e-12))
        zeros = [torch.zeros_like(s) for s in scores]
        training.memory = {
            "scores": scores,
            "first": zeros,
            "second": [z.clone() for z in zeros],
        }

    def _progress(self, training: MaskTraining) -> float:
        schedule = training.schedule
        return (training.step - schedule.start) / (schedule.stop - schedule.start)

    def _temperature(self, training: MaskTraining) -> float:
        hot, cold = self.temperature
        return float(hot * (cold / hot) ** self._progress(training))

    def _softs(self, training: MaskTraining) -> list[Tensor]:
        """The relaxed choices of this step."""
        key = ("soft", training.step)
        if key not in training.cache:
            softs = [self._soft(training, i) for i in range(len(training.weights))]
            training.cache = {key: softs}
        return training.cache[key]

    def _soft(self, training: MaskTraining, i: int) -> Tensor:
        """The relaxed choice of this step; shape [rows, choices]."""
        weight, scores = training.weights[i], training.memory["scores"][i]
        noise = self.noise * (1 - self._progress(training))
        # From the step alone, so that a resumed run draws the same.
        rng = torch.Generator().manual_seed(
            self.seed + (training.step * len(training.weights) + i) * 1_000_003
        )
        uniform = torch.rand(scores.shape, generator=rng).clamp_(1e-6, 1 - 1e-6)
        gumbel = -(-uniform.log()).log()
        noisy = scores + noise * gumbel.to(scores)
        noisy = _padded(_choices(weight), noisy)
        return relaxed_highest(noisy, training.levels[i], self._temperature(training))

    def _slope(self, training: MaskTraining, i: int) -> Tensor:
        """Gradient of the loss by the scores of a parameter.

        With the threshold's dependence on the scores: from `sum m = k` follows
        `dL/ds_j = m'_j (a_j - sum m' a / sum m')`, where a is the gradient by the mask.
        """
        weight = training.weights[i]
        soft = self._softs(training)[i]
        by_mask = _choices(weight).rows(training.gradient(i) * training.values(i))
        slope = soft * (1 - soft) / self._temperature(training)
        mean = (slope * by_mask).sum(1, keepdim=True) / slope.sum(1, keepdim=True).clamp_min(1e-12)
        return slope * (by_mask - mean)

    def _train(self, training: MaskTraining) -> None:
        memory = training.memory
        count = training.step - training.schedule.start
        gradients, training.scratch = training.scratch, []
        for score, first, second, gradient in zip(
            memory["scores"], memory["first"], memory["second"], gradients, strict=True
        ):
            first.lerp_(gradient, 1 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            mean = first / (1 - BETAS[0] ** count)
            scale = (second / (1 - BETAS[1] ** count)).sqrt_().add_(EPSILON)
            score.addcdiv_(mean, scale, value=-self.rate)


def relaxed_highest(scores: Tensor, keep: int, temperature: float) -> Tensor:
    """A soft mask that sums up to `keep` in each row, and keeps the highest as it gets colder.

    `sigmoid((scores - threshold) / temperature)`; choices at minus infinity are never kept.

    Args:
        scores: shape [rows, choices].
        keep: how many; all, if there are fewer.
        temperature: above 0.
    """
    real = scores.isfinite()
    logits = scores / temperature
    finite = torch.where(real, logits, 0.0)
    # At these thresholds even the lowest is kept to 1 - 1e-13, and even the highest goes.
    low = finite.amin(dim=1, keepdim=True) - 30
    high = finite.amax(dim=1, keepdim=True) + 30
    wanted = real.sum(dim=1, keepdim=True).clamp_max(keep)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        above = torch.sigmoid(logits - middle).sum(dim=1, keepdim=True) > wanted
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    soft = torch.sigmoid(logits - (low + high) / 2)
    return torch.where(wanted < real.sum(dim=1, keepdim=True), soft, real.to(soft.dtype))


def _choices(weight: Weight) -> Choices:
    choices = choices_of(weight.format, weight.shape)
    assert choices is not None
    return choices


def _padded(choices: Choices, rows: Tensor) -> Tensor:
    """Scores with minus infinity where a row has no more choices."""
    real = choices.rows(torch.ones(choices.shape, device=rows.device)) > 0
    return rows.masked_fill(~real, -torch.inf)
