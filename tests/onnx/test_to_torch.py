"""An ONNX model in torch: the same numbers, trainable, prunable, exportable, or a clear error."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import autoprune as ap
import autoprune.frameworks.onnx.to_torch.module
from autoprune.frameworks.comparison import difference
from autoprune.frameworks.onnx.run import outputs
from autoprune.frameworks.onnx.to_torch.writer import OPERATORS, SIZES, operator_key
from autoprune.frameworks.onnx.trace import trace
from tests.onnx.build import Builder
from tests.onnx.cases import CASES
from tests.onnx.zoo import FILES
from tests.tolerance import DIFFERENT, ROUNDING_SINGLE

UNSUPPORTED = {
    "BitShift": "not implemented",  # torch shifts no uint64
    "RNN 1 False activations": "activations are Sigmoid",
    **{f"ScatterND {reduction}": "reduction" for reduction in ("mul", "min", "max")},
    **{
        case.name: "no counterpart here"
        for case in CASES
        if any(operator_key(n) not in {*OPERATORS, *SIZES} for n in case.model().graph.node)
    },
}


def network() -> onnx.ModelProto:
    """Convolution, batch norm, dropout, a head; the batch is open."""
    b = Builder()
    x = b.convolution("a", b.input("x", ("batch", 3, 8, 8)), 3, 6, 3, pads=[1, 1, 1, 1])
    statistics = b.weight("norm.mean", 6), b.positive("norm.variance", 6)
    x = b.node(
        "BatchNormalization", x, b.weight("norm.weight", 6), b.weight("norm.bias", 6), *statistics
    )
    x = b.node("Dropout", b.node("Relu", x))
    depthwise = b.node("Conv", x, b.weight("deep.weight", 6, 1, 1, 1), group=6)
    sizes = b.node("Shape", depthwise)
    batch = b.node("Gather", sizes, b.ints(0))
    flat = b.node("Reshape", depthwise, b.node("Concat", batch, b.ints(-1), axis=0))
    return b.model(b.linear("z", flat, 6 * 64, 2))


def images(batch: int) -> torch.Tensor:
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.name not in UNSUPPORTED], ids=lambda c: c.name
)
def test_each_operator_computes_what_it_does_in_onnx_runtime(case):
    model = case.model()
    traced = trace(model)
    module = ap.to_torch(model)
    inputs = [torch.from_numpy(array) for array in traced.feed.values()]
    with torch.no_grad():
        got = module(*inputs).numpy()
    assert difference(outputs(model, traced.feed), [got]) < ROUNDING_SINGLE


@pytest.mark.parametrize("case", [c for c in CASES if c.name in UNSUPPORTED], ids=lambda c: c.name)
def test_an_operator_that_is_not_supported_is_named(case):
    with pytest.raises(ap.AutopruneError, match=UNSUPPORTED[case.name]) as caught:
        ap.to_torch(case.model())
    assert caught.value.where is not None
    assert caught.value.where.startswith("node ")
    assert "operator " in caught.value.where


@pytest.mark.parametrize("op", ["Relu", "BatchNormalization"])
def test_a_wrong_operator_is_found(op, monkeypatch):
    monkeypatch.setitem(OPERATORS, op, lambda call: call.emit(torch.neg, call.tensor(0)))
    with pytest.raises(ap.NotEqualError, match="differs from ONNX Runtime") as caught:
        ap.to_torch(network())
    assert f"operator {op}" in str(caught.value.where)


def test_open_sizes_stay_open():
    model, x = network(), images(5)
    got = ap.to_torch(model)(x).detach().numpy()
    assert difference(outputs(model, {"x": x.numpy()}), [got]) < ROUNDING_SINGLE


def test_parameters_have_the_names_of_the_model():
    module = ap.to_torch(network())
    assert {"a.weight", "a.bias", "norm.weight", "deep.weight", "z.bias"} <= set(
        dict(module.named_parameters())
    )
    assert {"norm.mean", "norm.variance"} <= set(module.state_dict())


@pytest.mark.parametrize("name", ["/layer.0/weight", "type", "code", "class", "a b", "7.w"])
def test_any_name_of_a_tensor_will_do(name):
    b = Builder()
    model = b.model(b.node("Add", b.node("Mul", b.input("x", (4,)), b.weight(name, 4)), b.weight(
        f"{name}.more", 4)))  # fmt: skip
    assert len(list(ap.to_torch(model).parameters())) == 2


def test_training_fits_and_updates_the_statistics():
    module = ap.to_torch(network())
    x, target = images(8), torch.zeros(8, 2)
    before = module.get_buffer("norm.mean").clone()
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        torch.manual_seed(0)  # the same units are dropped
        loss = nn.functional.mse_loss(module(x), target)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in module.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert (module.get_buffer("norm.mean") - before).abs().max() > DIFFERENT


def test_dropout_drops_in_training_only():
    module, x = ap.to_torch(network()), images(2)
    assert torch.equal(module(x), module(x))
    module.train()
    assert not torch.equal(module(x), module(x))


def test_it_can_be_pruned_and_exported_again(tmp_path):
    module, x = ap.to_torch(network()), images(2)
    result = ap.prune(module, x, channels=0.5, options=ap.Options(dynamic_shapes="batch"))
    assert result.report.after.params < 0.6 * result.report.before.params
    path = tmp_path / "small.onnx"
    result.save(path)
    again, x = ap.to_torch(path, x.numpy()), images(3)
    assert difference([result.model(x).detach().numpy()], [again(x).detach().numpy()]) < (
        ROUNDING_SINGLE
    )


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_it_can_be_copied_and_pickled(copied):
    module, x = ap.to_torch(network()), images(3)
    again = copied(module)
    assert torch.equal(again(x), module(x))
    assert again.state_dict().keys() == module.state_dict().keys()


def test_rounding_that_grows_is_no_difference():
    """The variance is what is left of two large numbers, as the model computes it."""
    b = Builder()
    x = b.node("Add", b.input("x", (1, 4096)), b.scalar(300))
    mean = b.node("ReduceMean", x, axes=[1])
    squares = b.node("ReduceMean", b.node("Mul", x, x), axes=[1])
    variance = b.node("Sub", squares, b.node("Mul", mean, mean))
    model = b.model(b.node("Mul", b.node("Sub", x, mean), b.node("Reciprocal", variance)))
    assert isinstance(ap.to_torch(model), torch.fx.GraphModule)


@pytest.mark.parametrize("name", ["yolov8n", "ppocr_direction", "light_shufflenet"])
def test_real_models(name):
    file = next(f for f in FILES if f.name == name)
    source = onnx.load(file.locate())
    module = ap.to_torch(source, file.inputs)
    feed = {k: v + np.float32(0.1) for k, v in trace(source, file.inputs).feed.items()}
    with torch.no_grad():
        got = module(*map(torch.from_numpy, feed.values()))
    assert difference(outputs(source, feed), [got.numpy()]) < ROUNDING_SINGLE


def test_strided_automatic_padding_refuses_other_sizes():
    """It depends on the size of the input, and was worked out for the example's."""
    b = Builder()
    x, weight = b.input("x", (1, 3, "height", "width")), b.weight("w", 4, 3, 3, 3)
    model = b.model(b.node("Conv", x, weight, auto_pad="SAME_UPPER", strides=[2, 2]))
    module = ap.to_torch(model, {"x": np.ones((1, 3, 8, 8), np.float32)})
    assert module(torch.ones(1, 3, 8, 8)).shape == (1, 4, 4, 4)
    with pytest.raises(ap.TraceError, match=r"\(8, 8\), got \(9, 9\)"):
        module(torch.ones(1, 3, 9, 9))
