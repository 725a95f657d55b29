"""WGSEF: the weighted group sparse envelope, and its proximal map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autoprune.passes.learners.schedule import Polynomial, Ramp
from autoprune.passes.learners.units.penalties import Penalized, relative_magnitude
from autoprune.passes.learners.units.saliency import TINY
from autoprune.passes.learners.units.unit_training import UnitTraining


@dataclass(frozen=True)
class WGSEF(Penalized, name="wgsef"):
    """Weighted group sparse envelope function, applied by its proximal map after every step.

    R_k(u) is the minimum over t of 1/2 sum ||u_j||^2 / t_j with 0 <= t_j <= 1 and
    sum d_j t_j <= k: it leaves the groups alone that a budget of k pays for, and shrinks the rest
    to zero. Here d_j is the number of scalars of a unit, and k what the units weigh that the target
    keeps (Beck and Refael, 2022; Refael et al., 2024).

    Attributes:
        strength: the proximal parameter, as a multiple of the learning rate.
        ramp: how it rises over the pruning part.
    """

    strength: float = 0.1
    ramp: Ramp = Polynomial()

    def after(self, training: UnitTraining) -> None:
        if self.acts(training):
            schedule, units, memory = training.schedule, training.units, training.memory
            if schedule.begins_period(training.step):
                memory["target"] = training.target(training.agreed(relative_magnitude(units)))
            weights = units.sizes()
            budget = float(weights[~memory["target"]].sum())
            progress = (training.step - schedule.start) / (schedule.last_period - schedule.start)
            rate = max(training.rates(units), default=0.0)
            amount = rate * self.strength * self.ramp(progress)
            if amount > 0:
                factors = proximal_factors(units.norms(), weights, budget, amount)
                units.scale(training.agreed(factors))
        super().after(training)


def proximal_factors(norms: Tensor, weights: Tensor, budget: float, amount: float) -> Tensor:
    """The proximal map of `amount * R_k`, as a factor for every group.

    x_j = u_j t_j / (t_j + amount) with t_j = clip(eta ||u_j|| / sqrt(d_j) - amount, 0, 1), where
    eta is such that sum d_j t_j = k: the root of a piecewise linear function, found by
    sorting its corners.

    Args:
        norms: ||u_j||; shape [groups].
        weights: d_j, positive; shape [groups].
        budget: k.
        amount: the proximal parameter, positive.

    Returns:
        The factors t_j / (t_j + amount); shape [groups].
    """
    magnitude = norms.double() / weights.double().sqrt()
    there = magnitude > TINY
    if budget >= float(weights[there].sum()):
        full = there.to(norms.dtype)
        return full / (full + amount)
    a, d = magnitude[there], weights.double()[there]
    corners = torch.cat((amount / a, (1 + amount) / a))
    change = torch.cat((d * a, -d * a))
    order = corners.argsort()
    corners, slopes = corners[order], change[order].cumsum(0)
    # The weighted sum of t at every corner.
    reached = torch.cat((slopes.new_zeros(1), (slopes[:-1] * corners.diff()).cumsum(0)))
    after = int(torch.searchsorted(reached, torch.tensor(budget, dtype=reached.dtype)))
    before = max(after - 1, 0)
    eta = corners[before] + (budget - reached[before]) / slopes[before].clamp_min(TINY)
    t = (eta * magnitude - amount).clamp(0, 1)
    return (t / (t + amount)).to(norms.dtype)
