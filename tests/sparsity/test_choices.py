"""Formats choose the same in torch as in numpy, and their relaxed choice is one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.passes.learners.masks.choices import choices_of, choose, dense_and_final
from autoprune.passes.learners.masks.learnable import relaxed_highest
from autoprune.passes.sparsify.formats.blocks import Block
from autoprune.passes.sparsify.formats.patterns import NM
from autoprune.passes.sparsify.registry import parse_format
from tests.effort import examples
from tests.sparsify.formats import NAMES, seeds, sides
from tests.tolerance import ROUNDING_SINGLE


@given(st.sampled_from(NAMES), sides, sides, st.floats(0, 1), seeds)
@settings(max_examples=examples(100), deadline=None)
def test_masks_are_those_of_the_format(name, outputs, inputs, share, seed):
    rng, format = np.random.default_rng(seed), parse_format(name)
    # Whole numbers, so that there are equal ones, and sums are exact.
    scores = rng.integers(0, 9, (outputs, inputs)).astype(np.float64)
    levels, (_, final) = format.levels(scores.shape), dense_and_final(format, scores.shape)
    keep = final if levels is None else round(share * levels)
    expected = format.choose(scores, None if levels is None else keep)
    assert np.array_equal(choose(format, torch.from_numpy(scores), keep).numpy(), expected)


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_kept_at_first_and_masks_are_nested(name):
    format, shape = parse_format(name), (13, 19)
    scores = torch.from_numpy(np.random.default_rng(0).random(shape))
    dense, final = dense_and_final(format, shape)
    before = choose(format, scores, dense)
    assert before.all()
    for keep in reversed(range(final or 1, dense)):
        mask = choose(format, scores, keep)
        assert (mask <= before).all()
        before = mask
    assert format.fits(before.numpy()) is None


@given(st.sampled_from(NAMES), sides, sides, seeds)
@settings(max_examples=examples(60), deadline=None)
def test_rows_sum_up_what_is_kept_together(name, outputs, inputs, seed):
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.random((outputs, inputs)))
    choices = choices_of(parse_format(name), (outputs, inputs))
    rows = choices.rows(values)
    assert rows.sum().item() == pytest.approx(values.sum().item())
    # Spreading is the transpose of summing up.
    other = torch.from_numpy(rng.random(rows.shape))
    torch.testing.assert_close((choices.spread(other) * values).sum(), (other * rows).sum())


class Rows:
    """A format that autoprune does not know: whole outputs."""

    tile = (1, 1)

    def levels(self, shape):
        return shape[0]

    def choose(self, scores, keep=None):
        return np.broadcast_to(
            (np.argsort(np.argsort(-scores.sum(1))) < keep)[:, None], scores.shape
        )


def test_formats_of_others_choose_themselves():
    scores = torch.tensor([[1.0, 1.0], [3.0, 0.0], [0.0, 0.5]])
    assert choices_of(Rows(), (3, 2)) is None
    assert choose(Rows(), scores, 2).tolist() == [[True, True], [True, True], [False, False]]


@given(st.integers(1, 5), st.integers(1, 12), st.integers(0, 12), st.floats(0.05, 2), seeds)
@settings(max_examples=examples(60), deadline=None)
def test_relaxed_choices_add_up(rows, width, keep, temperature, seed):
    scores = torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, width)))
    soft = relaxed_highest(scores, keep, temperature)
    wanted = torch.full((rows,), float(min(keep, width)), dtype=torch.float64)
    torch.testing.assert_close(soft.sum(1), wanted, rtol=0, atol=ROUNDING_SINGLE)


def test_cold_relaxed_choices_are_choices():
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.3], [0.2, 0.1, -torch.inf, -torch.inf]])
    cold = relaxed_highest(scores, 2, 1e-3)
    torch.testing.assert_close(
        cold, torch.tensor([[0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]]), atol=1e-6, rtol=0
    )


def test_tiles_of_known_formats():
    assert choices_of(Block(4, 2), (8, 8)).rows(torch.ones(8, 8)).tolist() == [[8.0] * 8]
    rows = choices_of(NM(1, 4, 2), (4, 6)).rows(torch.ones(4, 6))
    assert rows.tolist() == [[2.0] * 4, [2.0, 2.0, 0.0, 0.0]] * 2
