"""Turbo-VBI: supports of units as a Markov chain, precisions, weights, by variational inference."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from autoprune.passes.learners.units.penalties import Penalized, root_mean_square
from autoprune.passes.learners.units.saliency import TINY
from autoprune.passes.learners.units.unit_training import UnitTraining


@dataclass(frozen=True)
class TurboVBI(Penalized, name="turbo_vbi"):
    """Structured Bayesian compression (Turbo-VBI, Xia et al., 2023).

    A unit's weights are Gaussian with a precision that is Gamma distributed; the precision is
    moderate where the unit has support and high where it has not; supports are a Markov chain along
    the units of a group, so that survivors cluster. In turns, the variational posterior of
    precisions follows from the weights, that of supports from the precisions by message passing
    along the chain, and the weights are trained with the expected precision as weight decay. Of the
    weights' posterior only the mean is kept, which is what the base optimizer trains: a
    variance would need gradients of single examples. Units with the lowest posterior support go.

    Attributes:
        examples: number of training examples, against which the prior is weighed.
        strength: factor of the prior (a tempered posterior); 1 is Bayes' rule.
        contrast: ratio of the expected precisions without and with support.
        persistence: probability that the next unit of the chain has the same support.
        interval: steps between two updates of the posterior.
    """

    examples: int = 50_000
    strength: float = 0.02
    contrast: float = 100.0
    persistence: float = 0.7
    interval: int = 10

    def gradients(self, training: UnitTraining) -> None:
        if not self.acts(training):
            return
        units, memory = training.units, training.memory
        if (training.step - training.schedule.start) % self.interval == 0:
            self._update(training)
        coefficients = self.strength * memory["precision"] / self.examples
        units.add_decay(coefficients)

    def importance(self, training: UnitTraining) -> Tensor:
        """Posterior log-odds of the support; magnitudes if there was no time to learn them."""
        return (
            training.memory["odds"] if "odds" in training.memory else super().importance(training)
        )

    def _update(self, training: UnitTraining) -> None:
        units, memory = training.units, training.memory
        size = units.sizes()
        if "support" not in memory:
            memory["support"] = torch.full_like(size, 0.5)
            square = root_mean_square(units).square()
            # Precisions are in units of the group's own at the start.
            memory["scale"] = torch.cat(
                [part.mean().expand_as(part) for part in units.split(square)]
            ).clamp_min(TINY)
        support, scale = memory["support"], memory["scale"]
        # Gamma(1, scale) with support, Gamma(1, scale / contrast) without.
        shape = 1 + size / 2
        rate = scale * (support + (1 - support) / self.contrast)
        memory["precision"] = training.agreed(shape / (rate + 0.5 * units.norms().square()))
        evidence = log(self.contrast) - scale * (1 - 1 / self.contrast) * memory["precision"]
        memory["odds"] = torch.cat(
            [chain_odds(part, self.persistence) for part in units.split(evidence)]
        )
        memory["support"] = memory["odds"].sigmoid()


def chain_odds(evidence: Tensor, persistence: float) -> Tensor:
    """Posterior log-odds of a two-state Markov chain, both of whose states are equally likely.

    Forward and backward messages by prefix products of 2 x 2 matrices, in log2(n) rounds.

    Args:
        evidence: log-likelihood ratio of state 1 against state 0 of each link; shape [n].
        persistence: probability of staying in a state.

    Returns:
        log p(1 | all evidence) / p(0 | all evidence) of each link; shape [n].
    """
    move = torch.tensor(
        [[persistence, 1 - persistence], [1 - persistence, persistence]],
        dtype=torch.float64, device=evidence.device,
    ).log()  # fmt: skip
    links = evidence.double()
    left, right = _messages(links, move), _messages(links.flip(0), move).flip(0)
    # What comes from the right of a link leaves the next one; its own evidence is in the left one.
    leaving = torch.cat((right[1:], torch.zeros_like(right[:1])))
    posterior = left + torch.logsumexp(leaving[:, None, :] + move, dim=2)
    return (posterior[:, 1] - posterior[:, 0]).to(evidence.dtype)


def _messages(evidence: Tensor, move: Tensor) -> Tensor:
    """Log p(evidence up to link i, state of link i), up to a constant; shape [n, 2]."""
    likelihood = torch.stack((torch.zeros_like(evidence), evidence), dim=1)
    return torch.logsumexp(_prefix(move + likelihood[:, None, :]), dim=1)


def _prefix(matrices: Tensor) -> Tensor:
    """Log-space products M_0 ... M_i of matrices given by their logarithms, for every i."""
    products, reach = matrices, 1
    while reach < len(products):
        joined = torch.logsumexp(
            products[:-reach, :, :, None] + products[reach:, None, :, :], dim=2
        )
        products = torch.cat((products[:reach], joined))
        products = products - products.amax(dim=(1, 2), keepdim=True)
        reach *= 2
    return products
