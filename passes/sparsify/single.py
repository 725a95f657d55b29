"""One matrix made sparse at once, and how much of several."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from autoprune.errors import BudgetError
from autoprune.passes.registry import Registry
from autoprune.passes.sparsify.distribution import Distribution, Layer, find_levels
from autoprune.passes.sparsify.layout import Array, Format, Mask, Scores
from autoprune.passes.sparsify.masks import check_sparsity, l1, l2
from autoprune.passes.sparsify.reconstruction import reconstruct
from autoprune.passes.sparsify.specs import FormatSpec

SPARSITY = 0.8
"""Share of the weights that is removed where none is asked for: from about there on, sparse
kernels are clearly faster than dense ones."""

WeightCriterion = Callable[[Array], Scores]
"""From a matrix [outputs, inputs] to the importance of each weight, 0 or more."""

WEIGHT_CRITERIA: Registry[WeightCriterion] = Registry(
    "criterion", BudgetError, "a function of a matrix"
)
WEIGHT_CRITERIA.add("l1", l1)
WEIGHT_CRITERIA.add("l2", l2)


@dataclass(frozen=True, eq=False)
class Request:
    """What to make sparse, and how; arguments of `autoprune.sparsify`.

    Attributes:
        format: one format, or formats by name or pattern.
        sparsity: share of the weights to remove, or None for the default.
        ignore: names or patterns to leave dense.
        distribution: over the layers.
        criterion: importance of weights.
        rearrange: reorder channels first.
    """

    format: FormatSpec
    sparsity: float | None
    ignore: tuple[str, ...]
    distribution: str | Distribution
    criterion: str | WeightCriterion
    rearrange: bool = False


@dataclass(frozen=True, eq=False)
class Matrix:
    """A weight that becomes sparse, as a matrix.

    Attributes:
        values: shape [outputs, inputs].
        format: which masks are allowed.
        dims: shape of the weight, [outputs, inputs, *kernel].
    """

    values: Array
    format: Format
    dims: tuple[int, ...]


def open_sparsity(
    weights: Iterable[tuple[Format, tuple[int, int]]], sparsity: float | None
) -> float:
    """The sparsity of the weights whose format leaves it open.

    Args:
        weights: format and shape of each matrix.
        sparsity: what was asked for, or None.

    Raises:
        BudgetError: if it is no fraction, or was given although no format leaves it open.
    """
    if sparsity is None:
        return SPARSITY
    check_sparsity(sparsity)
    formats = list(weights)
    if all(format.levels(shape) is None for format, shape in formats):
        raise BudgetError(
            f"the format {formats[0][0]} says itself how much is kept, not sparsity={sparsity:g}",
            hint="leave the sparsity out, or take another format",
        )
    return float(sparsity)


def open_levels(
    matrices: Iterable[tuple[str, Matrix]],
    score: WeightCriterion,
    sparsity: float,
    distribution: str | Distribution,
) -> dict[str, int]:
    """Levels to keep of the matrices whose format leaves that open, by name.

    Args:
        matrices: by name, one after the other.
        score: the criterion.
        sparsity: share of all their weights to remove.
        distribution: as for `find_levels`.

    Raises:
        BudgetError: as `find_levels`.
    """
    layers = {
        name: Layer(np.asarray(score(m.values), np.float64), m.format, m.dims)
        for name, m in matrices
        if m.format.levels((m.values.shape[0], m.values.shape[1])) is not None
    }
    return find_levels(layers, sparsity, distribution)


def sparse_matrix(
    values: Array, gram: Array | None, format: Format, keep: int | None, score: WeightCriterion
) -> tuple[Mask, Array, float | None]:
    """The mask of a matrix, what stays of it, and the error of the layer's outputs.

    Args:
        values: shape [outputs, inputs].
        gram: as for `reconstruct`; None to keep what the criterion finds important, as it is.
        format: which masks are allowed.
        keep: levels to keep, if the format leaves that open.
        score: the criterion.
    """
    if gram is None:
        mask = format.choose(np.asarray(score(values), np.float64), keep)
        return mask, np.where(mask, values, values.dtype.type(0)), None
    every = format.levels((values.shape[0], values.shape[1]))
    share = None if keep is None or every is None else 1 - keep / every
    found = reconstruct(values, gram, format, share)
    return found.mask, found.weight, found.error
