"""One-shot sparsity: the kept weights are the least-squares optimum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.errors import FormatError
from autoprune.passes.sparsify.formats.blocks import CSR, Block
from autoprune.passes.sparsify.formats.patterns import NM
from autoprune.passes.sparsify.masks import find_mask, l2
from autoprune.passes.sparsify.reconstruction import reconstruct, refit
from autoprune.passes.sparsify.registry import parse_format
from tests.effort import examples
from tests.sparsify.formats import NAMES, seeds, sparsity_for
from tests.tolerance import DIFFERENT, ROUNDING_DOUBLE


def calibration(rng, samples, inputs):
    """Inputs that are correlated, as activations are."""
    return rng.standard_normal((samples, inputs)) @ rng.standard_normal((inputs, inputs))


@given(st.sampled_from(NAMES), st.integers(1, 9), st.integers(1, 12), st.floats(0, 0.9), seeds)
@settings(max_examples=examples(60))
def test_each_output_is_the_least_squares_solution(name, outputs, inputs, sparsity, seed):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((outputs, inputs))
    x = rng.standard_normal((40, inputs))
    format = parse_format(name)
    found = reconstruct(weight, x.T @ x, format, sparsity_for(name, sparsity), damping=0, chunk=4)
    assert format.fits(found.mask) is None
    assert not found.weight[~found.mask].any()
    for row, kept, solved in zip(weight, found.mask, found.weight, strict=True):
        best = np.linalg.lstsq(x[:, kept], x @ row, rcond=None)[0]
        np.testing.assert_allclose(solved[kept], best, atol=ROUNDING_DOUBLE)
    change = x @ (found.weight - weight).T
    relative = np.sum(change**2) / np.sum((x @ weight.T) ** 2)
    assert found.error == pytest.approx(relative, abs=ROUNDING_DOUBLE)


@pytest.mark.parametrize("name", NAMES)
def test_as_many_weights_are_kept_as_without_correction(name):
    rng = np.random.default_rng(1)
    weight, x = rng.standard_normal((24, 30)), calibration(rng, 100, 30)
    format, sparsity = parse_format(name), sparsity_for(name, 0.6)
    found = reconstruct(weight, x.T @ x, format, sparsity, chunk=8)
    plain = find_mask(format, l2(weight), sparsity)
    rows, cols = format.tile
    if 24 % rows == 0 and 30 % cols == 0:
        assert found.mask.sum() == plain.sum()


@pytest.mark.parametrize(
    "name", ["csr", "block 4x1", "2:4", "1:4 shared 4", "fan-in", "block 1x16"]
)
def test_correction_and_choice_both_help(name):
    rng = np.random.default_rng(2)
    weight, x = rng.standard_normal((32, 64)), calibration(rng, 400, 64)
    gram, format, sparsity = x.T @ x, parse_format(name), sparsity_for(name, 0.5)
    found = reconstruct(weight, gram, format, sparsity, chunk=16)
    mask = find_mask(format, l2(weight), sparsity)
    outputs = x @ weight.T

    def error(sparse):
        return np.sum((x @ sparse.T - outputs) ** 2) / np.sum(outputs**2)

    corrected = refit(weight, mask, gram)
    assert error(corrected) < error(np.where(mask, weight, 0)) - DIFFERENT
    assert error(found.weight) < error(corrected) - DIFFERENT


def test_an_input_that_another_makes_up_for_goes():
    x = np.random.default_rng(3).standard_normal((50, 3))
    x[:, 2] = x[:, 0]
    found = reconstruct(np.array([[1.0, 0.5, 1.0]]), x.T @ x, CSR(), 1 / 3, damping=1e-9)
    assert found.mask.sum(axis=1) == 2
    assert found.mask[0, 1]
    assert found.error < DIFFERENT


def test_inputs_that_take_over_count_for_what_they_took():
    # Three inputs nearly the same, and one of its own; two of the three are decided first.
    rng = np.random.default_rng(8)
    signals = np.linalg.qr(rng.standard_normal((50, 5)))[0]
    same, other, noise = signals[:, :1], signals[:, 1:2], signals[:, 2:]
    x = np.hstack([same + 1e-3 * noise, other])
    found = reconstruct(np.array([[0.5, 0.5, 0.6, 1.5]]), x.T @ x, CSR(), 0.75, chunk=2, damping=0)
    assert found.mask.tolist() == [[False, False, True, False]]
    assert found.weight[0, 2] == pytest.approx(1.6, rel=1e-3)


def test_chunks_change_the_choice_at_most():
    rng = np.random.default_rng(4)
    weight, x = rng.standard_normal((8, 20)), calibration(rng, 60, 20)
    for chunk in (1, 7, 128):
        found = reconstruct(weight, x.T @ x, NM(2, 4), chunk=chunk)
        assert NM(2, 4).fits(found.mask) is None
        assert found.mask.sum() == 80


def test_the_dtype_stays_and_the_original_too():
    rng = np.random.default_rng(5)
    weight, x = rng.standard_normal((4, 8)).astype(np.float32), calibration(rng, 20, 8)
    before = weight.copy()
    found = reconstruct(weight, x.T @ x, Block(2, 1), 0.5)
    assert found.weight.dtype == np.float32
    assert (weight == before).all()


def test_nothing_removed_changes_nothing():
    rng = np.random.default_rng(6)
    weight, x = rng.standard_normal((4, 8)), rng.standard_normal((40, 8))
    found = reconstruct(weight, x.T @ x, CSR(), 0.0)
    np.testing.assert_allclose(found.weight, weight, atol=ROUNDING_DOUBLE)


def test_inputs_that_never_vary_are_no_obstacle():
    x = np.random.default_rng(7).standard_normal((50, 6))
    x[:, 2] = 0
    found = reconstruct(np.ones((3, 6)), x.T @ x, CSR(), 1 / 6)
    assert found.mask.sum(axis=0).tolist() == [3, 3, 0, 3, 3, 3]


def test_more_calibration_data_of_the_same_kind_changes_nothing():
    rng = np.random.default_rng(9)
    weight, x = rng.standard_normal((4, 8)), calibration(rng, 20, 8)
    once = reconstruct(weight, x.T @ x, CSR(), 0.5)
    often = reconstruct(weight, 1000 * x.T @ x, CSR(), 0.5)
    np.testing.assert_allclose(often.weight, once.weight, atol=ROUNDING_DOUBLE)
    assert often.error == pytest.approx(once.error)


def test_bad_calibration():
    weight = np.ones((2, 3))
    with pytest.raises(FormatError, match="Gram matrix"):
        reconstruct(weight, np.eye(2), CSR(), 0.5)
    with pytest.raises(FormatError, match="int8 weights"):
        reconstruct(weight.astype(np.int8), np.eye(3), CSR(), 0.5)
    with pytest.raises(FormatError, match="not finite"):
        reconstruct(weight, np.full((3, 3), np.nan), CSR(), 0.5)
    with pytest.raises(FormatError, match="linearly dependent"):
        reconstruct(weight, np.zeros((3, 3)), CSR(), 0.5, damping=0)
