"""Networks that are quantized, or are trained to be: pruned, or told to be pruned first."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import torch.ao.quantization as ao
import torch.ao.quantization.fx._decomposed
from torch import nn

import autoprune as ap
from autoprune.frameworks.torch.equality import difference

X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def prepared():
    """A network in quantization-aware training, after some steps."""
    torch.manual_seed(0)
    model = nn.Sequential(
        ao.QuantStub(), nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 16, 24), nn.ReLU(), nn.Linear(24, 4), ao.DeQuantStub(),
    ).train()  # fmt: skip
    model.qconfig = ao.get_default_qat_qconfig("x86")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ao.fuse_modules_qat(model, [["1", "2", "3"], ["5", "6"]])
        ao.prepare_qat(model, inplace=True)
    for _ in range(3):
        model(torch.randn(8, 3, 6, 6))
    return model.eval()


def test_layers_that_observe_are_left_alone_and_the_error_says_what_to_call():
    with pytest.raises(ap.BudgetError, match=r"model\.apply\(torch\.ao\.quantization\.disable_obs"):
        ap.prune(prepared(), X, channels=0.5)


def test_layers_that_observe_no_more_shrink_train_and_convert():
    model = prepared()
    model.apply(ao.disable_observer)
    before = copy.deepcopy(model.state_dict())
    result = ap.prune(model, X, channels=0.5)
    assert result.report.module == "same class"
    assert [(row.kept, row.units) for row in result.report.groups] == [(8, 16), (12, 24)]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    small = result.model
    small.train()(X).sum().backward()
    small.apply(ao.enable_observer)(X)
    integers = ao.convert(small.eval())
    assert integers[5].in_features == 8 * 16
    assert torch.isfinite(integers(X)).all()


def test_converted_exactly_like_the_zeroed_network():
    """Per-channel ranges of the units that stay are theirs, so their integers are the same."""
    model = prepared()
    model.apply(ao.disable_observer)
    result = ap.prune(model, X, channels=0.5, ignore="1")
    (choice,) = result.plan.groups.values()
    gone = [u for u in range(24) if u not in choice.kept]
    with torch.no_grad():
        for tensor in (model[5].weight, model[5].bias):
            tensor[gone] = 0
    assert difference(ao.convert(model)(X), ao.convert(result.model.eval())(X)) == 0


class Scaled(torch.Tensor):
    """Integers with a scale, as libraries of quantization keep weights."""

    @staticmethod
    def __new__(cls, integers, scale):
        return torch.Tensor._make_wrapper_subclass(cls, integers.shape, dtype=scale.dtype)

    def __init__(self, integers, scale):
        self.integers, self.scale = integers, scale

    def __tensor_flatten__(self):
        return ["integers", "scale"], None

    @staticmethod
    def __tensor_unflatten__(inner, meta, outer_size, outer_stride):
        return Scaled(inner["integers"], inner["scale"])

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.detach.default:
            return Scaled(args[0].integers, args[0].scale)
        whole = [a.integers * a.scale if isinstance(a, cls) else a for a in args]
        return func(*whole, **(kwargs or {}))


def plain():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def packed():
    return ao.convert(prepared())


def dynamic():
    return ao.quantize_dynamic(plain())


def of_a_subclass():
    model = plain()
    integers = torch.randint(-127, 127, (16, 8), dtype=torch.int8)
    weight = Scaled(integers, torch.rand(16, 1))
    model[0].weight = nn.Parameter(weight, requires_grad=False)
    return model


class Folded(nn.Module):
    """What conversion of an exported program leaves: integers in buffers."""

    def __init__(self):
        super().__init__()
        for name, shape in (("a", (16, 8)), ("b", (4, 16))):
            self.register_buffer(name, torch.randint(-127, 127, shape, dtype=torch.int8))

    def forward(self, x):
        ends = (-128, 127, torch.int8)
        back = torch.ops.quantized_decomposed.dequantize_per_tensor
        hidden = nn.functional.linear(x, back(self.a, 0.1, 0, *ends)).relu()
        return nn.functional.linear(hidden, back(self.b, 0.1, 0, *ends))


@pytest.mark.parametrize("make", [packed, dynamic, of_a_subclass, Folded])
def test_weights_that_are_integers_are_refused(make):
    x = X if make is packed else torch.randn(2, 8)
    with pytest.raises(ap.TraceError, match="prune the network in floating point first") as caught:
        ap.prune(make(), x, channels=0.5)
    assert caught.value.where
