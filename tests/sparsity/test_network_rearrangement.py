"""Reordered channels: the network computes the same, and blocks hold more."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.frameworks.torch.equality import difference
from autoprune.frameworks.torch.trace import as_inputs
from autoprune.passes.sparsify.masks import l2
from autoprune.passes.sparsify.network_rearrangement import Move, move_where_equal, rearranged
from autoprune.passes.sparsify.weights import find_weights
from tests.sparsity.networks import Convolutional
from tests.tolerance import CUT


def shuffled(seed=0):
    """A perceptron whose hidden units are of eight kinds, none beside its like."""
    rng = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 32)).eval()
    kind = torch.randperm(256, generator=rng) % 8
    reads = torch.arange(64) % 8
    with torch.no_grad():
        model[0].weight *= torch.where(kind[:, None] == reads[None], 1.0, 0.01)
    return model, torch.randn(16, 64, generator=rng)


def test_blocks_hold_more():
    model, x = shuffled()
    kept = {}
    for rearrange in (False, True):
        result = ap.sparsify(
            model, x, format={"0": "block 32x1"}, sparsity=7 / 8, rearrange=rearrange
        )
        kept[rearrange] = result.model[0].weight.square().sum() / model[0].weight.square().sum()
    assert kept[False] < 0.5
    assert kept[True] > 0.99
    assert "1 axis of channels reordered" in result.report.notes[0]


@pytest.mark.parametrize("make", [shuffled, lambda: (Convolutional(), torch.randn(2, 3, 12, 12))])
def test_the_dense_network_computes_the_same(make):
    model, x = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    named = {"*": "block 8x1"}
    result = ap.sparsify(model, x, format=named, sparsity=0.5, rearrange=True)
    assert not result.report.notes[0].startswith("0 axes")
    reordered = copy.deepcopy(model).eval()
    inputs = as_inputs(x)
    weights, _ = find_weights(reordered, named, ())
    rearranged(reordered, inputs, weights, 0.5, l2)
    assert not torch.equal(next(reordered.parameters()), next(model.parameters()))
    assert difference(model.eval()(x), reordered(x)) < CUT


def test_moves_that_change_the_network_are_undone():
    model, x = shuffled()
    inputs, before = as_inputs(x), copy.deepcopy(model.state_dict())
    order = np.random.default_rng(0).permutation(256)
    right = [
        Move(model[0].weight, 0, order),
        Move(model[0].bias, 0, order),
        Move(model[2].weight, 1, order),
    ]
    wrong = [Move(model[2].weight, 0, np.arange(32)[::-1].copy())]
    expected = model(x)
    assert move_where_equal(model, inputs, {"wrong": wrong, "right": right}) == ["right"]
    assert difference(expected, model(x)) < CUT
    assert torch.equal(model[0].weight, before["0.weight"][torch.from_numpy(order)])
    assert torch.equal(model[2].bias, before["2.bias"])
