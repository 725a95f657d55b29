"""Penalties that make unneeded units small; what is smallest at the end is removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from autoprune.passes.learners.schedule import Polynomial, Ramp
from autoprune.passes.learners.units.saliency import TINY
from autoprune.passes.learners.units.slices import Units
from autoprune.passes.learners.units.unit_training import Method, UnitTraining


@dataclass(frozen=True)
class Penalized(Method):
    """A method that acts on gradients until the last period, and then removes the smallest units.

    The penalty is on in the pruning part up to its last period. Units are compared by their
    magnitude relative to the mean of their group, and those that go shrink in the last period.
    """

    def after(self, training: UnitTraining) -> None:
        if training.step == training.schedule.last_period:
            scores = training.agreed(self.importance(training))
            training.choose(training.target(scores), scores)

    def acts(self, training: UnitTraining) -> bool:
        return training.schedule.start <= training.step < training.schedule.last_period

    def importance(self, training: UnitTraining) -> Tensor:
        """What units are compared by; shape [units]."""
        return relative_magnitude(training.units)


def relative_magnitude(units: Units) -> Tensor:
    """||x_g|| divided by its mean over the group, so that layers compare; shape [units]."""
    norms = units.split(units.norms())
    return torch.cat([of_group / of_group.mean().clamp_min(TINY) for of_group in norms])


def root_mean_square(units: Units) -> Tensor:
    """||x_g|| / sqrt(|g|); shape [units]."""
    return units.norms() / units.sizes().clamp_min(1).sqrt()


@dataclass(frozen=True)
class GroupLasso(Penalized, name="group_lasso"):
    """Group lasso on the units, as a term in the gradients.

    `plain`: strength * sum ||x_g|| (Yuan and Lin, 2006, without weights for the sizes of groups).
    `importance`: DepGraph (Fang et al., CVPR 2023, section 3.3), strength * gamma_g x_g with
    gamma_g = 2^(alpha (Imax - I_g) / (Imax - Imin)), where I_g is the norm of the unit and the
    extremes are those of its group. `growing`: the units that the target wants removed at present
    are penalized by a factor on x_g that rises from 0 to `strength` (Wang et al., ICLR 2021).

    Attributes:
        strength: factor of the penalty; None for 1e-3, 1e-4 and 1.
        weighting: which of the three.
        alpha: for `importance`, how much more the least important units are penalized.
        ramp: for `growing`, how the factor rises over the pruning part.
    """

    strength: float | None = None
    weighting: Literal["plain", "importance", "growing"] = "importance"
    alpha: float = 4.0
    ramp: Ramp = Polynomial()

    def gradients(self, training: UnitTraining) -> None:
        if self.acts(training):
            training.units.add_decay(self.coefficients(training, training.units.norms()))

    def coefficients(self, training: UnitTraining, norms: Tensor) -> Tensor:
        """By what multiple of its weights the gradients of each unit change; shape [units]."""
        if self.weighting == "plain":
            strength = 1e-3 if self.strength is None else self.strength
            return strength / norms.clamp_min(TINY)
        if self.weighting == "importance":
            strength = 1e-4 if self.strength is None else self.strength
            rank = torch.cat([_rank(of_group) for of_group in training.units.split(norms)])
            return strength * 2 ** (self.alpha * rank)
        schedule = training.schedule
        strength = 1.0 if self.strength is None else self.strength
        if schedule.begins_period(training.step):
            magnitude = relative_magnitude(training.units)
            training.memory["target"] = training.target(training.agreed(magnitude))
        progress = (training.step - schedule.start) / (schedule.last_period - schedule.start)
        return strength * self.ramp(progress) * training.memory["target"].float()


def _rank(norms: Tensor) -> Tensor:
    """0 for the largest of a group, 1 for the smallest, linear between."""
    spread = (norms.max() - norms.min()).clamp_min(TINY)
    return (norms.max() - norms) / spread


@dataclass(frozen=True)
class Polarization(Penalized, name="polarization"):
    """Polarization regularizer (Zhuang et al., NeurIPS 2020, equation 2), with norms for gates.

    strength * (t ||s||_1 - ||s - mean(s)||_1) for the gates s of each group drives some to zero and
    holds the others away from it. The paper takes weights of batch normalization for gates;
    here the gate of a unit is the norm of its weights, ||x_g||, normalization included, which
    every unit has, and which other weights cannot make up for.

    Attributes:
        strength: factor of the regularizer.
        t: how strongly the sum of the gates is held down against their spread.
    """

    strength: float = 1e-3
    t: float = 1.2

    def gradients(self, training: UnitTraining) -> None:
        if self.acts(training):
            norms = training.units.norms()
            slopes = torch.cat([self._slope(gates) for gates in training.units.split(norms)])
            training.units.add_decay(self.strength * slopes / norms.clamp_min(TINY))

    def _slope(self, gates: Tensor) -> Tensor:
        """Derivative of the regularizer by each gate, all of which are positive."""
        sign = (gates - gates.mean()).sign()
        return self.t - (sign - sign.mean())
