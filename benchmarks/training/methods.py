"""How a small network is got: learners, and what they are compared with.

Every method has the same number of steps, whether it trains once or in two phases.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

import autoprune as ap
from autoprune.passes import learners
from benchmarks.training.group_norm import group_norm
from benchmarks.training.loop import Trainer

Method = Callable[[Trainer, nn.Module, float], nn.Module]
"""Trains a network with its initial weights, and returns one with the share of FLOPs to keep."""

Settings = Callable[[Trainer, nn.Module], learners.Method]
"""Makes a learner's settings for a run and its network."""

TRAINED = 0.6
"""Share of the steps before the cut, where a method has two phases."""

# Batch sizes differ between training and testing; a result that is a graph has to follow.
OPTIONS = ap.Options(dynamic_shapes="batch")


def dense(trainer: Trainer, network: nn.Module, _: float) -> nn.Module:
    """Train, and cut nothing."""
    recipe = trainer.task.recipe
    trainer.train(network, recipe.optimizer(network.parameters(), recipe.rate), trainer.steps)
    return network


def learn(settings: Settings, trainer: Trainer, network: nn.Module, kept: float) -> nn.Module:
    """Train once with a learner, after which what is zero is cut."""
    recipe = trainer.task.recipe
    pruner = ap.Pruner(network, trainer.data.example, multiple_of=1, options=OPTIONS)
    base = recipe.optimizer(network.parameters(), recipe.rate)
    method = settings(trainer, network)
    optimizer = pruner.learn(base, method, flops=kept, steps=trainer.steps)
    trainer.train(network, optimizer, trainer.steps)
    return pruner.finish().model


def cut_and_tune(criterion: str, trainer: Trainer, network: nn.Module, kept: float) -> nn.Module:
    """Train, cut the units with the lowest scores all at once, and train what is left."""
    recipe = trainer.task.recipe
    before = round(TRAINED * trainer.steps)
    trainer.train(network, recipe.optimizer(network.parameters(), recipe.rate), before)
    small = ap.prune(
        network, trainer.data.example,
        flops=kept, criterion=criterion, multiple_of=1, seed=trainer.seed, options=OPTIONS,
    ).model  # fmt: skip
    optimizer = recipe.optimizer(small.parameters(), recipe.tuning_rate)
    trainer.train(small, optimizer, trainer.steps - before)
    return small


LEARNING: dict[str, Settings] = {
    "hesso": lambda *_: learners.HESSO(),
    "dhspg": lambda *_: learners.DHSPG(),
    "hesso_cric": lambda trainer, network: learners.HESSOCRIC(loss=trainer.probe(network)),
    "hspg": lambda *_: learners.HSPG(),
    "group_lasso": lambda *_: learners.GroupLasso(),
    "wgsef": lambda *_: learners.WGSEF(),
    "polarization": lambda *_: learners.Polarization(),
    "turbo_vbi": lambda trainer, _: learners.TurboVBI(examples=len(trainer.data.train)),
}
"""Defaults, but for what depends on the data."""

METHODS: dict[str, Method] = {
    "dense": dense,
    **{name: partial(learn, settings) for name, settings in LEARNING.items()},
    "one-shot": partial(cut_and_tune, "l2"),
    "random": partial(cut_and_tune, "random"),
    "torch-pruning": partial(group_norm, TRAINED),
}
