"""Networks whose products became sparse operators compute what they computed before."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from autoprune.passes.kernels.build import build_library
from autoprune.passes.kernels.encoding import stored_share
from autoprune.passes.kernels.kernel import Product
from autoprune.passes.kernels.registry import select
from autoprune.passes.lower.emit import with_sparse_operators
from autoprune.passes.lower.fuse import find_fusions, find_regions
from autoprune.passes.lower.library import kernels_of
from autoprune.passes.lower.match import find_products, with_pool
from autoprune.passes.lower.onnx_graph import wiring
from tests.kernels.test_operators import host
from tests.onnx.build import Builder
from tests.tolerance import ROUNDING_SINGLE


class Inverted(nn.Module):
    """Inverted residual blocks, with strides, and other activations around them."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.SiLU())
        self.first = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU())
        self.expand = nn.Sequential(nn.Conv2d(16, 48, 1), nn.BatchNorm2d(48), nn.ReLU6())
        self.depth = nn.Sequential(nn.Conv2d(48, 48, 3, padding=1, groups=48), nn.ReLU())
        self.project = nn.Conv2d(48, 16, 1)
        self.wide = nn.Sequential(nn.Conv2d(16, 32, 1), nn.Hardswish())
        self.down = nn.Conv2d(32, 32, 5, 2, 2, groups=32)
        self.last = nn.Sequential(nn.Conv2d(32, 32, 1), nn.SiLU())
        self.stride = nn.Conv2d(32, 32, 3, stride=2, padding=1)
        self.head = nn.Linear(32, 16)

    def forward(self, x):
        x = self.first(self.stem(x))
        x = x + self.project(self.depth(self.expand(x)))
        x = self.last(self.down(self.wide(x)))
        return self.head(self.stride(x).mean((2, 3))) + x.amax((2, 3)).sum()


class Residual(nn.Module):
    """Two convolutions whose outputs are added up, as in a block with a projection."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.left = nn.Conv2d(8, 16, 3, 2, 1)
        self.right = nn.Conv2d(8, 16, 1, 2)
        self.next = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(self.left(x) + self.right(x))
        return torch.relu(self.next(x) + x)


class Encoder(nn.Module):
    """Linear layers with residual connections, norms and two kinds of gelu."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)
        self.norm, self.again = nn.LayerNorm(32), nn.LayerNorm(32)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        x = x + self.out(torch.softmax(q @ k.transpose(1, 2), -1) @ v)
        h = self.up(self.again(x))
        h = h * 0.5 * (1 + torch.erf(h / 2**0.5)) + nn.functional.gelu(h)
        return x + self.down(nn.functional.gelu(self.up(h[..., :32])))


