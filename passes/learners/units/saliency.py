"""How much units matter, from their weights and the direction in which training moves them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autoprune.passes.learners.units.slices import Slices, Units

TINY = 1e-20


@dataclass(frozen=True, eq=False)
class Moments:
    """Inner products of weights x and update directions d, by unit; all of shape [units].

    The direction is what the base optimizer subtracts, divided by the learning rate: with momentum
    or preconditioning and weight decay, as the base computes them; `size` is the number of scalars.
    """

    xx: Tensor
    dd: Tensor
    xd: Tensor
    size: Tensor

    @property
    def norm(self) -> Tensor:
        return self.xx.sqrt()

    @property
    def average(self) -> Tensor:
        return self.norm / self.size.clamp_min(1)

    @property
    def cosine(self) -> Tensor:
        """Of the angle between x and d: positive where a step shrinks the unit."""
        return self.xd / (self.xx * self.dd).sqrt().clamp_min(TINY)


def moments_of(
    units: Units, weights: Sequence[Tensor], direction: Callable[[int, Slices], Tensor]
) -> Moments:
    """Moments of weights, and of the direction of the i-th parameter, shaped as its local part."""
    return Moments(
        xx=units.sums(lambda i, _: weights[i].float().square()),
        dd=units.sums(lambda i, part: direction(i, part).square()),
        xd=units.sums(lambda i, part: weights[i].float() * direction(i, part)),
        size=units.sizes(),
    )


def update_moments(units: Units, old: Sequence[Tensor], rates: Sequence[float]) -> Moments:
    """Moments of the step that the base optimizer has just done from the old weights.

    Where the learning rate of a parameter is 0, so is the direction.
    """

    def direction(i: int, part: Slices) -> Tensor:
        step = old[i].float() - part.local.float()
        return step / rates[i] if rates[i] else torch.zeros_like(step)

    return moments_of(units, old, direction)


def normalized(values: Tensor, units: Units) -> Tensor:
    """Values divided by their root mean square over the units of each group."""
    return torch.cat(
        [part / part.square().mean().sqrt().clamp_min(TINY) for part in units.split(values)]
    )


def hesso_saliency(moments: Moments, units: Units) -> Tensor:
    """The importance of HESSO (Chen et al., 2024, section 3.2): five metrics, weighted equally.

    Magnitude, average magnitude, cosine, and the first and second order terms of the Taylor
    expansion of the loss at the origin of the unit. Two choices differ from the public code. The
    cosine term is 1 - cos(x, d), so that a unit which training itself moves towards zero matters
    less, as in DHSPG. And each metric is divided by its root mean square over the units of the
    group, not over all units: otherwise layers with many units, all small, lose nearly all of
    them.

    Returns shape [units].
    """
    metrics = (
        moments.norm,
        moments.average,
        1 - moments.cosine,
        moments.xd.abs(),
        0.5 * moments.xd.square(),
    )
    return torch.stack([normalized(metric, units) for metric in metrics]).mean(dim=0)


def dhspg_redundancy(moments: Moments, units: Units) -> Tensor:
    """How little units matter to DHSPG (OTOv2, Chen et al., ICLR 2023, section 3.2).

    Half the cosine between -x and -d, and half the inverse of the average magnitude, each divided
    by its root mean square over the units of the group. Returns shape [units].
    """
    inverse = 1 / moments.average.clamp_min(TINY)
    return 0.5 * normalized(moments.cosine, units) + 0.5 * normalized(inverse, units)
