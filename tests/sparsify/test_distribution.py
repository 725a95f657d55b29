"""Several matrices, one sparsity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.errors import BudgetError, FormatError
from autoprune.passes.sparsify.distribution import DISTRIBUTIONS, Layer, find_masks
from autoprune.passes.sparsify.formats.blocks import CSR, Block
from autoprune.passes.sparsify.formats.patterns import NM, ConstantFanIn
from autoprune.passes.sparsify.registry import parse_format
from tests.effort import examples
from tests.sparsify.formats import FREE, seeds
from tests.tolerance import ROUNDING_DOUBLE

whole_layers = st.lists(
    st.tuples(st.sampled_from(FREE), st.integers(2, 4), st.integers(2, 4)), min_size=1, max_size=4
)


@given(whole_layers, st.floats(0, 0.7), seeds, st.sampled_from(list(DISTRIBUTIONS)))
@settings(max_examples=examples(100))
def test_the_total_is_exact_to_half_the_largest_level_or_one_of_each(
    tiles, sparsity, seed, distribution
):
    rng = np.random.default_rng(seed)
    layers = {}
    for i, (name, rows, cols) in enumerate(tiles):
        format = parse_format(name)
        shape = (format.tile[0] * rows, format.tile[1] * cols)
        layers[str(i)] = Layer(rng.random(shape), format)
    masks = find_masks(layers, sparsity, distribution)
    for name, mask in masks.items():
        assert layers[name].format.fits(mask) is None
        assert mask.any()
    size = sum(mask.size for mask in masks.values())
    kept = sum(mask.sum() for mask in masks.values())
    wanted = max((1 - sparsity) * size, sum(layer.step for layer in layers.values()))
    largest = max(layer.step for layer in layers.values())
    assert abs(kept - wanted) <= largest / 2 + ROUNDING_DOUBLE * size


def kept(masks):
    return {name: int(mask.sum()) for name, mask in masks.items()}


def test_uniform_rounds_so_that_the_total_is_right():
    layers = {name: Layer(np.ones((1, 5)), CSR()) for name in "abcd"}
    # 2.5 each.
    assert kept(find_masks(layers, 0.5)) == {"a": 3, "b": 3, "c": 2, "d": 2}


def test_erk_keeps_more_of_small_layers():
    layers = {"small": Layer(np.ones((4, 4)), CSR()), "large": Layer(np.ones((16, 16)), CSR())}
    # 1.6 * 8/16 of 16 and 1.6 * 32/256 of 256 are 12.8 and 51.2, together the 64 asked for.
    counts = kept(find_masks(layers, 1 - 64 / 272, "erk"))
    assert counts == {"small": 13, "large": 51}


def test_erk_leaves_layers_dense_that_would_keep_more_than_all():
    layers = {"tiny": Layer(np.ones((2, 2)), CSR()), "large": Layer(np.ones((20, 20)), CSR())}
    assert kept(find_masks(layers, 0.5, "erk")) == {"tiny": 4, "large": 198}


def test_erk_counts_the_kernel():
    flat = Layer(np.ones((4, 36)), CSR())
    kernel = Layer(np.ones((4, 36)), CSR(), dims=(4, 4, 3, 3))
    # 14/144 against 40/144.
    counts = kept(find_masks({"kernel": kernel, "flat": flat}, 1 - 54 / 288, "erk"))
    assert counts == {"kernel": 14, "flat": 40}


def test_global_follows_scores_relative_to_their_layer():
    flat = Layer(1000 * np.ones((1, 10)), CSR())
    peaked = Layer(np.array([[9.0, 9, 1, 1, 1, 1, 1, 1, 1, 1]]), CSR())
    counts = kept(find_masks({"flat": flat, "peaked": peaked}, 0.7, "global"))
    assert counts == {"flat": 4, "peaked": 2}


def test_no_layer_is_left_with_nothing():
    layers = {"a": Layer(np.ones((4, 4)), CSR()), "b": Layer(np.zeros((4, 4)), CSR())}
    for distribution in DISTRIBUTIONS:
        assert min(kept(find_masks(layers, 0.9, distribution)).values()) >= 1


def test_fan_in_keeps_the_same_of_every_output():
    layers = {"a": Layer(np.random.default_rng(0).random((3, 8)), ConstantFanIn())}
    assert find_masks(layers, 0.5)["a"].sum(axis=1).tolist() == [4, 4, 4]


def test_own_distribution():
    layers = {name: Layer(np.ones((2, 2)), CSR()) for name in "ab"}
    assert kept(find_masks(layers, 0.5, lambda layers, weights: {"a": 3, "b": 1})) == {
        "a": 3,
        "b": 1,
    }


def test_bad_requests():
    layers = {"a": Layer(np.ones((4, 4)), Block(2, 1))}
    with pytest.raises(BudgetError, match="use one of uniform, erk, global"):
        find_masks(layers, 0.5, "nosuch")
    with pytest.raises(BudgetError, match="not a fraction"):
        find_masks(layers, 1.0)
    with pytest.raises(BudgetError, match="says itself"):
        find_masks({"a": Layer(np.ones((4, 4)), NM(2, 4))}, 0.5)
    with pytest.raises(FormatError, match="finite"):
        find_masks({"a": Layer(np.full((4, 4), np.nan), CSR())}, 0.5)
    with pytest.raises(FormatError, match="dims"):
        find_masks({"a": Layer(np.ones((4, 4)), CSR(), dims=(4, 3))}, 0.5)
    assert find_masks({}, 0.5) == {}
