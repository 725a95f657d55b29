"""Where the true weights are sparse, every method finds out where they are."""

import pytest
import torch

from autoprune.passes.sparsify.registry import parse_format
from tests.sparsity.problems import METHODS, problem, started, train, true_weights
from tests.tolerance import DIFFERENT

FORMATS = ["block 4x1", "block 1x4", "csr", "2:8", "2:8 shared 4", "fan-in", "fan-in 6"]
PAIRS = [
    (name, method)
    for name in FORMATS
    for method in METHODS
    if method != "srigl" or name.startswith("fan-in")
]


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_the_support_is_found(name, method):
    model, sparsifier, optimizer, data = started(name, METHODS[method])
    *_, support = problem(name)
    train(model, optimizer, data)
    result = sparsifier.finish()
    mask = result.masks["0.weight"]
    assert torch.equal(mask, support)
    assert parse_format(name).fits(mask.numpy()) is None
    weights, _ = true_weights(name)
    assert not result.model[0].weight[~mask].any()
    error = (result.model[0].weight - weights).square().sum() / weights.square().sum()
    assert error < 1e-3
    (row,) = result.report.rows
    assert row.sparsity == pytest.approx(1 - support.float().mean().item(), abs=DIFFERENT)
