"""Regression problems whose true weights are sparse, and short runs on them."""

from __future__ import annotations

import torch
from torch import nn

import autoprune as ap
from autoprune.passes.learners.masks import GMP, SRSTE, Learnable, SRigL
from autoprune.passes.sparsify.masks import find_mask
from autoprune.passes.sparsify.registry import parse_format

INPUTS, OUTPUTS, STEPS = 24, 16, 240

METHODS = {
    "gmp": GMP(),
    "sr_ste": SRSTE(),
    "sr_ste_progressive": SRSTE(progressive=True),
    "srigl": SRigL(),
    "learnable": Learnable(),
}


def sparsity_for(name):
    """Of formats that leave it open, the one that the true weights have."""
    return None if ":" in name or name.split()[-1].isdigit() else 0.75


def true_weights(name, seed=0):
    """Weights [outputs, inputs] of a format, and where they are."""
    rng = torch.Generator().manual_seed(seed)
    places = torch.rand(OUTPUTS, INPUTS, generator=rng).double().numpy()
    mask = torch.from_numpy(find_mask(parse_format(name), places, sparsity_for(name)))
    signs = torch.randint(0, 2, (OUTPUTS, INPUTS), generator=rng) * 2 - 1
    weights = signs * (0.7 + 0.6 * torch.rand(OUTPUTS, INPUTS, generator=rng))
    return weights * mask, mask


def problem(name, seed=0, samples=512):
    """A layer that does not know them, inputs, outputs, and where the weights are."""
    weights, mask = true_weights(name, seed)
    rng = torch.Generator().manual_seed(seed + 1)
    x = torch.randn(samples, INPUTS, generator=rng)
    model = nn.Sequential(nn.Linear(INPUTS, OUTPUTS, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(0.3 * torch.randn(OUTPUTS, INPUTS, generator=rng))
    return model, x, x @ weights.T, mask


def adam(params):
    return torch.optim.Adam(params, lr=0.05)


def started(name, method, make=adam):
    """A model, its sparsifier and optimizer, and the data."""
    model, x, y, _ = problem(name)
    sparsifier = ap.Sparsifier(model, x[:1], format=name, sparsity=sparsity_for(name))
    optimizer = sparsifier.train(make(model.parameters()), method, steps=STEPS)
    return model, sparsifier, optimizer, (x, y)


def train(model, optimizer, data, steps=range(STEPS)):
    """Full-batch steps."""
    x, y = data
    for _ in steps:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
