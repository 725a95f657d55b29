"""SRigL: a constant number of inputs for every output, exchanged while training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import ClassVar

import torch
from torch import Tensor

from autoprune.errors import LearnerError
from autoprune.passes.learners.masks.choices import highest
from autoprune.passes.learners.masks.mask_training import MaskMethod, MaskTraining, magnitudes
from autoprune.passes.learners.schedule import Timing
from autoprune.passes.sparsify.formats.patterns import ConstantFanIn
from autoprune.passes.sparsify.weights import Weight


@dataclass(frozen=True)
class SRigL(MaskMethod, name="srigl"):
    """Structured RigL (Lasby et al., ICLR 2024, section 3), for constant fan-in.

    From the first step of the pruning part the network is as sparse as in the end. Whenever a
    period ends, the smallest weights of a layer are removed, and as many grow, from zero, where the
    gradient is largest, such that every output has as many inputs. An output with too few salient
    weights (large ones, and removed ones with large gradients) is ablated: it loses all inputs, and
    the others share them, unless the format states the fan-in.

    Attributes:
        fraction: alpha, the share of the weights that are exchanged at first; it falls to zero as
            half a period of a cosine.
        saliency: gamma, the least share of the fan-in that has to be salient; 0 ablates nothing.
    """

    timing: ClassVar[Timing] = Timing(start=0.0, stop=0.75, periods=20)

    fraction: float = 0.3
    saliency: float = 0.3

    def __post_init__(self) -> None:
        if not (0 <= self.fraction <= 1 and 0 <= self.saliency <= 1):
            raise LearnerError(
                f"{self} cannot exchange weights", hint="fraction and saliency are from 0 to 1"
            )

    def check(self, weights: Sequence[Weight]) -> None:
        for weight in weights:
            if not isinstance(weight.format, ConstantFanIn):
                raise LearnerError(
                    f"SRigL keeps a constant fan-in, not the format {weight.format}",
                    where=weight.name,
                    hint='ap.Sparsifier(model, format="fan-in", sparsity=0.8), or another method',
                )

    def gradients(self, training: MaskTraining) -> None:
        """Keep the gradients of removed weights where they are asked for; then they get none."""
        if training.period_ends:
            training.scratch = [training.gradient(i).abs() for i in range(len(training.weights))]
        super().gradients(training)

    def after(self, training: MaskTraining) -> None:
        schedule, step = training.schedule, training.step
        gradients, training.scratch = training.scratch, []
        if step == schedule.start:
            scores = magnitudes(training)
            training.set_levels(1.0, scores)
            training.choose(scores)
        elif training.period_ends and step + 1 < schedule.stop:
            progress = (step + 1 - schedule.start) / (schedule.stop - schedule.start)
            share = self.fraction / 2 * (1 + cos(pi * progress))
            training.set_masks(
                self._exchanged(training, i, gradient, share)
                for i, gradient in enumerate(gradients)
            )

    def _exchanged(self, training: MaskTraining, i: int, gradient: Tensor, share: float) -> Tensor:
        weight, fan_in = training.weights[i], training.levels[i]
        mask = weight.matrix(training.masks[i])
        size = training.values(i).abs()
        kept = int(mask.sum())
        exchanged = int(share * kept)
        # Removed weights have size zero, but so may kept ones.
        rank = torch.where(mask, size, -1.0).reshape(1, -1)
        survives = highest(rank, kept - exchanged).reshape(mask.shape)
        growth = torch.where(mask, -1.0, gradient).reshape(1, -1)
        promising = highest(growth, exchanged).reshape(mask.shape) & ~mask
        salient, inputs = (survives | promising).sum(dim=1), mask.sum(dim=1)
        alive = inputs > 0
        fit = alive & (salient >= self.saliency * int(inputs.max()))
        if not bool(fit.any()):
            fit = alive
        if weight.format.levels(weight.shape) is not None:
            # What ablated outputs had goes to the others.
            fan_in = min(round(fan_in * len(mask) / int(fit.sum())), mask.shape[1])
        grown = highest(torch.where(survives, torch.inf, gradient), fan_in)
        return grown & fit[:, None]
