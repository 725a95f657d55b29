"""Criteria on answers known by hand: four units."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from autoprune.errors import AutopruneError
from autoprune.ir.axes import Leaf, concat, prod
from autoprune.ir.group import Group, Guarantee, Occurrence
from autoprune.passes.pruning.criteria import (
    CRITERIA,
    Tensors,
    UnitView,
    find_criterion,
    score,
    view,
)
from autoprune.passes.pruning.criteria.l1 import l1
from autoprune.passes.pruning.criteria.l2 import l2
from autoprune.passes.pruning.criteria.random import random

LEAF = Leaf(0, 4)


def weights_of(arrays, types, seed=0):
    occurrences = tuple(
        Occurrence(name, dim)
        for name, axes in types.items()
        for dim, axis in enumerate(axes)
        if LEAF.uid in axis.uids
    )
    group = Group("g", LEAF, occurrences, Guarantee.ZERO_INVARIANT)
    return UnitView(group, {"weights": Tensors(arrays, types)}, np.random.default_rng(seed))


def test_l2_of_one_parameter():
    weights = weights_of({"w": np.array([3.0, -4.0, 0.0, 1.0])}, {"w": (LEAF,)})
    assert l2(weights).tolist() == [3, 4, 0, 1]


def test_l2_adds_up_over_parameters():
    weights = weights_of(
        {"w": np.array([[3.0], [0], [1], [0]]), "v": np.array([[4.0, 2, 0, 0]])},
        {"w": (LEAF, Leaf(1, 1)), "v": (Leaf(2, 1), LEAF)},
    )
    assert l2(weights).tolist() == [5, 2, 1, 0]


def test_l1_adds_up_magnitudes_of_any_numbers():
    types = {"w": (LEAF,), "v": (LEAF,)}
    arrays = {"w": np.array([3 + 4j, -4j, 1j, 0]), "v": np.array([-128, 127, 0, 1], np.int8)}
    assert l1(weights_of(arrays, types)).tolist() == [133, 131, 1, 1]


def test_l2_of_complex_numbers():
    weights = weights_of({"w": np.array([3 + 4j, -4j, 1j, 0])}, {"w": (LEAF,)})
    assert l2(weights).tolist() == [5, 4, 1, 0]


def test_l2_of_units_that_own_several_positions():
    inner = weights_of({"w": np.arange(8.0)}, {"w": (prod(LEAF, Leaf(3, 2)),)})
    assert np.allclose(l2(inner) ** 2, [1, 13, 41, 85])
    outer = weights_of({"w": np.arange(8.0)}, {"w": (prod(Leaf(3, 2), LEAF),)})
    assert np.allclose(l2(outer) ** 2, [16, 26, 40, 58])
    twice = weights_of({"w": np.arange(8.0)}, {"w": (concat(LEAF, LEAF),)})
    assert np.allclose(l2(twice) ** 2, [16, 26, 40, 58])


@pytest.mark.parametrize("chunk", [1, 8, 1000])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_sums_do_not_depend_on_how_much_is_looked_at_together(dim, chunk, monkeypatch):
    monkeypatch.setattr(view, "CHUNK", chunk)
    shape = [3, 2, 5]
    shape[dim] = 4
    array = np.random.default_rng(0).integers(-9, 9, shape).astype(np.float32)
    types = [Leaf(1 + d, n) for d, n in enumerate(shape)]
    types[dim] = LEAF
    moved = np.moveaxis(array, dim, 0).reshape(4, -1)
    found = weights_of({"w": array}, {"w": tuple(types)}).sums(np.square)
    assert found.tolist() == (moved**2).sum(axis=1).tolist()


def test_buffers_do_not_count():
    weights = weights_of({"w": np.ones(4)}, {"w": (LEAF,), "mean": (LEAF,)})
    assert l2(weights).tolist() == [1, 1, 1, 1]


def test_half_precision_does_not_overflow():
    weights = weights_of(
        {"w": np.full((4, 4096), 30.0, dtype=np.float32)}, {"w": (LEAF, Leaf(5, 4096))}
    )
    assert np.allclose(l2(weights), 30 * 64)


def test_matrices_have_one_row_a_unit():
    weights = weights_of({"w": np.arange(8.0).reshape(2, 4)}, {"w": (Leaf(3, 2), LEAF)})
    (matrix,) = weights.matrices()
    assert matrix.tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert weights.units == 4


def test_random_follows_the_generator():
    types = {"w": (LEAF,)}
    first, again = (random(weights_of({"w": np.ones(4)}, types, seed=3)) for _ in range(2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != random(weights_of({"w": np.ones(4)}, types, seed=4)).tolist()
    assert len(set(first)) == 4


HEADS = Leaf(7, 2)


def weights_per_head(arrays, types, seed=0):
    return dataclasses.replace(weights_of(arrays, types, seed), outer=HEADS)


def test_scores_per_unit_of_an_outer_axis():
    inside = weights_per_head({"w": np.arange(8.0)}, {"w": (prod(HEADS, LEAF),)})
    assert np.allclose(l2(inside), [[0, 1, 2, 3], [4, 5, 6, 7]])
    array = np.arange(8.0).reshape(2, 4)
    for axes, weight in (((HEADS, LEAF), array), ((LEAF, HEADS), array.T)):
        assert np.allclose(l2(weights_per_head({"w": weight}, {"w": axes})), array)
    fused = concat(prod(HEADS, LEAF), Leaf(8, 3), prod(HEADS, LEAF))
    twice = weights_per_head(
        {"w": np.concatenate([np.arange(8), [9] * 3, np.arange(8)])}, {"w": (fused,)}
    )
    assert np.allclose(l2(twice), np.sqrt(2) * array)


def test_scores_per_outer_unit_add_up_to_those_of_units():
    array = np.random.default_rng(0).standard_normal((3, 8, 5))
    types = {"w": (Leaf(8, 3), prod(HEADS, LEAF), Leaf(9, 5))}
    per_head = weights_per_head({"w": array}, types).sums(np.square)
    assert per_head.shape == (2, 4)
    assert np.allclose(per_head.sum(axis=0), weights_of({"w": array}, types).sums(np.square))


def test_both_shapes_of_scores_are_taken_where_there_is_an_outer_axis():
    types = {"w": (prod(HEADS, LEAF),)}
    weights = weights_per_head({"w": np.ones(8)}, types)
    assert score(lambda w: np.ones(4), weights).shape == (4,)
    assert score(lambda w: np.ones((2, 4)), weights).shape == (2, 4)
    assert random(weights).shape == (2, 4)
    with pytest.raises(AutopruneError, match="4 finite scores"):
        score(lambda w: np.ones((4, 2)), weights)


def test_names():
    assert CRITERIA["l2"] is l2
    assert find_criterion("random") is random
    assert find_criterion(l2) is l2
    with pytest.raises(AutopruneError, match="there is no criterion 'magnitude'") as raised:
        find_criterion("magnitude")
    assert "l2" in raised.value.hint


@pytest.mark.parametrize("returned", [np.zeros(3), np.zeros((4, 1)), np.full(4, np.nan), 1.0, "x"])
def test_scores_are_checked(returned):
    weights = weights_of({"w": np.ones(4)}, {"w": (LEAF,)})
    with pytest.raises(AutopruneError, match="4 finite scores") as raised:
        score(lambda _: returned, weights)
    assert "group g" in str(raised.value)


def test_lists_and_integers_are_scores_too():
    weights = weights_of({"w": np.ones(4)}, {"w": (LEAF,)})
    assert score(lambda _: [1, 2, 3, 4], weights).tolist() == [1, 2, 3, 4]
