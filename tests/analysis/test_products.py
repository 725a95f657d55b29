"""Every multiplication by a weight is found, and is what the network computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from autoprune.analysis.products import Products, products_of
from autoprune.analysis.typing import infer
from autoprune.frameworks.onnx.run import observe
from autoprune.frameworks.onnx.tensors import read_tensor
from autoprune.frameworks.onnx.trace import trace as trace_onnx
from autoprune.frameworks.torch.trace import trace
from autoprune.ir.axes import uids_of
from autoprune.ir.graph import Parameter
from tests.onnx.build import Builder
from tests.tolerance import ROUNDING_DOUBLE, ROUNDING_SINGLE


class Net(nn.Module):
    """A forward with some parameters of its own."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.call = forward

    def forward(self, x):
        return self.call(self, x)


def products(network: nn.Module, x: torch.Tensor) -> Products:
    """Those of a network, each of which has been compared with the values of a run."""
    network = network.double().eval()
    traced = trace(network, x)
    found = products_of(infer(traced.graph))
    values = {}

    class Keep(torch.fx.Interpreter):
        def run_node(self, n):
            value = super().run_node(n)
            if isinstance(value, torch.Tensor):
                name = n.target if n.op == "get_attr" else n.name
                values[name] = value.detach().numpy()
            return value

    Keep(traced.module).run(x)
    state = dict(network.state_dict())
    for product in found:
        if product.layout is not None and product.path.moved:
            parameter = state[product.parameter.value.name].detach().numpy()
            compare(product, values, parameter, ROUNDING_DOUBLE)
    return found


def compare(product, values, parameter, tolerance):
    """The product as one of matrices, plus its bias, is the output that a run gave."""
    matrix = product.matrix(parameter)
    assert matrix.shape == product.shape
    assert np.array_equal(product.tensor(matrix), parameter[product.layout.part])
    contraction = product.contraction
    added = np.zeros(())
    for value, dims in contraction.added:
        added = added + contraction.added_scale * _aligned(value, dims, product, values)
    expected = product.rows(values[product.node.outputs[0].name] - added)
    rows = product.columns(values[product.x.name]) @ matrix.swapaxes(1, 2) * contraction.scale
    assert rows.shape == expected.shape
    assert np.abs(rows - expected).max() <= tolerance * max(1.0, np.abs(expected).max())


def _aligned(value, dims, product, values):
    known = dict(zip(dims, values[value.name].shape, strict=True))
    return values[value.name].reshape([known.get(dim, 1) for dim in product.contraction.output])


def summary(found: Products) -> list[tuple]:
    return [(p.parameter.value.name, p.groups, p.outputs, p.inputs, p.taps) for p in found]


def test_linear_layers_and_their_units():
    network = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
    first, second = products(network, torch.randn(5, 3).double())
    assert str(first) == "linear: weight [o i] = 0.weight, outputs o, inputs i"
    assert uids_of(first.makes.values()) == uids_of(second.reads.values()) != set()
    assert first.bias is not None
    assert first.bias[1].parameter.names == ("0.bias",)
    assert first.parameter.kind == "parameter"


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.Conv2d(4, 6, (3, 2), dilation=(2, 1), padding="same"),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.Conv2d(4, 4, 3, groups=4, bias=False),
        nn.Conv2d(4, 8, 3, groups=4),
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
        nn.ConvTranspose2d(4, 6, 3, groups=2, dilation=2),
        nn.ConvTranspose2d(4, 4, 2, groups=4, stride=2),
    ],
)
def test_convolutions(layer):
    network = nn.Sequential(layer, nn.ReLU())
    (product,) = products(network, torch.randn(2, 4, 7, 8).double())
    groups, outputs, columns = product.shape
    assert (groups, groups * outputs) == (layer.groups, layer.out_channels)
    assert groups * outputs * columns == layer.weight.numel()
    assert product.transposed == isinstance(layer, nn.ConvTranspose2d)


def test_projections_of_attention_lie_in_parts_of_one_parameter():
    def forward(net, x):
        q, k, v = (F.linear(x, w) for w in net.weight.chunk(3))
        return F.scaled_dot_product_attention(q, k, v) @ net.out.t()

    layers = {"weight": nn.Parameter(torch.randn(12, 4)), "out": nn.Parameter(torch.randn(5, 4))}
    found = products(Net(forward, **layers), torch.randn(2, 3, 4).double())
    assert [p.layout.start for p in found] == [(0, 0), (4, 0), (8, 0), (0, 0)]
    assert len(found.by_parameter["weight"]) == 3
    assert [node.op for node in found.products[-1].path.nodes] == ["aten.t.default"]


def test_what_torch_writes_for_a_transformer_is_found():
    layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True)
    found = products(layer, torch.randn(2, 3, 4).double())
    assert {p.parameter.value.name for p in found} == {
        "self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"
    }  # fmt: skip


def test_embedding_and_head_share_a_parameter():
    table = nn.Embedding(7, 4)
    network = Net(lambda net, x: F.linear(net.table(x), net.table.weight), table=table)
    found = products(network, torch.tensor([[1, 2, 3]]))
    look_up, head = found.by_parameter["table.weight"]
    assert (look_up.inputs, look_up.outputs) == (("v",), ("d",))
    assert (head.inputs, head.outputs) == (("i",), ("o",))


