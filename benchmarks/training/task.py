"""What is trained: a network, data, and the recipe that every method follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

Inputs = tuple[Tensor, ...]
"""Positional arguments of a network; the first dimension of each counts examples."""

Prepare = Callable[[Inputs, torch.Generator | None], Inputs]
"""Makes stored inputs what the network takes; draws an augmentation where given a generator."""


def as_stored(inputs: Inputs, _: torch.Generator | None) -> Inputs:
    """Inputs that are stored as the network takes them."""
    return inputs


@dataclass(frozen=True)
class Examples:
    """Inputs and the classes to predict.

    Attributes:
        inputs: tensors of shape [examples, ...].
        targets: class numbers of shape [examples], or [examples, positions].
    """

    inputs: Inputs
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, index: Tensor | slice) -> tuple[Inputs, Tensor]:
        """Inputs and targets of some examples."""
        return tuple(x[index] for x in self.inputs), self.targets[index]


@dataclass(frozen=True)
class Data:
    """Examples to train on, and others to test on."""

    train: Examples
    test: Examples
    prepare: Prepare = as_stored

    @property
    def example(self) -> Inputs:
        """Inputs of two test examples, to trace a network on."""
        return self.prepare(self.test.take(slice(2))[0], None)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, by whichever method.

    Attributes:
        epochs: passes over the data, all phases of a method together.
        batch: examples a step.
        optimizer: makes an optimizer of parameters and a learning rate.
        rate: peak of the learning rate where training starts from the task's initial weights.
        tuning_rate: the same where a network that was just cut is trained on.
        label_smoothing: probability spread over all classes in training.
        sparsity: strength of Torch-Pruning's group norm regularizer.
    """

    epochs: float
    batch: int
    optimizer: Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]
    rate: float
    tuning_rate: float
    label_smoothing: float = 0.0
    sparsity: float = 0.0


@dataclass(frozen=True)
class Task:
    """A network to be trained on data.

    Attributes:
        name: short, for the names of runs.
        title: for tables.
        metric: what a test gives: accuracy in percent, or perplexity.
        load: reads the data, given the folder for what is fetched.
        build: makes the network with its initial weights.
        recipe: how it is trained.
    """

    name: str
    title: str
    metric: Literal["accuracy", "perplexity"]
    load: Callable[[Path], Data]
    build: Callable[[], nn.Module]
    recipe: Recipe
