"""Models that do not run or cannot be exported: what is said, where, and that torch is silent."""

from __future__ import annotations

import contextlib
import logging

import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.frameworks.torch.equality import run
from autoprune.frameworks.torch.objects import Inputs
from autoprune.frameworks.torch.trace import trace

X = torch.zeros(2, 8)


@torch.library.custom_op("autoprune_tests::shapeless", mutates_args=())
def shapeless(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


class Net(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)
        self.scale = nn.Parameter(torch.ones(16))
        self.function = forward

    def forward(self, x):
        return self.function(self, x)


def branches(net, x):
    return net.b(net.a(x) if x.sum() > 0 else net.a(-x))


def loops(net, x):
    for _ in range(int(x.sum()) + 1):
        x = x * 2
    return net.b(net.a(x))


def leaves_torch(net, x):
    return net.b(torch.from_numpy(net.a(x).detach().numpy()))


def calls_an_operator(net, x):
    return net.b(shapeless(net.a(x)))


def writes_to_a_parameter(net, x):
    net.scale.add_(1)
    return net.b(net.a(x) * net.scale)


def differentiates(net, x):
    x = x.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(net.a(x).sum(), x, create_graph=True)
    return net.b(net.a(slope))


def transforms(net, x):
    return net.b(net.a(torch.func.grad(lambda y: net.a(y).pow(2).sum())(x)))


def reads(net, x):
    return net.b(torch.relu(net.a(x)))


def goes_elsewhere(net, x):
    return net.b(net.a(x).to("cuda" if not torch.cuda.is_available() else "xpu"))


def takes_data(net, x):
    return net.b(net.a(x).data)


EXPORTS = {
    takes_data: ("out of what is traced", None, "use .detach()"),
    branches: ("depends on the values of tensors", "x.sum() > 0", "torch.where"),
    loops: ("depends on the values of tensors", "int(x.sum())", "from shapes"),
    leaves_torch: ("leaves torch for numpy", ".numpy()", "with torch"),
    calls_an_operator: ("custom operator", "shapeless(", "'autoprune_tests::shapeless'"),
    writes_to_a_parameter: ("writes to a parameter", "scale.add_(1)", "register_buffer"),
    differentiates: ("differentiates with torch.autograd", "autograd.grad(", "put it back"),
    transforms: ("transforms functions", None, "put it back"),
}


@pytest.mark.parametrize("forward", EXPORTS, ids=lambda f: f.__name__)
def test_a_model_that_runs_and_cannot_be_exported(forward, capfd):
    what, line, hint = EXPORTS[forward]
    with pytest.raises(ap.TraceError, match="runs but cannot be exported") as raised:
        trace(Net(forward), X)
    error = raised.value
    assert what in error.what
    assert line is None or line in error.where
    assert hint in error.hint
    assert capfd.readouterr() == ("", "")


def test_a_dimension_that_cannot_be_dynamic(capfd):
    with pytest.raises(ap.TraceError, match="to be dynamic is fixed") as raised:
        trace(Net(lambda net, x: net.b(net.a(x)).view(2, 4)), X, dynamic_shapes="batch")
    assert "leave out dynamic_shapes" in raised.value.hint
    assert capfd.readouterr().err == ""


def test_dynamic_shapes_for_other_arguments(capfd):
    for shapes in ({"y": {0: 2}}, ({0: torch.export.Dim("b")}, None)):
        with pytest.raises(ap.TraceError, match="dynamic_shapes does not fit") as raised:
            trace(Net(reads), X, dynamic_shapes=shapes)
        assert "one entry an argument" in raised.value.hint
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: (v,)])
def test_packed_sequences_are_no_inputs(wrap):
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(3, 2, 8), [3, 2])
    with pytest.raises(ap.TraceError, match="is a packed sequence") as raised:
        trace(nn.LSTM(8, 4), wrap(packed))
    assert "pack_padded_sequence" in raised.value.hint


INPUTS = {
    "sizes": (torch.zeros(2, 7), "sizes that the model does not take", "(2, 7) torch.float32"),
    "dtype": (X.long(), "another dtype", "(2, 8) torch.int64 on cpu; weights are torch.float32"),
    "device": (X.to("meta"), "different devices", "on meta; weights are torch.float32 on cpu"),
    "array": (X.numpy(), "no tensor", "torch.from_numpy"),
    "nothing": ((None,), "None stands where", "given were NoneType"),
    "too many": ((X, X), "not what forward takes", "forward takes (x)"),
    "another name": ({"y": X}, "not what forward takes", "forward takes (x)"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_that_a_model_does_not_run_on(name, capfd):
    inputs, what, hint = INPUTS[name]
    with pytest.raises(ap.TraceError, match="does not run on the example inputs") as raised:
        ap.prune(Net(reads), inputs, channels=0.5)
    assert what in raised.value.what
    assert hint in raised.value.hint
    assert capfd.readouterr().err == ""


def test_a_device_that_is_not_there():
    with pytest.raises(ap.TraceError, match="to a device that is not there"):
        trace(Net(goes_elsewhere), X)


def test_weights_without_values():
    with pytest.raises(ap.TraceError, match="meta device") as raised:
        trace(Net(reads).to("meta"), X)
    assert "to_empty" in raised.value.hint


def test_inputs_made_in_inference_mode():
    with torch.inference_mode():
        inputs = torch.zeros(2, 8)
    with pytest.raises(ap.TraceError, match=r"torch\.inference_mode"):
        trace(Net(reads), inputs)


def test_a_model_that_returns_nothing():
    with pytest.raises(ap.TraceError, match="no tensor comes out of the model"):
        ap.prune(Net(lambda net, x: None), X, channels=0.5)


def test_a_model_without_parameters():
    with pytest.raises(ap.BudgetError, match="the model has no parameters"):
        ap.prune(nn.Sequential(nn.ReLU()), X, flops=0.5)


def test_a_graph_that_fails_inside_a_transform_leaves_it():
    mapped = trace(Net(lambda net, x: torch.vmap(lambda row: net.b(net.a(row)))(x)), X)
    with contextlib.suppress(RuntimeError):
        run(mapped.module, Inputs((X.half() + 1,), {}))
    assert torch._C._functorch.get_dynamic_layer_stack_depth() == 0


def test_loggers_of_torch_are_as_they_were():
    logger = logging.getLogger("torch.export")
    before = list(logger.filters)
    trace(Net(reads), X)
    assert logger.filters == before
    assert "print" not in vars(torch.export._trace)


def test_dynamic_shapes_that_do_not_fit():
    """The hint is about them, also where a module inside would run on the inputs."""
    wrapper = nn.Sequential(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)))
    options = ap.Options(dynamic_shapes=({0: "rows"},))
    with pytest.raises(ap.TraceError, match=r"does not fit the inputs[\s\S]*Dim\.DYNAMIC"):
        ap.inspect(wrapper, X, options=options)
