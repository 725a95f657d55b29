"""CRIC keeps a unit that saliency alone condemns, and leaves no trace of its trials."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.passes import learners
from tests.learners.regression import Regression, train

SCALES = torch.tensor([100.0, 1.0, 1.0, 1.0])
"""The first feature is large, so that its weight is small: 0.1 against 1."""

TIMING = learners.Timing(start=0.5, stop=0.9, periods=2)


def problem():
    """Orthogonal features; the first one's weight is optimal, those of the others not quite."""
    model = Regression(torch.diag(SCALES), outputs=2)
    truth = torch.ones(4, 2)
    truth[0] = 0.1
    x = torch.eye(4)
    y = (x @ model.features) @ truth
    with torch.no_grad():
        model.weight.copy_(truth * torch.tensor([[1.0], [0.9], [0.9], [0.9]]))
    return model, x, y


def survivors(method):
    model, x, y = problem()
    pruner = ap.Pruner(model, x, multiple_of=1)
    base = torch.optim.SGD(model.parameters(), lr=1e-5)
    optimizer = pruner.learn(base, method, channels=0.75, steps=40, timing=TIMING)
    train(model, optimizer, x, y, 40)
    return (model.weight.detach().norm(dim=1) > 0).tolist()


def test_a_small_weight_that_matters_most():
    assert survivors(learners.HESSO()) == [False, True, True, True]
    kept = survivors(learners.HESSOCRIC(cycles=4, samples=5))
    assert kept[0]
    assert sum(kept) == 3


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


@pytest.mark.parametrize("with_loss", [False, True])
def test_trials_leave_weights_and_statistics_as_they_were(with_loss):
    torch.manual_seed(0)
    model, x, y = Net(), torch.randn(16, 1, 8, 8), torch.randint(3, (16,))

    def loss():
        return nn.functional.cross_entropy(model(x), y)

    pruner = ap.Pruner(model, x[:2], multiple_of=1)
    method = learners.HESSOCRIC(cycles=2, samples=5, loss=loss if with_loss else None)
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer = pruner.hesso_cric(base, method, channels=0.5, steps=40, timing=TIMING)
    states, moved = [], 0
    for step in range(20):
        if step == 15:
            states.append(copy.deepcopy(model.state_dict()))
        optimizer.zero_grad()
        loss().backward()
        if step == 10:
            states.append(copy.deepcopy(model.state_dict()))
        before = model.conv.weight.detach().clone()
        optimizer.step()
        if step >= 10:
            moved += not torch.equal(before, model.conv.weight)
            if "done" in optimizer.training.memory:
                break
    states.append(model.state_dict())
    assert moved
    for name in states[0]:
        for later in states[1:]:
            assert torch.equal(states[0][name], later[name]), name


def test_the_change_of_the_loss_counts():
    """Only with `loss`, what a share of the group does to it is in the scores."""
    plain, informed = problem(), problem()
    scores = []
    for model, x, y in (plain, informed):
        pruner = ap.Pruner(model, x, multiple_of=1)

        def loss(model=model, x=x, y=y):
            return nn.functional.mse_loss(model(x), y)

        method = learners.HESSOCRIC(cycles=1, samples=4, loss=loss if scores else None)
        base = torch.optim.SGD(model.parameters(), lr=1e-5)
        optimizer = pruner.hesso_cric(base, method, channels=0.75, steps=40, timing=TIMING)
        train(model, optimizer, x, y, 20)
        scores.append(optimizer.training.memory["scores"])
    added = scores[1] - scores[0]
    # By magnitude the first unit goes first: its loss is that of every larger share, too.
    assert added[0] > 0


def test_too_little_warm_up_is_refused():
    model, x, y = problem()
    pruner = ap.Pruner(model, x, multiple_of=1)
    base = torch.optim.SGD(model.parameters(), lr=1e-5)
    timing = learners.Timing(start=0.0, stop=0.9, periods=2)
    optimizer = pruner.hesso_cric(base, channels=0.75, steps=40, timing=timing)
    with pytest.raises(ap.LearnerError, match="too few to try units"):
        train(model, optimizer, x, y, 1)
