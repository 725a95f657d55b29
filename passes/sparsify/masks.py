"""Which weights of one matrix are kept: scores of weights, and the best mask of a format.

    mask = find_mask(Block(32, 1), l2(weight), sparsity=0.8)

Scores are additive: a block is worth the sum of its weights' scores. Any array of the shape of the
weights will do, such as `np.abs(weight) * input_norms`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from autoprune.errors import BudgetError, FormatError
from autoprune.passes.registry import Registry
from autoprune.passes.sparsify.layout import Array, Format, Mask, Scores


def l1(weight: Array) -> Scores:
    """Absolute values: a block is worth its L1 norm."""
    return np.abs(weight, dtype=np.float64)


def l2(weight: Array) -> Scores:
    """Squares: blocks of equal size are ranked by their L2 norm."""
    return np.square(weight, dtype=np.float64)


def random(weight: Array, seed: int) -> Scores:
    """Independent uniform scores, the baseline: the larger the blocks, the more alike they are."""
    return np.random.default_rng(seed).random(weight.shape)


WeightCriterion = Callable[[Array], Scores]
"""From a matrix [outputs, inputs] to the importance of each weight, 0 or more."""

WEIGHT_CRITERIA: Registry[WeightCriterion] = Registry(
    "criterion", BudgetError, "a function of a matrix"
)
WEIGHT_CRITERIA.add("l1", l1)
WEIGHT_CRITERIA.add("l2", l2)


def find_mask(format: Format, scores: Scores, sparsity: float | None = None) -> Mask:
    """The mask of a format that keeps the highest summed scores.

    Args:
        format: which masks are allowed.
        scores: importance of each weight, 0 or more; shape [outputs, inputs].
        sparsity: share of the matrix to remove, exact to half a block; None if and only if the
            format itself says how much is kept.

    Raises:
        FormatError: if the scores are no matrix of numbers from 0.
        BudgetError: if the sparsity is no fraction, missing, or not for the format to choose.
    """
    check_scores(scores)
    outputs, inputs = scores.shape
    return format.choose(scores, kept_levels(format, (outputs, inputs), sparsity))


def kept_levels(format: Format, shape: tuple[int, int], sparsity: float | None) -> int | None:
    """How many levels of a format stay at a sparsity; None where the format has none.

    Raises:
        BudgetError: if the sparsity is no fraction, missing, or not for the format to choose.
    """
    levels = format.levels(shape)
    if levels is None:
        if sparsity is not None:
            raise no_sparsity(format, sparsity)
        return None
    if sparsity is None:
        raise BudgetError(
            f"the format {format} does not say how much is kept", hint="give a sparsity"
        )
    check_sparsity(sparsity)
    return round((1 - sparsity) * levels)


def no_sparsity(format: Format, sparsity: float) -> BudgetError:
    """What to raise if a sparsity is given that is not for the format to choose."""
    return BudgetError(
        f"the format {format} says itself how much is kept, not sparsity={sparsity:g}",
        hint="leave the sparsity out, or take another format",
    )


def check_scores(scores: Scores) -> None:
    """Check that scores are what formats choose by.

    Raises:
        FormatError: if they are no matrix of numbers from 0.
    """
    if scores.ndim != 2 or not scores.size:
        raise FormatError(f"scores of shape {list(scores.shape)} are not those of a matrix")
    if not np.isfinite(scores).all() or scores.min() < 0:
        raise FormatError(
            "scores must be finite numbers from 0",
            hint="is there a weight that is not a number?",
        )


def check_sparsity(sparsity: float) -> None:
    """Check that a sparsity is a fraction.

    Raises:
        BudgetError: if it is not from 0 to less than 1.
    """
    if isinstance(sparsity, bool) or not isinstance(sparsity, int | float) or not 0 <= sparsity < 1:
        raise BudgetError(
            f"sparsity={sparsity!r} is not a fraction from 0 to less than 1",
            hint="it is the fraction to remove: sparsity=0.8 keeps a fifth",
        )
