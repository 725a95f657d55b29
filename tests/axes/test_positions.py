"""Cutting a tensor whose units are chosen per unit of another leaf, against element by element."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autoprune.frameworks.torch.cut import cut_tensor
from autoprune.ir.axes import Leaf, Prod, concat, prod, size
from autoprune.ir.positions import (
    PerOuter,
    cut_array,
    kept_index,
    kept_masks,
    owners,
)
from tests.axes.oracle import kept_positions

OUTER, INNER, TOP = Leaf(0, 3), Leaf(1, 4), Leaf(2, 2)
OTHERS = (Leaf(3, 2), Leaf(4, 3), Leaf(5, 2))

one_axis = st.sampled_from(
    [
        prod(OUTER, INNER),
        prod(OUTER, OTHERS[0], INNER),
        prod(OTHERS[0], OUTER, INNER, OTHERS[1]),
        prod(OUTER, concat(INNER, OTHERS[0], INNER)),
        prod(OUTER, concat(prod(OTHERS[1], INNER), OTHERS[0])),
        concat(prod(OUTER, INNER), OTHERS[1], prod(OUTER, INNER)),
        prod(TOP, OUTER, INNER),
        prod(TOP, concat(prod(OUTER, INNER), OTHERS[0])),
    ]
)
"""Both leaves in one axis, the outer one first."""

outer_axis = st.sampled_from(
    [OUTER, prod(OUTER, OTHERS[0]), prod(TOP, OUTER), prod(OTHERS[1], OUTER)]
)
inner_axis = st.sampled_from(
    [INNER, concat(INNER, OTHERS[2]), prod(INNER, OTHERS[2]), concat(INNER, prod(OTHERS[2], INNER))]
)
apart = st.tuples(outer_axis, inner_axis)
together = st.tuples(one_axis, st.sampled_from([OTHERS[2], prod(OTHERS[0], OTHERS[2])]))
three = st.tuples(st.sampled_from([TOP, prod(TOP, OTHERS[1])]), st.just(OUTER), inner_axis)
shapes = st.one_of(apart, together, three)


@st.composite
def choices(draw, axes):
    """Random units of each leaf; those of `INNER` per `OUTER`, those of `OUTER` maybe per `TOP`."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    present = frozenset().union(*(axis.uids for axis in axes))

    def some(leaf, rows=None):
        count = rng.integers(1, leaf.size + 1)
        drawn = [np.sort(rng.permutation(leaf.size)[:count]) for _ in range(rows or 1)]
        return np.array(drawn) if rows else drawn[0]

    kept = {leaf.uid: some(leaf) for leaf in OTHERS if rng.random() < 0.5}
    kept[INNER.uid] = PerOuter(OUTER.uid, some(INNER, OUTER.size))
    if TOP.uid in present and draw(st.booleans()):
        kept[OUTER.uid] = PerOuter(TOP.uid, some(OUTER, TOP.size))
    elif draw(st.booleans()):
        kept[OUTER.uid] = some(OUTER)
    if draw(st.booleans()):
        kept[TOP.uid] = some(TOP)
    return kept


def units_of(axis, position, before=()):
    """Leaf, unit, and the units before it in the same product, of one position."""
    if isinstance(axis, Leaf):
        yield axis.uid, position, dict(before)
    elif isinstance(axis, Prod):
        rest = axis.size
        for factor in axis.factors:
            rest //= factor.size
            unit, position = divmod(position, rest)
            found = list(units_of(factor, unit, before))
            yield from found
            before = (*before, *((uid, unit) for uid, unit, _ in found))
    else:
        for term in axis.terms:
            if position < term.size:
                yield from units_of(term, position, before)
                return
            position -= term.size


def stays(axes, positions, kept):
    """Whether one element of a tensor stays."""
    units = [list(units_of(a, p)) for a, p in zip(axes, positions, strict=True)]
    for dim, found in enumerate(units):
        elsewhere = {u: n for d, f in enumerate(units) if d != dim for u, n, _ in f}
        for uid, unit, before in found:
            choice = kept.get(uid)
            if isinstance(choice, PerOuter):
                choice = choice.units[(elsewhere | before)[choice.outer]]
            if choice is not None and unit not in choice:
                return False
    return True


@given(st.data())
def test_cut_tensors_hold_the_elements_that_stay(data):
    shape = data.draw(shapes)
    kept = data.draw(choices(shape))
    mask = np.array([stays(shape, p, kept) for p in product(*(range(a.size) for a in shape))])
    mask = mask.reshape([axis.size for axis in shape])
    array = np.arange(mask.size).reshape(mask.shape)
    sizes = {uid: len(units) for uid, units in kept.items()}
    expected = array[mask].reshape([size(axis, sizes) for axis in shape])

    order = data.draw(st.permutations(range(len(shape))))
    axes, array, mask, expected = (
        tuple(shape[d] for d in order), *(a.transpose(order) for a in (array, mask, expected))
    )  # fmt: skip
    np.testing.assert_array_equal(cut_array(array, axes, kept), expected)
    np.testing.assert_array_equal(array[kept_index(axes, kept)], expected)
    np.testing.assert_array_equal(cut_tensor(torch.from_numpy(array), axes, kept), expected)
    together = np.ones(mask.shape, dtype=bool)
    for part in kept_masks(axes, kept):
        together &= part
    np.testing.assert_array_equal(together, mask)


@given(one_axis)
def test_owners_name_the_units_of_each_position(axis):
    for leaf in (OUTER, INNER, TOP, *OTHERS):
        named = [
            sorted(n for u, n, _ in units_of(axis, p) if u == leaf.uid) for p in range(axis.size)
        ]
        found = np.array(list(owners(axis, leaf.uid))).reshape(-1, axis.size).T
        assert [sorted(units[units >= 0]) for units in found] == named


PER = {INNER.uid: PerOuter(OUTER.uid, np.array([[0, 1], [1, 2], [2, 3]]))}


def test_heads_keep_units_of_their_own():
    assert kept_positions(prod(OUTER, INNER), PER).tolist() == [0, 1, 5, 6, 10, 11]
    assert kept_positions(prod(OUTER, INNER), PER | {OUTER.uid: np.array([1])}).tolist() == [5, 6]


@pytest.mark.parametrize(
    "axes",
    [
        (INNER,),
        (prod(INNER, OUTER),),
        (OUTER, OUTER, INNER),
        (concat(OUTER, OTHERS[0]), INNER),
    ],
    ids=str,
)
def test_an_inner_leaf_needs_one_unit_of_the_outer_one_at_each_position(axes):
    with pytest.raises(ValueError, match="per unit of a leaf"):
        kept_index(axes, PER)


def test_choices_per_unit_of_each_other():
    rows = np.array([[0], [1], [2]])
    circle = {0: PerOuter(4, rows), 4: PerOuter(0, rows)}
    with pytest.raises(ValueError, match="of each other"):
        kept_index((OUTER, OTHERS[1]), circle)
