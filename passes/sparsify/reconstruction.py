"""Make a trained layer sparse at once, and let the kept weights make up for the removed ones.

The layer's output error on calibration data is a quadratic function of its weights,
`(w - w0) H (w - w0)` for each output, with `H = 2 X^T X` of the inputs X. The mask is chosen by
the scores of Optimal Brain Surgeon in one sweep over the inputs, as in SparseGPT (Frantar and
Alistarh, 2023). Then, other than there, the kept weights are solved for: they are the minimum for
this mask, not only an approximation of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoprune.errors import FormatError
from autoprune.passes.sparsify.layout import Array, Format, Mask, Scores
from autoprune.passes.sparsify.masks import kept_levels

CHUNK = 32
"""Inputs whose weights are chosen at once, before the error they leave is passed on.

Smaller chunks choose better: on random layers with correlated inputs, all inputs at once leave an
error 1.1 to 1.7 times that of one at a time.
"""


@dataclass(frozen=True)
class Reconstruction:
    """A layer that was made sparse.

    Attributes:
        weight: the corrected weights, zero where removed; dtype and shape of the original.
        mask: where weights are kept.
        error: squared error of the layer's outputs on the calibration data, relative to the
            squared outputs.
    """

    weight: Array
    mask: Mask
    error: float


def reconstruct(
    weight: Array,
    gram: Array,
    format: Format,
    sparsity: float | None = None,
    *,
    damping: float = 0.01,
    chunk: int = CHUNK,
) -> Reconstruction:
    """Choose a mask by the layer's output error, and correct the weights that stay.

    Args:
        weight: shape [outputs, inputs]; those of a convolution unfolded.
        gram: `X^T X` of the layer's inputs X [samples, inputs], summed over calibration data;
            shape [inputs, inputs].
        format: which masks are allowed.
        sparsity: as for `find_mask`.
        damping: added to the diagonal of `gram`, as a share of its mean: what it costs to change a
            weight whose input never varied.
        chunk: inputs that are chosen at once.

    Raises:
        FormatError: if shapes do not agree, weights are integers, numbers are not finite, or inputs
            are linearly dependent and not damped.
        BudgetError: as for `find_mask`.
    """
    hessian = _damped(weight, gram, damping)
    original = weight.astype(np.float64)
    keep = kept_levels(format, (weight.shape[0], weight.shape[1]), sparsity)
    mask = _sweep(original, hessian, format, keep, chunk)
    solved = refit(original, mask, hessian)
    change = solved - original
    energy = float(np.sum((original @ gram) * original))
    error = float(np.sum((change @ gram) * change)) / max(energy, 1e-300)
    return Reconstruction(solved.astype(weight.dtype), mask, error)


def refit(weight: Array, mask: Mask, hessian: Array) -> Array:
    """The weights under a mask whose outputs are nearest to those of all the weights.

    For each output, the minimum of `(w - w0) H (w - w0)` over all w that are zero outside of the
    mask. Outputs with the same inputs are solved for together.

    Args:
        weight: w0; shape [outputs, inputs].
        mask: where weights are kept.
        hessian: H, symmetric and positive definite; shape [inputs, inputs].

    Raises:
        FormatError: if `hessian` is singular in the inputs that an output keeps.
    """
    targets = weight.astype(np.float64) @ hessian
    solved = np.zeros_like(targets)
    patterns, owner = np.unique(np.packbits(mask, axis=1), axis=0, return_inverse=True)
    for pattern in range(len(patterns)):
        rows = np.flatnonzero(owner.ravel() == pattern)
        kept = np.flatnonzero(mask[rows[0]])
        try:
            block = np.linalg.solve(hessian[np.ix_(kept, kept)], targets[np.ix_(rows, kept)].T)
        except np.linalg.LinAlgError as error:
            raise _dependent() from error
        solved[np.ix_(rows, kept)] = block.T
    return solved


def _damped(weight: Array, gram: Array, damping: float) -> Array:
    if weight.ndim != 2 or gram.shape != (weight.shape[1], weight.shape[1]):
        raise FormatError(
            f"a Gram matrix of shape {list(gram.shape)} is given for weights of shape "
            f"{list(weight.shape)}",
            hint="its two sizes are the inputs of the weights",
        )
    if not np.issubdtype(weight.dtype, np.floating):
        raise FormatError(
            f"{weight.dtype} weights cannot be corrected", hint="make them sparse, then quantize"
        )
    if not (np.isfinite(weight).all() and np.isfinite(gram).all()):
        raise FormatError("weights or calibration data are not finite")
    hessian = 2 * gram.astype(np.float64)
    diagonal = hessian.diagonal()
    return hessian + damping * max(float(diagonal.mean()), 1e-30) * np.eye(len(hessian))


def _sweep(original: Array, hessian: Array, format: Format, keep: int | None, chunk: int) -> Mask:
    """Choose the mask from the first inputs to the last.

    The scores of weights not yet decided are the errors that their removal would leave after
    correcting all others not yet decided. The format chooses among them and, by extreme scores,
    the decided ones; so that it need not be one that can be chosen in parts.
    """
    factor = _inverse_factor(hessian)
    weight = original.copy()
    inputs = weight.shape[1]
    mask = np.zeros(weight.shape, dtype=np.bool_)
    for start in range(0, inputs, chunk):
        stop = min(start + chunk, inputs)
        mask[:, start:stop] = _choose(weight, factor, mask, start, format, keep)[:, start:stop]
        passed = np.zeros((len(weight), stop - start))
        for j in range(start, stop):
            passed[:, j - start] = np.where(mask[:, j], 0, weight[:, j] / factor[j, j])
            weight[:, j:stop] -= np.outer(passed[:, j - start], factor[j, j:stop])
        weight[:, stop:] -= passed @ factor[start:stop, stop:]
    return mask


def _choose(
    weight: Array, factor: Array, mask: Mask, start: int, format: Format, keep: int | None
) -> Mask:
    inverse = np.square(factor[start:, start:]).sum(axis=0)
    scores: Scores = np.square(weight) / np.pad(inverse, (start, 0), constant_values=1.0)
    scores[:, :start] = 0
    above = 1.0 + scores.sum()
    scores[:, :start] = np.where(mask[:, :start], above, -above)
    return format.choose(scores, keep)


def _inverse_factor(hessian: Array) -> Array:
    """Upper triangular U with `U^T U` the inverse.

    Without the first inputs, the rest of U is that of the smaller problem.
    """
    try:
        lower = np.linalg.cholesky(hessian[::-1, ::-1])
    except np.linalg.LinAlgError as error:
        raise _dependent() from error
    # With the inputs reversed, H = V V^T where V is upper triangular, so U is the inverse of V.
    upper: Array = np.linalg.inv(lower[::-1, ::-1])
    return upper


def _dependent() -> FormatError:
    return FormatError(
        "the inputs of the calibration data are linearly dependent",
        hint="give more data, or a damping above 0",
    )
