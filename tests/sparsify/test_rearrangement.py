"""Orders of channels: free, and never worse than before."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.errors import FormatError
from autoprune.ir.axes import Leaf, concat, prod
from autoprune.ir.positions import unit_positions
from autoprune.passes.sparsify.formats.blocks import CSR, Block
from autoprune.passes.sparsify.formats.patterns import NM
from autoprune.passes.sparsify.masks import find_mask, l2
from autoprune.passes.sparsify.rearrangement import Matrix, Placement, rearrange
from autoprune.passes.sparsify.registry import parse_format
from tests.effort import examples
from tests.sparsify.formats import NAMES, seeds, sparsity_for
from tests.tolerance import ROUNDING_DOUBLE

sizes = st.integers(2, 20)


def whole(axis, size):
    """The places of a dimension that is just that axis."""
    return (Placement(axis, np.arange(size)[:, None]),)


def reordered(matrix, rows, cols, orders):
    """A matrix with its axes in new orders."""
    for dim, places in enumerate((rows, cols)):
        indices = np.arange(matrix.shape[dim])
        for place in places:
            indices[place.positions] = place.positions[orders[place.axis]]
        matrix = matrix.take(indices, axis=dim)
    return matrix


def retained(matrix, scores):
    return scores[find_mask(matrix.format, scores, matrix.sparsity)].sum()


@given(
    st.sampled_from(NAMES), st.sampled_from(NAMES), st.floats(0, 0.9), sizes, sizes, sizes, seeds
)
@settings(max_examples=examples(40))
def test_a_chain_computes_the_same_and_keeps_no_less(one, two, sparsity, i, h, o, seed):
    rng = np.random.default_rng(seed)
    w1, w2, x = rng.standard_normal((h, i)), rng.standard_normal((o, h)), rng.standard_normal(i)
    hidden, inputs = whole("hidden", h), whole("inputs", i)
    first = Matrix(l2(w1), parse_format(one), sparsity_for(one, sparsity), hidden, inputs)
    second = Matrix(l2(w2), parse_format(two), sparsity_for(two, sparsity), (), hidden)
    found = rearrange([first, second])

    new1 = reordered(w1, hidden, inputs, found.orders)
    new2 = reordered(w2, (), hidden, found.orders)
    y = new2 @ np.maximum(new1 @ x[found.orders["inputs"]], 0)
    np.testing.assert_allclose(y, w2 @ np.maximum(w1 @ x, 0), atol=ROUNDING_DOUBLE)

    before = retained(first, l2(w1)) + retained(second, l2(w2))
    after = retained(first, l2(new1)) + retained(second, l2(new2))
    assert found.before == pytest.approx(before)
    assert found.after == pytest.approx(after)
    assert after >= before - ROUNDING_DOUBLE


def striped(units, features, period):
    """Units of `period` kinds in turn, each with its own features."""
    return (np.arange(units)[:, None] % period == np.arange(features) % period).astype(float)


def test_kinds_of_outputs_are_brought_together():
    matrix = Matrix(striped(16, 8, 4), Block(4, 1), 0.75, whole("o", 16))
    found = rearrange([matrix])
    assert found.before == 8
    assert found.after == 32


def test_kinds_of_inputs_are_brought_together():
    matrix = Matrix(striped(8, 16, 4), Block(1, 4), 0.75, (), whole("i", 16))
    assert rearrange([matrix]).after == 32


def test_large_inputs_are_spread_over_groups():
    scores = np.tile([1.0, 1, 1, 1, 0, 0, 0, 0], (3, 1))
    found = rearrange([Matrix(scores, NM(2, 4), None, (), whole("i", 8))])
    assert found.before == 6
    assert found.after == 12


def test_an_axis_on_both_sides_of_a_matrix_has_one_order():
    rng = np.random.default_rng(1)
    w, x = rng.standard_normal((10, 10)), rng.standard_normal(10)
    state = whole("state", 10)
    found = rearrange([Matrix(l2(w), Block(2, 2), 0.5, state, state)])
    order = found.orders["state"]
    assert found.after > found.before
    new = reordered(w, state, state, found.orders)
    np.testing.assert_allclose(new @ x[order], (w @ x)[order], atol=ROUNDING_DOUBLE)


def test_units_of_several_positions_move_as_one():
    # Channels flattened to 3 positions each, behind 2 inputs that stay.
    channel = Leaf(0, 5)
    axis = concat(Leaf(1, 2), prod(channel, Leaf(2, 3)))
    places = (Placement("channel", unit_positions(axis, channel.uid)),)
    scores = np.random.default_rng(2).random((4, 17))
    found = rearrange([Matrix(scores, Block(1, 4), 0.5, (), places)])
    order = found.orders["channel"]
    channels = scores[:, 2:].reshape(4, 5, 3)[:, order]
    expected = np.hstack([scores[:, :2], channels.reshape(4, 15)])
    assert (reordered(scores, (), places, found.orders) == expected).all()
    assert found.after > found.before


def test_an_axis_that_no_format_depends_on_keeps_its_order():
    scores = np.random.default_rng(3).random((6, 7))
    axes = whole("o", 6), whole("i", 7)
    assert (rearrange([Matrix(scores, CSR(), 0.5, *axes)]).orders["o"] == np.arange(6)).all()
    found = rearrange([Matrix(scores, Block(2, 1), 0.5, *axes)])
    assert (found.orders["i"] == np.arange(7)).all()
    assert (found.orders["o"] != np.arange(6)).any()


def test_axes_that_do_not_fit_are_refused():
    scores = np.ones((4, 4))
    with pytest.raises(FormatError, match="4 units in one place and 3 in another"):
        rearrange([Matrix(scores, CSR(), 0.5, whole("a", 4), whole("a", 3))])
    with pytest.raises(FormatError, match="overlap in scores"):
        rearrange([Matrix(scores, CSR(), 0.5, whole("a", 5))])
    with pytest.raises(FormatError, match="axes a, b overlap"):
        rearrange([Matrix(scores, CSR(), 0.5, whole("a", 2) + whole("b", 2))])
