"""trace: every way to call a model, and every way in which it cannot be traced."""

from __future__ import annotations

import copy
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils import _pytree as pytree

from autoprune.analysis.groups import find_groups
from autoprune.analysis.typing import infer
from autoprune.errors import TraceError
from autoprune.frameworks.torch.cut import cut_graph
from autoprune.frameworks.torch.equality import difference
from autoprune.frameworks.torch.trace import trace
from autoprune.frameworks.torch.wrappers import network_of
from autoprune.ir.graph import verify
from tests.tolerance import ROUNDING_SINGLE


class Two(nn.Module):
    """Takes two tensors, one with a default."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 6)
        self.b = nn.Linear(4, 6)
        self.z = nn.Linear(6, 2)

    def forward(self, x, y=None, *, scale=1.0):
        hidden = self.a(x)
        if y is not None:
            hidden = hidden + self.b(y)
        return self.z(hidden.relu()) * scale


class Shaped(nn.Module):
    """A network whose output, and input, is what `wrap` and `unwrap` say."""

    def __init__(self, wrap=lambda v: v, unwrap=lambda v: v):
        super().__init__()
        self.a, self.z = nn.Linear(3, 6), nn.Linear(6, 2)
        self.wrap, self.unwrap = wrap, unwrap

    def forward(self, x):
        return self.wrap(self.z(self.a(self.unwrap(x)).relu()))


def cut_half(model, inputs, **options):
    """Trace, cut every group to half, and return the cut graph."""
    traced = trace(model, inputs, **options)
    verify(traced.graph)
    typed = infer(traced.graph)
    groups = find_groups(typed)
    assert groups.groups
    kept = {g.leaf.uid: np.arange(g.units // 2) for g in groups}
    return cut_graph(traced, typed, kept)


X, Y = torch.randn(5, 3), torch.randn(5, 4)


@pytest.mark.parametrize(
    ("inputs", "call"),
    [
        (X, lambda m: m(X)),
        ((X,), lambda m: m(X)),
        ([X], lambda m: m(X)),
        ((X, Y), lambda m: m(X, Y)),
        ({"x": X, "y": Y}, lambda m: m(x=X, y=Y)),
        ({"y": Y, "x": X}, lambda m: m(y=Y, x=X)),
        ({"x": X, "scale": 2.0}, lambda m: m(x=X, scale=2.0)),
        ((X, None), lambda m: m(X, None)),
    ],
    ids=["tensor", "tuple", "list", "two", "keywords", "other order", "a number", "None"],
)
def test_ways_to_pass_inputs(inputs, call):
    model = Two().eval()
    traced = trace(model, inputs)
    assert difference(call(model), call(traced.module)) <= ROUNDING_SINGLE
    assert call(cut_half(model, inputs)).shape == (5, 2)


@pytest.mark.parametrize(
    ("unwrap", "inputs"),
    [
        (lambda v: v["x"] + v["more"][0], ({"x": X, "more": [X]},)),
        (lambda v: v[0] + v[1][0], ((X, (X,)),)),
    ],
    ids=["dict of lists", "nested tuples"],
)
def test_nested_inputs(unwrap, inputs):
    model = Shaped(unwrap=unwrap).eval()
    assert difference(model(*inputs), trace(model, inputs).module(*inputs)) <= ROUNDING_SINGLE
    assert cut_half(model, inputs)(*inputs).shape == (5, 2)


@pytest.mark.parametrize(
    ("wrap", "read"),
    [
        (lambda v: (v, v * 2), lambda o: o[1]),
        (lambda v: {"logits": v, "more": [v]}, lambda o: o["logits"]),
        (lambda v: [v, (v, {"deep": v})], lambda o: o[1][1]["deep"]),
        (lambda v: (v, None, 3), lambda o: o[0]),
    ],
    ids=["tuple", "dict", "nested", "with None"],
)
def test_outputs_keep_their_structure(wrap, read):
    model = Shaped(wrap).eval()
    expected = model(X)
    for network in (trace(model, X).module, cut_half(model, X)):
        got = network(X)
        assert type(got) is type(expected)
        assert pytree.tree_structure(got) == pytree.tree_structure(expected)
        assert read(got).shape == (5, 2)
    assert difference(expected, trace(model, X).module(X)) <= ROUNDING_SINGLE


def test_parameters_buffers_and_constants_are_told_apart():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm = nn.Linear(3, 6), nn.BatchNorm1d(6)
            self.register_buffer("table", torch.ones(6))
            self.register_buffer("hidden", torch.ones(6), persistent=False)
            self.plain = torch.ones(6)

        def forward(self, x):
            return self.norm(self.a(x)) * self.table + self.hidden * self.plain

    kinds = {p.names[0]: p.kind for p in trace(Model(), X).graph.parameters}
    assert kinds["a.weight"] == kinds["norm.weight"] == "parameter"
    assert kinds["norm.running_mean"] == kinds["table"] == kinds["hidden"] == "buffer"
    assert kinds["plain"] == "constant"


def test_one_parameter_under_two_names_is_one():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(7, 6)
            self.head = nn.Linear(6, 7, bias=False)
            self.head.weight = self.words.weight

        def forward(self, i):
            return self.head(self.words(i).relu())

    words = torch.tensor([[0, 3], [2, 6]])
    traced = trace(Tied(), words)
    (only,) = [p for p in traced.graph.parameters if p.kind == "parameter"]
    assert set(only.names) == {"words.weight", "head.weight"}
    (parameter,) = cut_half(Tied(), words).parameters()
    assert parameter.shape == (7, 3)


def test_a_cut_graph_shares_nothing_with_the_traced_one():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm, self.z = nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)
            self.register_buffer("table", torch.ones(2))
            self.register_buffer("hidden", torch.ones(2), persistent=False)

        def forward(self, x):
            return self.z(self.norm(self.a(x)).view(-1, 6)) * self.table * self.hidden

    traced = trace(Model(), X)
    typed = infer(traced.graph)
    kept = {g.leaf.uid: np.arange(g.units // 2) for g in find_groups(typed)}
    code, state = traced.module.code, copy.deepcopy(dict(traced.module.state_dict()))
    expected = traced.module(X)
    cut = cut_graph(traced, typed, kept)
    assert {"table", "hidden", "a.weight"} <= cut.state_dict().keys()
    with torch.no_grad():
        for tensor in cut.state_dict().values():
            tensor.zero_()
    assert traced.module.code == code
    assert all(torch.equal(v, state[k]) for k, v in traced.module.state_dict().items())
    assert torch.equal(traced.module(X), expected)


def test_a_module_called_twice_has_its_parameters_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.z = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.z(self.b(self.b(self.a(x)).relu()))

    graph = trace(Twice(), X).graph
    assert [p.names[0] for p in graph.parameters].count("b.weight") == 1
    assert cut_half(Twice(), X).b.weight.shape == (3, 3)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm = nn.Linear(3, 6), nn.BatchNorm1d(6)
            self.drop, self.z = nn.Dropout(0.5), nn.Linear(6, 2)

        def forward(self, x):
            return self.z(self.drop(self.norm(self.a(x))))

    model = Model().train(training)
    model.norm.eval()  # a frozen norm inside a model in training
    model.a.weight.requires_grad_(False)
    state = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    x = X.clone().requires_grad_()
    trace(model, x)
    assert [m.training for m in model.modules()] == modes
    assert not model.a.weight.requires_grad
    assert model.a.bias.requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert x.grad is None
    assert torch.equal(x, X)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_tracing_leaves_the_random_state_alone():
    model = Shaped()
    before = torch.get_rng_state()
    trace(model, X)
    assert torch.equal(torch.get_rng_state(), before)


def test_frozen_parameters_stay_frozen():
    model = Shaped()
    model.a.weight.requires_grad_(False)
    small = cut_half(model, X)
    assert not small.a.weight.requires_grad
    assert small.z.weight.requires_grad


@pytest.mark.parametrize(
    "shapes",
    ["batch", {"x": {0: torch.export.Dim("n", min=1, max=64)}}, ({0: torch.export.Dim.DYNAMIC},)],
    ids=["batch", "a named Dim", "positional"],
)
def test_dynamic_batch(shapes):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.z = nn.Linear(3, 12), nn.Linear(12, 2)

        def forward(self, x):
            n = x.shape[0]
            return self.z(self.a(x).view(n * 4, 3).relu().view(n, 12) + x.new_zeros(n, 12))

    model = Model().eval()
    module = trace(model, X, dynamic_shapes=shapes).module
    small = cut_half(model, X, dynamic_shapes=shapes)
    for n in (2, 5, 9):
        x = torch.randn(n, 3)
        assert difference(model(x), module(x)) <= ROUNDING_SINGLE
        assert small(x).shape == (n, 2)


def test_an_unknown_name_for_dynamic_shapes():
    with pytest.raises(TraceError, match="batch"):
        trace(Shaped(), X, dynamic_shapes="everything")


@pytest.mark.parametrize("several", [False, True])
def test_no_grad_regions_stay_detached(several):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.z = nn.Linear(3, 6), nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x):
            with torch.no_grad():
                frozen = self.a(x).relu()
                other = frozen * 2 if several else frozen
            return self.z(frozen * self.b(x) + other)

    model = Model().eval()
    module = trace(model, X).module
    for network in (model, module):
        network.zero_grad()
        network(X).square().sum().backward()
    assert model.a.weight.grad is None
    assert module.a.weight.grad is None
    for name in ("b.weight", "z.weight", "z.bias"):
        assert (
            difference(model.get_parameter(name).grad, module.get_parameter(name).grad)
            <= ROUNDING_SINGLE
        )
    assert cut_half(model, X)(X).shape == (5, 2)


@pytest.mark.parametrize("thing", [nn.Linear, {"a.weight": X}, F.relu, None, "model.onnx"])
def test_not_a_module(thing):
    with pytest.raises(TraceError, match=r"torch\.nn\.Module"):
        network_of(thing)


class Products(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 6))

    def forward(self, x):
        return x @ self.weight  # the line at fault


def line_of(function, text):
    lines = function.__code__.co_filename, function.__code__.co_firstlineno
    source = Path(lines[0]).read_text().splitlines()
    number = next(i for i, line in enumerate(source, 1) if i >= lines[1] and text in line)
    return f"{lines[0]}:{number}"


@pytest.mark.parametrize(
    "inputs",
    [torch.randn(5, 4), torch.zeros(5, 3, dtype=torch.int64)],
    ids=["shape", "dtype"],
)
def test_wrong_inputs_name_the_users_line(inputs):
    with pytest.raises(TraceError, match="does not run on the example inputs") as raised:
        trace(Products(), inputs)
    assert raised.value.where.startswith(line_of(Products.forward, "the line at fault"))
    assert "x @ self.weight" in str(raised.value)
    assert raised.value.hint


@pytest.mark.parametrize("inputs", [(), (X, X, X, X), {"nonsense": X}])
def test_wrong_number_or_names_of_inputs(inputs):
    with pytest.raises(TraceError, match="does not run"):
        trace(Products(), inputs)


@pytest.mark.parametrize("inputs", [(), (X, X, X, X), {"nonsense": X}])
def test_wrong_number_or_names_of_inputs_with_a_dynamic_batch(inputs):
    with pytest.raises(TraceError):
        trace(Products(), inputs, dynamic_shapes="batch")


def test_data_dependent_control_flow_names_the_line():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 6)

        def forward(self, x):
            y = self.a(x)
            if y.sum() > 0:  # depends on values
                y = y + 1
            return y

    with pytest.raises(TraceError, match="cannot be exported") as raised:
        trace(Branches(), X)
    assert raised.value.where.startswith(line_of(Branches.forward, "depends on values"))


def test_a_model_that_cannot_be_copied():
    model = Shaped()
    model.lock = threading.Lock()
    with pytest.raises(TraceError, match="cannot be copied") as raised:
        trace(model, X)
    assert "Shaped" in str(raised.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("compiler", [torch.jit.script, lambda m: torch.jit.trace(m, X)])
def test_torchscript(compiler, nested):
    model = compiler(nn.Linear(3, 2))
    with pytest.raises(TraceError, match="TorchScript cannot be exported") as raised:
        trace(nn.Sequential(model) if nested else model, X)
    assert ("at '0'" in raised.value.where) is nested


def test_lazy_parameters_without_values():
    with pytest.raises(TraceError, match="no values yet") as raised:
        trace(nn.Sequential(nn.Linear(3, 4), nn.LazyLinear(2)), X)
    assert raised.value.where == "LazyLinear at '1'"


def test_text_form_names_the_source_line():
    graph = trace(Shaped(), X).graph
    assert all(__file__ in node.source for node in graph.nodes)
    assert "aten.linear" in str(graph)
    assert graph.nodes[0].module[-1] == "a"


def test_digest_forgets_sizes_of_inputs_but_not_the_architecture():
    model = Shaped()
    assert trace(model, X).graph.digest == trace(model, torch.randn(9, 3)).graph.digest
    assert trace(model, X).graph.digest == trace(Shaped(), X).graph.digest
    other = Shaped()
    other.a = nn.Linear(3, 6, bias=False)
    assert trace(model, X).graph.digest != trace(other, X).graph.digest


@pytest.mark.parametrize("name", ["code", "graph"])
def test_names_that_graph_modules_have_themselves(name):
    model = nn.Module()
    setattr(model, name, nn.Linear(3, 2))
    model.forward = lambda x: getattr(model, name)(x)
    with pytest.raises(TraceError, match=f"`{name}`"):
        trace(model, torch.randn(1, 3))


class Late(dict):
    """An output type that becomes known to pytrees when the first one is made in eager mode."""

    known = False

    def __init__(self, *args):
        super().__init__(*args)
        if not Late.known and not torch.compiler.is_compiling():
            pytree.register_pytree_node(
                Late,
                lambda d: (list(d.values()), list(d)),
                lambda v, k: Late(zip(k, v, strict=True)),
            )
            Late.known = True


def test_output_types_that_are_registered_on_first_use():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 2)

        def forward(self, x):
            return Late({"y": self.a(x)})

    assert len(trace(Model(), torch.randn(1, 3)).graph.outputs) == 1
