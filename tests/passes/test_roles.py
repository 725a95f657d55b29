"""Which groups of repeated layers play the same role."""

import pytest

from autoprune.ir.axes import Leaf
from autoprune.ir.group import Group, Guarantee
from autoprune.passes.pruning.roles import role, same_roles


def group(uid, name, units=4):
    return Group(name, Leaf(uid, units), (), Guarantee.ZERO_INVARIANT)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("encoder.layer.0.query.weight:0/1", "encoder.layer.11.query.weight:0/1"),
        ("0.weight:0", "7.weight:0"),
        ("layers.layer_0.fc1.weight:0", "layers.layer_1.fc1.weight:0"),
        ("stages.0.blocks.3.fc.weight:0", "stages.2.blocks.0.fc.weight:0"),
    ],
)
def test_indices_of_layers_make_no_difference(one, other):
    assert role(one, 4) == role(other, 4)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("block.fc1.weight:0", "block.fc2.weight:0"),
        ("block.query.weight:0/0", "block.query.weight:0/1"),
        ("block.query.weight:0", "block.query.weight:1"),
        ("block.query.weight:0", "block.value.weight:0"),
    ],
)
def test_other_names_are_other_roles(one, other):
    assert role(one, 4) != role(other, 4)
    assert role(one, 4) != role(one, 5)


def test_same_roles_leaves_groups_alone_that_have_no_fellow():
    groups = [group(0, "h.0.fc.weight:0"), group(1, "h.1.fc.weight:0"), group(2, "head.weight:1")]
    assert same_roles(groups) == [frozenset({0, 1})]
    assert same_roles([*groups, group(3, "h.2.fc.weight:0", units=8)]) == [frozenset({0, 1})]
