"""A short training run that all methods can be tried in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import autoprune as ap
from autoprune.passes import learners
from autoprune.passes.learners import Method, SparseOptimizer

STEPS = 24
TIMING = learners.Timing(start=1 / 3, stop=5 / 6, periods=3)
START, LAST_PERIOD, STOP = 8, 16, 20
"""The parts of a run of `STEPS` steps with `TIMING`: periods of four steps."""

METHODS: dict[str, Method] = {
    "hspg": learners.HSPG(),
    "dhspg": learners.DHSPG(),
    "hesso": learners.HESSO(),
    # Trials fill steps 2 to 7.
    "hesso_cric": learners.HESSOCRIC(cycles=2, samples=3),
    "lasso": learners.GroupLasso(weighting="plain"),
    "importance": learners.GroupLasso(weighting="importance"),
    "growing": learners.GroupLasso(weighting="growing"),
    "wgsef": learners.WGSEF(),
    "polarization": learners.Polarization(),
    "turbo_vbi": learners.TurboVBI(examples=64, interval=3),
}

Step = Callable[[nn.Module, int], Tensor]
"""The loss of a model in a step."""


class Perceptron(nn.Module):
    """Two hidden layers, the first with a norm: 4 -> 8 -> 8 -> 2."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first, self.norm = nn.Linear(4, 8), nn.BatchNorm1d(8)
            self.second, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.norm(self.first(x)).relu()).relu())


def vectors(step: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """The batch of a step: 16 vectors of 4, and for each 2 numbers to predict."""
    rng = torch.Generator().manual_seed(step)
    x = torch.randn(16, 4, generator=rng)
    y = torch.stack((x[:, 0] * x[:, 1], x[:, 2].abs()), dim=1)
    return x.to(dtype), y.to(dtype)


def squared_error(model: nn.Module, step: int) -> Tensor:
    """The loss of a `Perceptron`, in whatever precision it has."""
    x, y = vectors(step, next(model.parameters()).dtype)
    return nn.functional.mse_loss(model(x), y)


def learn(
    method: Method,
    base: torch.optim.Optimizer,
    model: nn.Module,
    inputs: Any,
    **settings: Any,
) -> tuple[ap.Pruner, SparseOptimizer]:
    """A Pruner and its optimizer: half of all units go in `STEPS` steps.

    Args:
        method: the method.
        base: optimizer of the model.
        model: the model.
        inputs: example inputs.
        **settings: for the Pruner.
    """
    pruner = ap.Pruner(model, inputs, **{"multiple_of": 1, **settings})
    return pruner, pruner.learn(base, method, groups=0.5, steps=STEPS, timing=TIMING)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Step = squared_error,
    steps: Iterable[int] = range(STEPS),
) -> None:
    """The usual loop."""
    for step in steps:
        optimizer.zero_grad()
        loss(model, step).backward()
        optimizer.step()


def state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of parameters and buffers."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Whether tensors are equal bit by bit."""
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
