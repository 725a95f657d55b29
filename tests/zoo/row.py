"""One row of the zoo: how to build a model and what to feed it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from tests.zoo.weights import Inputs, build


@dataclass(frozen=True)
class ZooModel:
    """A model under test.

    `build` gives it in eval mode with random weights, the same each time. `inputs` gives a batch
    of 2 for it, a tuple of positional or a dict of keyword arguments, the same each time. `cheap`
    rows take a second or two through the whole pipeline and belong in the quick test run.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Inputs]
    cheap: bool
    notes: str = ""


def row(
    name: str,
    make: Callable[[], nn.Module],
    inputs: Callable[[], Inputs],
    notes: str = "",
    *,
    cheap: bool = True,
) -> ZooModel:
    """The row for the network of `make`, with the random weights of `weights.build`."""
    return ZooModel(name, lambda: build(make, inputs()), inputs, cheap, notes)


def normal(*shapes: tuple[int, ...]) -> Callable[[], Inputs]:
    """One normally distributed positional input per shape."""

    def inputs() -> Inputs:
        rng = torch.Generator().manual_seed(1)
        return tuple(torch.randn(shape, generator=rng) for shape in shapes)

    return inputs


def integers(bound: int, *shapes: tuple[int, ...]) -> Callable[[], Inputs]:
    """One positional input of integers below `bound` per shape."""

    def inputs() -> Inputs:
        rng = torch.Generator().manual_seed(1)
        return tuple(torch.randint(bound, shape, generator=rng) for shape in shapes)

    return inputs
