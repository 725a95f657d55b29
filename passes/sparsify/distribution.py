"""How much of each of several matrices is kept, so that together they have one sparsity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from autoprune.errors import BudgetError, FormatError
from autoprune.passes.registry import Registry
from autoprune.passes.sparsify.layout import Format, Mask, Scores
from autoprune.passes.sparsify.masks import check_scores, check_sparsity


@dataclass(frozen=True)
class Layer:
    """A matrix that is to become sparse.

    Attributes:
        scores: importance of each weight, 0 or more; shape [outputs, inputs].
        format: its format, one that does not itself say how much is kept.
        dims: the shape of the weight before it became a matrix, [outputs, inputs, *kernel]; by
            default that of the matrix.
    """

    scores: Scores
    format: Format
    dims: tuple[int, ...] = ()

    @property
    def levels(self) -> int:
        """The number of steps in which it can become sparse.

        Raises:
            BudgetError: if its format says itself how much is kept.
        """
        outputs, inputs = self.scores.shape
        levels = self.format.levels((outputs, inputs))
        if levels is None:
            raise BudgetError(
                f"the format {self.format} says itself how much is kept",
                hint="leave such matrices out when a sparsity is distributed",
            )
        return levels

    @property
    def step(self) -> float:
        """Weights of a level, on average."""
        return self.scores.size / self.levels


Distribution = Callable[[Mapping[str, Layer], float], dict[str, float]]
"""From layers and a total of weights to the levels, and fractions of one, that each layer would
keep to make that total."""


def uniform(layers: Mapping[str, Layer], weights: float) -> dict[str, float]:
    """The same share of every layer."""
    share = weights / sum(layer.scores.size for layer in layers.values())
    return {name: share * layer.levels for name, layer in layers.items()}


def erk(layers: Mapping[str, Layer], weights: float) -> dict[str, float]:
    """Erdos-Renyi-Kernel (Evci et al., 2020): a share that falls with a layer's size.

    The share is proportional to the sum of the weight's dimensions over their product; layers that
    would keep more than all of their weights stay dense, and the others make up for it.
    """
    raw = {
        name: sum(dims) / prod(dims)
        for name, layer in layers.items()
        for dims in [layer.dims or layer.scores.shape]
    }
    dense: set[str] = set()
    while True:
        rest = [name for name in layers if name not in dense]
        room = weights - sum(layers[name].scores.size for name in dense)
        scale = room / max(sum(raw[name] * layers[name].scores.size for name in rest), 1e-30)
        full = {name for name in rest if scale * raw[name] > 1}
        if not full:
            shares = {name: 1.0 if name in dense else scale * raw[name] for name in layers}
            return {name: shares[name] * layer.levels for name, layer in layers.items()}
        dense |= full


def by_scores(layers: Mapping[str, Layer], weights: float) -> dict[str, float]:
    """The weights with the highest scores, wherever they are.

    Scores are divided by their mean in the layer, so that layers of different scale compare.
    """
    gains, owners = [], []
    for i, layer in enumerate(layers.values()):
        mean = max(float(layer.scores.mean()), 1e-30)
        gains.append(layer.format.gains(layer.scores) / (layer.step * mean))
        owners.append(np.full(layer.levels, i))
    owner = np.concatenate(owners)[np.argsort(-np.concatenate(gains), kind="stable")]
    steps = np.array([layer.step for layer in layers.values()])
    taken = int(np.searchsorted(np.cumsum(steps[owner]), weights, side="right"))
    counts = np.bincount(owner[:taken], minlength=len(layers)).astype(np.float64)
    # A fraction marks the layer that is next in line.
    counts[owner[taken : taken + 1]] += 0.5
    return dict(zip(layers, counts.tolist(), strict=True))


DISTRIBUTIONS: Registry[Distribution] = Registry("distribution", BudgetError, "a function")
DISTRIBUTIONS.add("uniform", uniform)
DISTRIBUTIONS.add("erk", erk)
DISTRIBUTIONS.add("global", by_scores)


def find_masks(
    layers: Mapping[str, Layer], sparsity: float, distribution: str | Distribution = "uniform"
) -> dict[str, Mask]:
    """Masks of several matrices that together have a sparsity.

    Levels are weighted by the weights of a layer over its levels, so a block that sticks out of a
    matrix counts as much as the others. The total is met to half of the largest level, except that
    every layer keeps one at least.

    Args:
        layers: the matrices by name.
        sparsity: share of all their weights to remove.
        distribution: `uniform`, `erk` or `global`, or a function.

    Returns:
        The mask of each matrix, by name.

    Raises:
        BudgetError: if the sparsity is no fraction, the distribution unknown, or a format says
            itself how much is kept.
        FormatError: if scores are not numbers from 0, or `dims` of another size.
    """
    counts = find_levels(layers, sparsity, distribution)
    return {name: layer.format.choose(layer.scores, counts[name]) for name, layer in layers.items()}


def find_levels(
    layers: Mapping[str, Layer], sparsity: float, distribution: str | Distribution = "uniform"
) -> dict[str, int]:
    """How many levels of each matrix `find_masks` keeps; arguments and errors as there."""
    check_sparsity(sparsity)
    for layer in layers.values():
        check_scores(layer.scores)
        if layer.dims and prod(layer.dims) != layer.scores.size:
            raise FormatError(
                f"dims {list(layer.dims)} are not those of scores {list(layer.scores.shape)}"
            )
    if not layers:
        return {}
    weights = (1 - sparsity) * sum(layer.scores.size for layer in layers.values())
    wanted = DISTRIBUTIONS.resolve(distribution)(layers, weights)
    return _whole(layers, wanted, weights)


def _whole(
    layers: Mapping[str, Layer], wanted: Mapping[str, float], weights: float
) -> dict[str, int]:
    """Round numbers of levels down, then move those furthest from theirs to meet the total."""
    counts = {
        name: min(max(int(wanted[name] + 1e-9), 1), layer.levels) for name, layer in layers.items()
    }
    missing = weights - sum(counts[name] * layer.step for name, layer in layers.items())
    while True:
        sign = 1 if missing > 0 else -1
        nearer = [
            name
            for name, layer in layers.items()
            if 1 <= counts[name] + sign <= layer.levels and layer.step < 2 * abs(missing)
        ]
        if not nearer:
            return counts
        chosen = max(nearer, key=lambda name: sign * (wanted[name] - counts[name]))
        counts[chosen] += sign
        missing -= sign * layers[chosen].step
