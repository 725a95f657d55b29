"""Running a traced network: with other parameters, on other batches, and for gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import autoprune as ap
from autoprune.passes.pruning.given import given
from tests.tolerance import DIFFERENT, ROUNDING_SINGLE


class Net(nn.Module):
    """Writes the batch into its graph, and takes its inputs by name."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x, scale):
        return self.last(self.first(x).relu().view(x.size(0), -1) * scale)


class Other(Net):
    """Calls something else on a batch of one."""

    def forward(self, x, scale):
        y = super().forward(x, scale)
        return y.exp() if x.size(0) == 1 else y


def batch(rows):
    draws = torch.Generator().manual_seed(rows)
    return {"scale": torch.rand(rows, 1, generator=draws), "x": torch.randn(rows, 3)}


@pytest.mark.parametrize("dynamic", [None, "batch"])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_torch_runs_on_other_batches(rows, dynamic):
    model, inputs = Net(), batch(rows)
    network = given(model, batch(2), dynamic).trace()
    (name,) = (v.name for v in network.graph.outputs)
    found = network.run(inputs, watch=("relu",))
    np.testing.assert_allclose(found[name], model(**inputs).detach(), rtol=ROUNDING_SINGLE)
    relu = model.first(inputs["x"]).relu().detach()
    np.testing.assert_allclose(found["relu"], relu, rtol=ROUNDING_SINGLE)
    (node,) = (n for n in network.graph.nodes if n.name == "relu")
    assert network.operands(inputs, [node])["relu"]["linear"].shape == (rows, 4)


def test_a_network_that_is_another_one_on_another_batch_is_not_run_there():
    network = given(Other(), batch(2)).trace()
    with pytest.raises(ap.AutopruneError, match="other calls than on the example inputs"):
        network.run(batch(1))


@pytest.mark.parametrize("rows", [2, 3])
def test_torch_gradients(rows):
    model, inputs = Net(), batch(rows)
    found = given(model, batch(2)).trace().gradients(lambda y: y.square().sum(), inputs)
    model(**inputs).square().sum().backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, expected[name], rtol=ROUNDING_SINGLE, atol=DIFFERENT)


def linear(weight):
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "g",
        [value("x", TensorProto.FLOAT, [2, 3])],
        [value("y", TensorProto.FLOAT, [2, 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_overrides_hold_for_one_run():
    rng = np.random.default_rng(0)
    x, old, new = (rng.normal(size=s).astype("f4") for s in ((2, 3), (3, 4), (3, 4)))
    layer = nn.Linear(3, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(old.T))
    networks = (
        (given(layer, torch.from_numpy(x)).trace(), torch.from_numpy(x), "weight", new.T),
        (given(linear(old), {"x": x}).trace(), {"x": x}, "w", new),
    )
    for network, inputs, name, value in networks:
        (changed,) = network.run(inputs, overrides={name: value}).values()
        (again,) = network.run(inputs).values()
        np.testing.assert_allclose(changed, x @ new, rtol=ROUNDING_SINGLE, atol=DIFFERENT)
        np.testing.assert_allclose(again, x @ old, rtol=ROUNDING_SINGLE, atol=DIFFERENT)


def test_onnx_has_no_gradients():
    weight = np.ones((3, 4), "f4")
    network = given(linear(weight), {"x": np.ones((2, 3), "f4")}).trace()
    with pytest.raises(ap.AutopruneError, match="cannot be differentiated"):
        network.gradients(np.sum, network.inputs)