def test_weights_that_are_computed_say_so():
    def forward(net, x):
        return F.linear(x, net.weight * net.mask)

    network = Net(forward, weight=nn.Parameter(torch.randn(4, 3)))
    network.register_buffer("mask", torch.ones(4, 3))
    (product,) = products(network, torch.randn(2, 3).double())
    assert product.parameter.names == ("weight",)
    assert not product.path.moved


def test_weights_that_are_moved_in_ways_that_types_do_not_tell():
    for move in (lambda w: w.flip(0), lambda w: w.softmax(0), lambda w: w.roll(1, 0)):
        network = Net(lambda net, x, m=move: x @ m(net.w), w=nn.Parameter(torch.randn(4, 3)))
        (product,) = products(network, torch.randn(2, 4).double())
        assert product.parameter.names == ("w",)
        assert product.layout is None


def test_weights_are_found_behind_casts():
    def forward(net, x):
        return F.linear(x, net.weight.double().contiguous().view(3, 4).clone())

    network = Net(forward, weight=nn.Parameter(torch.randn(12)))
    (product,) = products(network, torch.randn(2, 4).double())
    assert product.path.moved
    assert product.layout.sizes == (3, 4)


def test_einsum_over_heads_and_experts():
    def forward(net, x):
        heads = torch.einsum("bsd,hed->bhse", x, net.heads)
        return torch.einsum("bhse,hef->bhsf", heads, net.each)

    layers = {
        "heads": nn.Parameter(torch.randn(2, 3, 4)), "each": nn.Parameter(torch.randn(2, 3, 5))
    }  # fmt: skip
    found = products(Net(forward, **layers), torch.randn(2, 6, 4).double())
    assert summary(found) == [
        ("heads", (), ("h", "e"), ("d",), ()),
        ("each", ("h",), ("f",), ("e",), ()),
    ]


def test_what_is_no_product_is_not_listed():
    network = Net(lambda net, x: x * net.scale, scale=nn.Parameter(torch.randn(3, 4)))
    assert not list(products(network, torch.randn(3, 4).double()))


ONNX = {
    "Gemm": (lambda b, x: b.node("Gemm", x, b.weight("w", 4, 3), b.weight("c", 4), transB=1,
                                 alpha=0.5, beta=2.0), (5, 3)),
    "MatMul": (lambda b, x: b.node("MatMul", x, b.weight("w", 3, 4)), (2, 5, 3)),
    "transposed": (lambda b, x: b.node("MatMul", x, b.node("Transpose", b.weight("w", 4, 3))),
                   (5, 3)),
    "Conv": (lambda b, x: b.node("Conv", x, b.weight("w", 4, 3, 3, 3), b.weight("c", 4),
                                 strides=[2, 1], pads=[0, 1, 2, 1]), (2, 3, 6, 7)),
    "SAME_UPPER": (lambda b, x: b.node("Conv", x, b.weight("w", 4, 3, 3, 3), strides=[2, 2],
                                       auto_pad="SAME_UPPER"), (2, 3, 6, 7)),
    "SAME_LOWER": (lambda b, x: b.node("Conv", x, b.weight("w", 4, 3, 2), auto_pad="SAME_LOWER"),
                   (2, 3, 6)),
    "depthwise": (lambda b, x: b.node("Conv", x, b.weight("w", 3, 1, 3), group=3), (2, 3, 6)),
    "ConvTranspose": (lambda b, x: b.node("ConvTranspose", x, b.weight("w", 3, 4, 3, 3),
                                          strides=[2, 2], pads=[0, 1, 1, 0],
                                          output_padding=[1, 0]), (2, 3, 4, 5)),
    "output_shape": (lambda b, x: b.node("ConvTranspose", x, b.weight("w", 3, 4, 3), strides=[2],
                                         output_shape=[9]), (2, 3, 4)),
    "Einsum": (lambda b, x: b.node("Einsum", x, b.weight("w", 4, 3), equation="bi,oi->bo"), (5, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", ONNX)
def test_onnx(name):
    build, shape = ONNX[name]
    b = Builder()
    x = b.input("x", shape)
    traced = trace_onnx(b.model(build(b, x)))
    (product,) = products_of(infer(traced.graph))
    values = {**traced.feed, **observe(traced.model, traced.feed)}
    for p in traced.graph.parameters:
        values[p.value.name] = _read(traced, p)
    assert product.parameter.value.name == "w"
    compare(product, values, values["w"], ROUNDING_SINGLE)


def _read(traced, p: Parameter):
    return read_tensor(traced, p.value.name)


def test_embeddings_of_onnx():
    b = Builder()
    ids = b.input("ids", (2, 3), 7)
    traced = trace_onnx(
        b.model(b.node("Gather", b.weight("w", 7, 4), ids)), np.array([[1, 2, 3], [0, 6, 5]])
    )
    (product,) = products_of(infer(traced.graph))
    assert (product.inputs, product.outputs) == (("d0",), ("d1",))
    values = {**traced.feed, **observe(traced.model, traced.feed)}
    compare(product, values, _read(traced, product.parameter), ROUNDING_SINGLE)
