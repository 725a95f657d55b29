"""Every learner finds the support of a group-sparse regression."""

from __future__ import annotations

import pytest
import torch

import autoprune as ap
from autoprune.passes import learners
from tests.learners.regression import random_problem, train

STEPS = 400

METHODS = [
    learners.HSPG(),
    learners.DHSPG(),
    learners.HESSO(),
    learners.HESSOCRIC(cycles=4),
    learners.GroupLasso(weighting="plain"),
    learners.GroupLasso(weighting="importance"),
    learners.GroupLasso(weighting="growing"),
    learners.WGSEF(),
    learners.Polarization(),
    learners.TurboVBI(examples=256, persistence=0.5),
]


SGD, AdamW = torch.optim.SGD, torch.optim.AdamW


@pytest.mark.parametrize(("make", "seed"), [(SGD, 0), (SGD, 1), (AdamW, 2)])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_support_is_recovered(method, seed, make):
    model, x, y, support = random_problem(seed)
    pruner = ap.Pruner(model, x[:2], multiple_of=1)
    base = make(model.parameters(), lr=0.3 if make is torch.optim.SGD else 0.05)
    # DHSPG judges by the direction in which weights move, which at the optimum is noise.
    early = isinstance(method, learners.DHSPG)
    timing = learners.Timing(start=0.1 if early else 0.4, stop=0.8)
    optimizer = pruner.learn(base, method, channels=6 / 16, steps=STEPS, timing=timing)
    train(model, optimizer, x, y, STEPS)
    assert (model.weight.detach().norm(dim=1) > 0).tolist() == support.tolist()
    least_squares = torch.linalg.lstsq((x @ model.features)[:, support], y).solution
    if make is torch.optim.SGD:
        # What is left has been trained on to the optimum without penalties.
        torch.testing.assert_close(model.weight.detach()[support], least_squares, rtol=0, atol=1e-3)
    small = pruner.finish().model
    assert small.weight.shape == (6, 12)


def test_penalties_shrink_what_is_irrelevant_before_it_is_removed():
    """Magnitudes of irrelevant units fall under plain group lasso, and not without."""
    sizes = {}
    for strength in (0.0, 0.2):
        model, x, y, support = random_problem(0, noise=0.5)
        pruner = ap.Pruner(model, x[:2], multiple_of=1)
        base = torch.optim.SGD(model.parameters(), lr=0.3)
        method = learners.GroupLasso(strength=strength, weighting="plain")
        timing = learners.Timing(start=0.0, stop=1.0, periods=2)
        optimizer = pruner.learn(base, method, channels=6 / 16, steps=STEPS, timing=timing)
        train(model, optimizer, x, y, STEPS // 2)
        sizes[strength] = float(model.weight.detach()[~support].norm())
    assert sizes[0.2] < 0.5 * sizes[0.0]
