"""Masks: the best of their format, of exactly the sparsity asked for, the same every time."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.errors import BudgetError, FormatError
from autoprune.passes.sparsify.formats.blocks import CSR, Block
from autoprune.passes.sparsify.formats.patterns import NM, ConstantFanIn
from autoprune.passes.sparsify.masks import find_mask, l1, l2, random
from autoprune.passes.sparsify.registry import parse_format
from tests.effort import examples
from tests.sparsify.formats import FREE, NAMES, seeds, sides, sparsities, sparsity_for
from tests.tolerance import ROUNDING_DOUBLE


@given(st.sampled_from(NAMES), sides, sides, sparsities, seeds)
@settings(max_examples=examples(100))
def test_masks_fit_their_format(name, outputs, inputs, sparsity, seed):
    weight = np.random.default_rng(seed).standard_normal((outputs, inputs))
    format, share = parse_format(name), sparsity_for(name, sparsity)
    mask = find_mask(format, l1(weight), share)
    assert format.fits(mask) is None
    assert (mask == find_mask(format, l1(weight), share)).all()


@given(st.sampled_from(FREE), st.integers(1, 4), st.integers(1, 4), sparsities, seeds)
@settings(max_examples=examples(100))
def test_sparsity_is_exact_to_half_a_level(name, rows, cols, sparsity, seed):
    format = parse_format(name)
    shape = (format.tile[0] * rows, format.tile[1] * cols)
    mask = find_mask(format, random(np.zeros(shape), seed), sparsity)
    level = mask.size / format.levels(shape)
    assert abs(mask.sum() - (1 - sparsity) * mask.size) <= level / 2 + ROUNDING_DOUBLE


@pytest.mark.parametrize("format", [Block(2, 1), Block(1, 2), CSR(), ConstantFanIn()])
def test_no_mask_of_the_format_and_size_keeps_more(format):
    scores = random(np.zeros((3, 4)), 0)
    chosen = find_mask(format, scores, 0.5)
    masks = [np.reshape(bits, (3, 4)) for bits in product([False, True], repeat=12)]
    gains = format.gains(scores)[: round(0.5 * format.levels((3, 4)))]
    rivals = [m for m in masks if format.fits(m) is None and same_levels(format, m, chosen)]
    best = max(scores[mask].sum() for mask in rivals)
    assert scores[chosen].sum() == pytest.approx(best)
    assert gains.sum() == pytest.approx(best)


def same_levels(format, mask, chosen):
    """Whether two masks keep as much: as many inputs of each output, or as many blocks."""
    if isinstance(format, ConstantFanIn):
        return (mask.sum(axis=1) == chosen.sum(axis=1)).all()
    return kept_blocks(format, mask) == kept_blocks(format, chosen)


def kept_blocks(format, mask):
    rows, cols = format.tile
    return len({(r // rows, c // cols) for r, c in np.argwhere(mask)})


def test_two_of_four():
    weight = np.array([[1, -4, 2, 3, 5, 0, 1, 1], [0, 0, 0, 0, -9, 8, 7, 6]])
    mask = find_mask(NM(2, 4), l2(weight))
    assert mask.astype(int).tolist() == [[0, 1, 0, 1, 1, 0, 1, 0], [1, 1, 0, 0, 1, 1, 0, 0]]


def test_shared_patterns_go_by_the_sum():
    weight = np.array([[3, 0, 2, 0], [0, 1, 2, 0]])
    assert find_mask(NM(1, 4, 2), l1(weight)).astype(int).tolist() == [[0, 0, 1, 0]] * 2


def test_blocks_go_by_their_norm():
    weight = np.array([[3, 2], [0, 2]])
    assert find_mask(Block(2, 1), l1(weight), 0.5).tolist() == [[False, True]] * 2
    assert find_mask(Block(2, 1), l2(weight), 0.5).tolist() == [[True, False]] * 2


def test_equal_scores_keep_the_first():
    assert find_mask(CSR(), np.ones((20, 20)), 0.5).ravel().tolist() == [True] * 200 + [False] * 200
    assert find_mask(NM(2, 4), np.zeros((1, 6))).tolist() == [
        [True, True, False, False, True, True]
    ]


def test_random_scores_depend_on_the_seed_alone():
    assert (random(np.zeros((3, 4)), 1) == random(np.ones((3, 4)), 1)).all()
    assert (random(np.zeros((3, 4)), 1) != random(np.zeros((3, 4)), 2)).any()


def test_small_integers_do_not_overflow():
    weight = np.array([[-128, 127]], dtype=np.int8)
    assert l1(weight).tolist() == [[128, 127]]
    assert l2(weight).tolist() == [[16384, 16129]]


@pytest.mark.parametrize("sparsity", [1, 1.5, -0.1, True, float("nan"), "0.5"])
def test_a_sparsity_is_a_fraction(sparsity):
    with pytest.raises(BudgetError, match="not a fraction"):
        find_mask(CSR(), np.ones((2, 2)), sparsity)


def test_a_sparsity_is_for_the_format_or_the_caller_to_say():
    with pytest.raises(BudgetError, match="2:4 says itself"):
        find_mask(NM(2, 4), np.ones((2, 4)), 0.5)
    with pytest.raises(BudgetError, match="csr does not say"):
        find_mask(CSR(), np.ones((2, 4)))


@pytest.mark.parametrize("scores", [np.ones(3), np.full((2, 2), np.nan), -np.ones((2, 2))])
def test_scores_are_a_matrix_of_numbers_from_0(scores):
    with pytest.raises(FormatError, match="scores"):
        find_mask(CSR(), scores, 0.5)
