"""Group-sparse linear regression: a convex problem whose answer is known."""

from __future__ import annotations

import torch
from torch import nn


class Regression(nn.Module):
    """Outputs [n, k] that are linear in some features of the inputs [n, m].

    A unit is a feature: a row of `weight`, which is trained, and a column of `features`, which is
    not.
    """

    def __init__(self, features, outputs=2):
        super().__init__()
        self.register_buffer("features", features)
        self.weight = nn.Parameter(torch.zeros(features.shape[1], outputs))

    def forward(self, x):
        return (x @ self.features) @ self.weight


def random_problem(seed=0, features=16, relevant=6, outputs=12, noise=0.05):
    """A model, its data, and which features the answers depend on."""
    generator = torch.Generator().manual_seed(seed)

    inputs, examples = 32, 256

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    model = Regression(draw(inputs, features) / inputs**0.5, outputs)
    with torch.no_grad():
        model.weight.copy_(0.3 * draw(features, outputs))
    support = torch.zeros(features, dtype=torch.bool)
    support[torch.randperm(features, generator=generator)[:relevant]] = True
    truth = draw(features, outputs) * support[:, None]
    x = draw(examples, inputs)
    y = (x @ model.features) @ truth
    return model, x, y + noise * draw(*y.shape), support


def train(model, optimizer, x, y, steps):
    """Full-batch steps on half the squared error of an example."""
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * (model(x) - y).square().sum() / len(x)).backward()
        optimizer.step()