class Attention(nn.Module):
    """Queries, keys and values of different widths, whose input is read elsewhere, too."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 32, bias=False), nn.Linear(32, 48)
        self.out, self.gate = nn.Linear(48, 32), nn.Linear(32, 32)

    def forward(self, x):
        h = self.norm(x)
        mixed = torch.softmax(self.q(h) @ self.k(h).transpose(1, 2), -1) @ self.v(h)
        return torch.relu(self.gate(h)) + self.out(mixed)


NETWORKS = {
    "attention": (Attention, (2, 7, 32), ["SparseLinear"] * 3),
    "inverted": (
        Inverted, (2, 3, 34, 36),
        ["DepthwiseConv"] + ["SparseConvDepthwise"] * 2 + ["SparseConv"] * 4 + ["SparseLinear"]
        + ["Narrow"],
    ),
    "residual": (Residual, (2, 3, 9, 12), ["SparseConv"] * 4),
    "encoder": (Encoder, (2, 7, 32), ["SparseLinear"] * 5),
}  # fmt: skip


def session(model, library=None, optimized=None):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if library is not None:
        options.register_custom_ops_library(str(library))
    if optimized is not None:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def exported(name, folder, *, dynamic):
    """A network with statistics and half of its weights zero, as ONNX with folded norms."""
    make, shape, _ = NETWORKS[name]
    torch.manual_seed(0)
    model, x = make(), torch.randn(shape)
    model(x)
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                blocks = torch.rand(-(-len(parameter) // 16), parameter[0].numel()) < 0.4
                kept = blocks.repeat_interleave(16, 0)[: len(parameter)]
                parameter.mul_(kept.reshape(parameter.shape).float())
    program = torch.onnx.export(
        model, (x,), dynamo=True, verbose=False,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},) if dynamic else None,
    )  # fmt: skip
    session(program.model_proto, optimized=folder / "basic.onnx")
    return onnx.load(folder / "basic.onnx"), x.numpy()


def lowered(model, folder):
    """The model with all its products as sparse operators, and their library."""
    target, graph = host(), wiring(model)
    regions = find_regions(find_fusions(find_products(model, graph), graph, ["float32"]))
    kernels, library = kernels_of(regions), folder / "operators.so"
    if kernels:
        build_library([kernel.lower(target) for kernel in kernels], target, library)
    return with_sparse_operators(model, regions, kernels.index), library


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_lowered_network_computes_the_same(name, dynamic, tmp_path):
    model, x = exported(name, tmp_path, dynamic=dynamic)
    sparse, library = lowered(model, tmp_path)
    onnx.checker.check_model(sparse)
    kinds = [n.op_type for n in sparse.graph.node if n.domain == "autoprune"]
    assert sorted(kinds) == sorted(NETWORKS[name][2])
    run = session(sparse, library)
    for batch in (2, 1, 5) if dynamic else (2,):
        feed = {run.get_inputs()[0].name: np.repeat(x[:1], batch, 0) * np.float32(1.3)}
        (expected,) = session(model).run(None, feed)
        (got,) = run.run(None, feed)
        scale = float(np.abs(expected).max())
        np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING_SINGLE * scale)
    # The model that was lowered is as it was.
    assert not any(n.domain == "autoprune" for n in model.graph.node)


def test_what_becomes_one_operator_is_decided_on_as_one(tmp_path):
    model, _ = exported("attention", tmp_path, dynamic=False)
    graph = wiring(model)
    regions = find_regions(find_fusions(find_products(model, graph), graph, ["float32"]))
    assert sorted(len(region) for region in regions) == [1, 1, 3]


def test_zeros_that_are_scattered_in_linear_layers(tmp_path):
    """They pay from a vector of positions on, of which there may be too few."""
    weight = np.random.default_rng(0).standard_normal((24, 40)).astype(np.float32)
    weight[np.random.default_rng(1).random(weight.shape) > 0.2] = 0
    nodes = [("MatMul", ["x", "w"], ["p"]), ("Relu", ["p"], ["q"]), ("Add", ["q", "r"], ["y"])]

    def made(positions):
        return graph(nodes, {"w": weight}, {"x": [positions, 24], "r": [positions, 40]})

    for positions, found in ((16, 1), ("n", 1), (15, 0)):
        model = made(positions)
        sparse, library = lowered(model, tmp_path)
        kinds = [n.op_type for n in sparse.graph.node if n.domain == "autoprune"]
        assert kinds == ["SparseLinearScattered"] * found
    model = made("n")
    sparse, library = lowered(model, tmp_path)
    rng = np.random.default_rng(2)
    for positions in (1, 16, 70):
        shapes = {"x": (positions, 24), "r": (positions, 40)}
        feed = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
        (expected,) = session(model).run(None, feed)
        (got,) = session(sparse, library).run(None, feed)
        np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING_SINGLE)


def epilogues(model):
    return [
        (p.activation, p.added is not None, len(p.nodes))
        for p in find_products(model, wiring(model))
    ]


def graph(nodes, constants, shapes, output="y"):
    """A model of some nodes; `x` and what `shapes` names are its inputs."""
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(np.asarray(a, np.float32), n) for n, a in constants.items()]
    made = helper.make_graph([helper.make_node(*n) for n in nodes], "g", inputs, [result], tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


WEIGHT = np.ones((8, 16))


@pytest.mark.parametrize(
    ("nodes", "constants", "found"),
    [
        ([("Add", ["p", "b"], ["y"])], {"b": np.ones(16)}, ("", False, 2)),
        ([("Add", ["b", "p"], ["y"])], {"b": np.ones((1, 16))}, ("", False, 2)),
        ([("Add", ["p", "b"], ["y"])], {"b": np.ones((4, 16))}, ("", False, 1)),
        ([("Add", ["p", "b"], ["y"])], {"b": np.ones((4, 1))}, ("", False, 1)),
        ([("Add", ["p", "r"], ["y"])], {}, ("", True, 2)),
        ([("Add", ["p", "row"], ["y"])], {}, ("", False, 1)),
        ([("Add", ["p", "p"], ["y"])], {}, ("", False, 1)),
        ([("Relu", ["p"], ["q"]), ("Add", ["q", "r"], ["y"])], {}, ("relu", False, 2)),
        ([("Clip", ["p", "zero", "six"], ["y"])], {"zero": 0, "six": 6}, ("relu6", False, 2)),
        ([("Clip", ["p", "zero", "six"], ["y"])], {"zero": 0, "six": 5}, ("", False, 1)),
        ([("Sigmoid", ["p"], ["s"]), ("Mul", ["s", "p"], ["y"])], {}, ("silu", False, 3)),
        ([("Sigmoid", ["p"], ["s"]), ("Mul", ["s", "r"], ["y"])], {}, ("", False, 1)),
        (
            [("Sigmoid", ["p"], ["s"]), ("Mul", ["s", "p"], ["t"]), ("Add", ["t", "p"], ["y"])],
            {}, ("", False, 1),
        ),
    ],
)  # fmt: skip
def test_what_is_taken_along(nodes, constants, found):
    """Only what reads the product alone, and computes the same whatever the sizes are."""
    model = graph(
        [("MatMul", ["x", "w"], ["p"]), *nodes],
        {"w": WEIGHT, **constants},
        {"x": [4, 8], "r": [4, 16], "row": [1, 16]},
    )
    assert epilogues(model) == [found]


@pytest.mark.parametrize(
    ("settings", "pools"),
    [
        ({"pads": [0, 1, 1, 0]}, True),
        ({"strides": [2, 2], "auto_pad": "VALID"}, True),
        ({"auto_pad": "SAME_UPPER"}, False),
        ({"dilations": [2, 2]}, False),
        ({"ceil_mode": 1}, False),
    ],
)
def test_pooling_that_can_be_of_bytes(settings, pools):
    model = graph(
        [("Conv", ["x", "w"], ["p"]), ("MaxPool", ["p"], ["y"])], {"w": np.ones((8, 4, 1, 1))},
        {"x": [1, 4, 9, 9]},
    )  # fmt: skip
    model.graph.node[1].attribute.extend(
        helper.make_attribute(name, value)
        for name, value in {"kernel_shape": [2, 2], **settings}.items()
    )
    wired = wiring(model)
    (product,) = find_products(model, wired)
    assert (with_pool(product, wired) is not None) == pools


@pytest.mark.parametrize(("kernel", "found"), [((3, 3), [True]), ((1, 1), [True]), ((1,), [])])
def test_depthwise_convolutions_are_of_two_dimensions(kernel, found):
    model = graph(
        [("Conv", ["x", "w"], ["y"])], {"w": np.ones((8, 1, *kernel))},
        {"x": [1, 8, *(7 for _ in kernel)]},
    )  # fmt: skip
    model.graph.node[0].attribute.append(helper.make_attribute("group", 8))
    assert [p.depthwise for p in find_products(model, wiring(model))] == found


def test_products_are_known_by_what_they_multiply():
    """However they are written; a convolution that is padded by its size only where that is known.

    Kernels neither scale nor spread.
    """
    b = Builder()
    x = b.input("x", (2, 4, 6, 6))
    same = b.node("Conv", x, b.weight("same", 8, 4, 3, 2), auto_pad="SAME_LOWER")
    b.node("Conv", x, b.weight("strided", 8, 4, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2])
    b.node("ConvTranspose", x, b.weight("spread", 4, 8, 3, 3))
    rows = b.node("Einsum", x, b.weight("rows", 5, 6), equation="nchi,oi->ncho")
    b.node("Gemm", b.node("Flatten", x), b.weight("scaled", 144, 3), alpha=2.0)
    model = b.model(*(node.output[0] for node in b.nodes if node.op_type != "Flatten"))
    first, second = find_products(model, wiring(model))
    assert (first.output, first.geometry.begin, first.geometry.end) == (same, (1, 1), (1, 0))
    assert (second.output, second.rowwise, second.weight.shape) == (rows, True, (5, 6))


def test_a_product_that_is_an_output_stays_visible():
    model = graph(
        [("MatMul", ["x", "w"], ["y"]), ("Relu", ["y"], ["z"])], {"w": WEIGHT}, {"x": [4, 8]}
    )
    assert epilogues(model) == [("", False, 1)]


def test_sizes_that_may_be_broadcast_are_not_added():
    """Two unknown sizes need not be equal."""
    nodes = [("MatMul", ["x", "w"], ["p"]), ("Add", ["p", "r"], ["y"])]
    other = graph(nodes, {"w": WEIGHT}, {"x": ["n", 8], "r": ["m", 16]})
    same = graph(nodes, {"w": WEIGHT}, {"x": ["n", 8], "r": ["n", 16]})
    assert epilogues(other) == [("", False, 1)]
    assert epilogues(same) == [("", True, 2)]


def test_what_blocks_store():
    weight = np.zeros((8, 3))
    weight[[0, 5], [0, 2]] = 1
    assert stored_share(weight, 1) == 2 / 24
    assert stored_share(weight, 4) == 8 / 24
    assert stored_share(weight, 8) == 16 / 24
    assert stored_share(weight, 3) == 1.0


def test_which_blocks_are_chosen():
    """The largest that store little; single weights of convolutions only if few are left."""
    rng = np.random.default_rng(0)

    def drawn(rows, columns, density):
        kept = rng.random((64 // rows, 64 // columns)) < density
        return np.kron(kept, np.ones((rows, columns)))

    def chosen(weight, *, rowwise, precision="float32"):
        product = Product(rowwise, "x", "y", weight, np.zeros(len(weight)))
        found = select(product, [precision])
        return 0 if found is None else found.kernel.rows

    assert chosen(drawn(64, 1, 0.3), rowwise=True) == 64
    assert chosen(drawn(16, 1, 0.3), rowwise=True) == 16
    assert chosen(drawn(4, 1, 0.3), rowwise=True) == 0
    assert chosen(drawn(4, 1, 0.3), rowwise=False) == 4
    assert chosen(drawn(4, 1, 0.3) * drawn(1, 1, 0.9), rowwise=False) == 4
    assert chosen(drawn(1, 1, 0.2), rowwise=False) == 1
    assert chosen(drawn(1, 1, 0.4), rowwise=False) == 0
    assert chosen(drawn(1, 1, 0.2), rowwise=True) == 1
    assert chosen(drawn(1, 1, 0.3), rowwise=True) == 0
    assert chosen(drawn(8, 4, 0.3), rowwise=False, precision="int8") == 4
    assert chosen(drawn(8, 1, 0.3), rowwise=False, precision="int8") == 0
