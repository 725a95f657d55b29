"""Traits: what follows from terms, and that a claim which is wrong is noticed."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from autoprune.analysis.experiments.conformance import examined
from autoprune.analysis.experiments.traits import trait_faults
from autoprune.frameworks.torch.calls import sample_calls
from autoprune.frameworks.torch.trace import trace
from autoprune.ops.rule import find, of_each, of_first, power_of


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, y):
        return self.function(x, y)


def sample(function):
    torch.manual_seed(0)
    inputs = torch.randn(4, 6).double(), torch.randn(4, 6).double()
    traced = trace(Call(function), inputs)
    [node] = traced.graph.nodes
    return sample_calls(traced, [node.name])[node.name]


@pytest.mark.parametrize(
    ("function", "traits"),
    [
        (lambda x, y: torch.nn.functional.hardswish(x), {"homogeneous": of_first}),
        (lambda x, y: x + 1, {"homogeneous": of_first}),
        (torch.mul, {"homogeneous": of_each}),
        (lambda x, y: x.abs(), {"moves": True}),
        (lambda x, y: x.cummax(0).values, {"moves": True}),
        (lambda x, y: x.t(), {"reshapes": True}),
        (torch.add, {"saturates": True}),
        (lambda x, y: torch.layer_norm(x, (6,)), {"normalizes": lambda call: ()}),
    ],
)
def test_wrong_claims_are_noticed(function, traits):
    call = sample(function)
    operator = find(call.node.op)
    assert not trait_faults(examined(call, operator))
    [fault] = trait_faults(examined(call, replace(operator, **traits)))
    assert fault.startswith(next(iter(traits)))


def test_powers():
    terms = ({"x": 1.0, "w": 1.0}, {"b": 1.0})
    assert power_of(terms, {"x": 1.0, "b": 1.0}) == 1
    assert power_of(terms, {"x": 0.5, "w": 0.5, "b": 1.0}) == 1
    assert power_of(terms, {"x": 1.0}) is None
    assert power_of(terms, {"x": 1.0, "b": 1.0, "of none": 1.0}) is None
    assert power_of((), {}) is None
