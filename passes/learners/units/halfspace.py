"""HSPG and DHSPG: penalties on whole units, and projection to zero out of a half-space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autoprune.passes.learners.units.penalties import relative_magnitude
from autoprune.passes.learners.units.saliency import TINY, Moments, dhspg_redundancy, update_moments
from autoprune.passes.learners.units.slices import Units
from autoprune.passes.learners.units.unit_training import Method, UnitTraining


@dataclass(frozen=True)
class HSPG(Method, name="hspg"):
    """Half-space stochastic projected gradient (OTO, Chen et al., NeurIPS 2021, algorithm 2).

    The norm of every unit is penalized from the first step, as if the loss had the term
    `penalty * sum ||x_g||`. From the beginning of the pruning part on, a unit is set to zero when a
    step leaves the half-space {z: <z, x_g> >= epsilon ||x_g||^2}. The paper leaves open how many
    units become zero; here only those may that the target wants removed by their norms, which
    is decided anew every period, and those still missing shrink in the last period.

    Attributes:
        penalty: lambda; None for 1e-3 with SGD and 1e-2 with other optimizers.
        epsilon: 0 projects when a step turns the unit round, values up to 1 earlier.
    """

    penalty: float | None = None
    epsilon: float = 0.0

    def before(self, training: UnitTraining) -> None:
        if training.step < training.schedule.last_period:
            training.scratch = training.units.copies()

    def after(self, training: UnitTraining) -> None:
        schedule, units = training.schedule, training.units
        if schedule.begins_period(training.step):
            scores = training.agreed(relative_magnitude(units))
            training.memory["target"] = training.target(scores)
            if training.step == schedule.last_period:
                training.choose(training.memory["target"], scores)
        if training.step < schedule.last_period:
            old, training.scratch = training.scratch, []
            norms = units.sums(lambda i, _: old[i].float().square()).sqrt()
            rate = penalty_of(self.penalty, training.base)
            active = ~training.zero
            descend(training, units, old, torch.where(active, rate, 0.0), norms)
            if schedule.prunes(training.step):
                among = active & training.memory["target"]
                project(training, units, old, norms, among, self.epsilon)


@dataclass(frozen=True)
class DHSPG(Method, name="dhspg"):
    """Dual half-space projected gradient (OTOv2, Chen et al., ICLR 2023, algorithm 2).

    When the pruning part begins, the units are divided once: those that the target wants removed
    are penalized, the others train undisturbed. The penalty of a unit is so strong that the
    step is a direction of descent for its norm, and not so strong that it is none for the loss. A
    penalized unit that leaves the half-space {z: <z, x_g> >= epsilon ||x_g||^2} is set to zero;
    those still missing shrink in the last period.

    Attributes:
        penalty: least lambda; None for 1e-3 with SGD and 1e-2 with other optimizers.
        amplify: factor on the lambda that just lets the norm fall; None for 2 and 20.
        cap: greatest lambda as a multiple of `penalty`; None for 10 and 1e3.
        epsilon: 0 projects when a step turns the unit round, values up to 1 earlier.
    """

    penalty: float | None = None
    amplify: float | None = None
    cap: float | None = None
    epsilon: float = 0.9

    def before(self, training: UnitTraining) -> None:
        if training.step == training.schedule.start:
            training.scratch = training.units.copies()
        elif self._penalizes(training):
            penalized = training.units.among(training.memory["target"] & ~training.zero)
            training.scratch = penalized.copies()

    def after(self, training: UnitTraining) -> None:
        schedule, units = training.schedule, training.units
        old, training.scratch = training.scratch, []
        if training.step == schedule.start:
            moments = update_moments(units, old, training.rates(units))
            scores = training.agreed(-dhspg_redundancy(moments, units))
            training.memory["target"] = training.target(scores)
        elif self._penalizes(training):
            active = training.memory["target"] & ~training.zero
            penalized = units.among(active)
            moments = update_moments(penalized, old, training.rates(penalized))
            strength = torch.where(active, self._strength(moments, training.base), 0.0)
            descend(training, penalized, old, strength, moments.norm)
            project(training, penalized, old, moments.norm, active, self.epsilon)
        if training.step == schedule.last_period:
            scores = training.agreed(relative_magnitude(units))
            training.choose(training.memory["target"], scores)

    def _penalizes(self, training: UnitTraining) -> bool:
        return training.schedule.start < training.step < training.schedule.last_period and bool(
            (training.memory["target"] & ~training.zero).any()
        )

    def _strength(self, moments: Moments, base: torch.optim.Optimizer) -> Tensor:
        """Lambda of every unit (section 3.2 of the paper)."""
        plain = is_sgd(base)
        penalty = penalty_of(self.penalty, base)
        amplify = (2.0 if plain else 20.0) if self.amplify is None else self.amplify
        cap = (10.0 if plain else 1e3) if self.cap is None else self.cap
        norm = moments.norm.clamp_min(TINY)
        growing = moments.xd < 0
        low = -moments.xd / norm
        high = torch.where(growing, -moments.dd * norm / moments.xd.clamp_max(-TINY), torch.inf)
        strength = (amplify * low).clamp(penalty, penalty * cap)
        strength = torch.where(strength >= high, (low + high) / 2, strength)
        return torch.where(growing, strength, penalty)


def is_sgd(base: torch.optim.Optimizer) -> bool:
    """Whether updates are gradients rather than normalized directions."""
    return isinstance(base, torch.optim.SGD)


def penalty_of(penalty: float | None, base: torch.optim.Optimizer) -> float:
    """The penalty asked for, or what the authors use with such an optimizer."""
    if penalty is not None:
        return penalty
    return 1e-3 if is_sgd(base) else 1e-2


def descend(
    training: UnitTraining, units: Units, old: list[Tensor], strength: Tensor, norms: Tensor
) -> None:
    """Take the gradient step of `sum strength_g ||x_g||`, at the old weights, of these norms."""
    coefficients = training.agreed(-strength / norms.clamp_min(TINY))
    units.add(coefficients, [p.local for p in units.slices], old, training.rates(units))


def project(
    training: UnitTraining,
    units: Units,
    old: list[Tensor],
    norms: Tensor,
    among: Tensor,
    epsilon: float,
) -> None:
    """Set to zero those among some units whose step from the old weights left their half-space."""
    along = units.sums(lambda i, part: old[i].float() * part.local.float())
    leaving = among & (training.agreed(along - epsilon * norms.square()) < 0)
    if bool(leaving.any()):
        training.erase(leaving)
