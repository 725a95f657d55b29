"""Which part of a network a call is about: only, ignore, outputs, sizes by pattern, the dead."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import onnx
import pytest
import torch
from torch import nn
from torch.nn.utils import prune as masks

import autoprune as ap
from autoprune.frameworks.torch.equality import difference
from tests.tolerance import ROUNDING_SINGLE

X = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))


def chain():
    torch.manual_seed(0)
    names = ("first", "act1", "second", "act2", "head")
    layers = (nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 24), nn.Sigmoid(), nn.Linear(24, 4))
    return nn.Sequential(OrderedDict(zip(names, layers, strict=True)))


@dataclass
class Found:
    logits: torch.Tensor
    hidden: torch.Tensor
    aux: torch.Tensor


class Heads(nn.Module):
    """Hidden states and an auxiliary head are returned beside what matters."""

    def __init__(self, form=dict):
        super().__init__()
        self.body, self.head = nn.Linear(8, 32), nn.Linear(32, 4)
        self.aux, self.form = nn.LayerNorm(32), form

    def forward(self, x):
        hidden = torch.relu(self.body(x))
        parts = {"logits": self.head(hidden), "hidden": hidden, "aux": self.aux(hidden)}
        return tuple(parts.values()) if self.form is tuple else self.form(**parts)


@pytest.fixture(scope="module")
def as_onnx(tmp_path_factory):
    path = tmp_path_factory.mktemp("scope") / "net.onnx"
    ap.prune(Heads(tuple), X, channels=0.75, outputs=0).save(path)
    return path


def kept(result):
    return {row.name: row.kept for row in result.report.groups}


def test_only_what_a_module_makes():
    """`second` reads the units of `first` and makes its own."""
    result = ap.prune(chain(), X, channels=0.5, only="second")
    assert kept(result) == {"first.weight:0": 32, "second.weight:0": 12}
    rows = {row.name: row.reason for row in result.report.groups}
    assert "only='second'" in rows["first.weight:0"]
    ignoring = ap.prune(chain(), X, channels=0.5, ignore="head")
    assert kept(ignoring) == {"first.weight:0": 16, "second.weight:0": 24}


def test_only_and_ignore_take_groups_as_they_are_printed():
    result = ap.prune(chain(), X, channels=0.5, only=["*.weight:0"], ignore="first.weight:0")
    assert kept(result) == {"first.weight:0": 32, "second.weight:0": 12}


def test_only_sees_through_masks():
    model = chain()
    masks.identity(model.first, "weight")
    assert kept(ap.prune(model, X, channels=0.5, only="first")) == {
        "first.bias:0": 16,
        "second.weight:0": 24,
    }


def test_inspect_shows_what_is_left_alone():
    report = ap.inspect(chain(), X, only="second")
    assert [row.reason for row in report.groups] == [
        "left alone: only='second'",
        report.groups[1].reason,
    ]


@pytest.mark.parametrize("keyword", ["only", "ignore", "sizes", "channels"])
def test_names_that_there_are_not(keyword):
    given = {keyword: {"secnd": 0.5 if keyword == "channels" else 8}}
    if keyword in ("only", "ignore"):
        given = {keyword: "secnd", "channels": 0.5}
    with pytest.raises(ap.AutopruneError, match=r"(?s)matches no .*'second'.*there are 'first'"):
        ap.prune(chain(), X, **given)


def test_names_have_to_be_text():
    model = chain()
    with pytest.raises(ap.AutopruneError, match="ignore takes names, not Linear"):
        ap.prune(model, X, channels=0.5, ignore=[model.head])


def test_sizes():
    result = ap.prune(chain(), X, sizes={"first": 13, "second.weight:0": 5})
    assert (result.model.first.out_features, result.model.second.out_features) == (13, 5)
    assert kept(ap.prune(chain(), X, sizes={"first": 13})) == {
        "first.weight:0": 13,
        "second.weight:0": 24,
    }


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"first": 33}, "sizes asks for 33 units where there are 32"),
        ({"first": 0}, "asks for 0 units"),
        ({"first": 2.5}, "asks for 2.5 units"),
        ({"first": 32, "second": 24}, "leaves every group whole"),
        ({"head": 2}, r"(?s)no group that may shrink.*graph output"),
        ({"*": 8, "first": 16}, r"(?s)no group that may shrink.*earlier patterns"),
        ({}, "names nothing"),
        (8, "names nothing"),
    ],
)
def test_sizes_that_cannot_be(sizes, message):
    with pytest.raises(ap.BudgetError, match=message):
        ap.prune(chain(), X, sizes=sizes)


def test_sizes_of_an_axis_that_is_several_groups():
    model = nn.Sequential(nn.Conv1d(2, 16, 1), nn.GroupNorm(4, 16), nn.Conv1d(16, 2, 1))
    with pytest.raises(ap.BudgetError, match=r"'0.weight:0/0' with 4, '0.weight:0/1' with 4"):
        ap.prune(model, torch.randn(1, 2, 3), sizes={"0": 8})


def test_sizes_are_multiples_only_if_asked_for():
    with pytest.raises(ap.BudgetError, match="cannot keep 13 units; nearest are 12 and 16"):
        ap.prune(chain(), X, sizes={"first": 13}, multiple_of=4)


def test_channels_by_pattern():
    """The first pattern counts; what none matches stays whole."""
    result = ap.prune(chain(), X, channels={"first": 0.75, "*": 0.5})
    assert kept(result) == {"first.weight:0": 24, "second.weight:0": 12}
    assert kept(ap.prune(chain(), X, channels={"second": 0.5}))["first.weight:0"] == 32


@pytest.mark.parametrize("budget", ["flops", "params", "memory", "latency"])
def test_costs_have_no_patterns(budget):
    with pytest.raises(ap.BudgetError, match=f"{budget} takes one fraction for the whole network"):
        ap.prune(chain(), X, **{budget: {"first": 0.5}})


def test_groups_that_shrink_alike_are_asked_for_the_same():
    options = ap.Options(uniform=True)
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 5))
    with pytest.raises(ap.BudgetError, match=r"0.weight:0 is to keep 4 of 8 and 1.weight:0 8 of 8"):
        ap.prune(model, X[:, :6], sizes={"0": 4}, options=options)
    assert set(kept(ap.prune(model, X[:, :6], sizes={"*": 4}, options=options)).values()) == {4}


@pytest.mark.parametrize(
    ("form", "outputs"),
    [(dict, "logits"), (tuple, 0), (tuple, [-3]), (Found, "logits"), (Found, [0])],
)
def test_outputs_that_do_not_matter_may_change_shape(form, outputs):
    model = Heads(form)
    with pytest.raises(ap.BudgetError, match="graph output"):
        ap.prune(model, X, channels=0.5)
    result = ap.prune(model, X, channels=0.5, outputs=outputs)
    assert type(result.model) is Heads
    assert result.model.body.out_features == result.model.aux.normalized_shape[0] == 16
    assert result.report.groups[0].guarantee == "zero-invariant"


def test_outputs_that_matter_are_compared():
    model = Heads()
    result = ap.prune(model, X, channels=0.5, outputs="logits")
    zeroed = Heads()
    zeroed.load_state_dict(model.state_dict())
    gone = [u for u in range(32) if u not in result.plan.groups["body.weight:0"].kept]
    with torch.no_grad():
        zeroed.body.weight[gone], zeroed.body.bias[gone] = 0, 0
    assert difference(zeroed(X)["logits"], result.model(X)["logits"]) < ROUNDING_SINGLE


def nested(logits, hidden, aux):
    return {"out": {"logits": logits, "more": [hidden, aux]}, "steps": 3, "none": None}


@pytest.mark.parametrize("path", ["out.logits", "out.0", "0.logits"])
def test_outputs_inside_of_others(path):
    result = ap.prune(Heads(nested), X, channels=0.5, outputs=path)
    assert [t.shape[1] for t in result.model(X)["out"]["more"]] == [16, 16]


@pytest.mark.parametrize("wanted", ["steps", "none", 1])
def test_outputs_that_are_no_tensors(wanted):
    with pytest.raises(ap.TraceError, match=f"outputs={wanted!r} is no tensor"):
        ap.prune(Heads(nested), X, channels=0.5, outputs=wanted)


@pytest.mark.parametrize("path", ["out.logit", "out.logits.0.1", "steps.a"])
def test_paths_of_outputs_that_there_are_not(path):
    with pytest.raises(ap.TraceError, match="is none of the model's outputs"):
        ap.prune(Heads(nested), X, channels=0.5, outputs=path)


def test_a_plan_made_without_some_outputs_is_applied(tmp_path):
    model = Heads()
    result = ap.prune(
        model, X, channels=0.5, outputs="logits", options=ap.Options(keep_class=False)
    )
    result.save(tmp_path / "small.safetensors")
    loaded = ap.load(Heads(), tmp_path / "small.safetensors", X)
    assert difference(loaded(X), result.model(X)) == 0


def test_outputs_that_there_are_not(as_onnx):
    with pytest.raises(ap.TraceError, match=r"(?s)outputs='logit' .*0, 1, 2, 'logits', 'hidden'"):
        ap.prune(Heads(), X, channels=0.5, outputs="logit")
    with pytest.raises(ap.TraceError, match="outputs=3 is none"):
        ap.prune(as_onnx, channels=0.5, outputs=3)
    with pytest.raises(ap.AutopruneError, match=r"1\.5 is neither a position nor a name"):
        ap.prune(Heads(), X, channels=0.5, outputs=1.5)
    with pytest.raises(ap.AutopruneError, match="neither a position nor a name"):
        ap.prune(Heads(), X, channels=0.5, outputs=[True])


def test_a_learner_takes_the_same():
    model = Heads()
    pruner = ap.Pruner(model, X, only="body", outputs="logits")
    optimizer = pruner.hesso(
        torch.optim.SGD(model.parameters(), lr=0.1), channels={"body": 0.5}, steps=24
    )
    for _ in range(24):
        optimizer.zero_grad()
        model(X)["logits"].sum().backward()
        optimizer.step()
    assert pruner.finish().model.body.out_features == 16


def test_a_learner_says_that_it_gets_only_near_its_target():
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    pruner = ap.Pruner(model, X)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(ap.BudgetWarning, match=r"flops=0\.4 .* nearest reachable") as warned:
        optimizer = pruner.hesso(optimizer, flops=0.4, steps=24)
    assert warned[0].filename == __file__
    for _ in range(24):
        optimizer.zero_grad()
        model(X).sum().backward()
        optimizer.step()
    result = pruner.finish()
    assert str(warned[0].message) in result.report.notes
    assert result.model[0].out_features == 2


def test_modules_of_onnx_nodes_whose_weights_have_made_up_names(as_onnx):
    model = onnx.load(as_onnx)
    made_up = {t.name: f"onnx::Weight_{i}" for i, t in enumerate(model.graph.initializer)}
    for tensor in model.graph.initializer:
        tensor.name = made_up[tensor.name]
    for node in model.graph.node:
        node.input[:] = [made_up.get(name, name) for name in node.input]
    assert list(kept(ap.prune(model, channels=0.5, outputs=0, only="body")).values()) == [12]
    with pytest.raises(ap.BudgetError, match="ignore='aux'"):
        ap.prune(model, channels=0.5, outputs=0, ignore="aux")


def test_onnx_takes_the_same(as_onnx):
    graph = onnx.load(as_onnx).graph
    name = graph.output[0].name
    with pytest.raises(ap.BudgetError, match="graph output"):
        ap.prune(as_onnx, channels=0.5)
    small = ap.prune(as_onnx, sizes={"body": 9}, outputs=name, only="body").model
    widths = [o.type.tensor_type.shape.dim[1].dim_value for o in small.graph.output]
    assert widths == [4, 9, 9]
    plan = ap.prune(as_onnx, sizes={"body": 9}, outputs=0).plan
    assert ap.apply_plan(as_onnx, plan).graph.output[1].type.tensor_type.shape.dim[1].dim_value == 9


def without(model, *, made=(), read=(), layer="first", reader="second"):
    """Set what makes or what reads some units to zero."""
    with torch.no_grad():
        weight, bias = model.get_submodule(layer).weight, model.get_submodule(layer).bias
        weight[list(made)], bias[list(made)] = 0, 0
        model.get_submodule(reader).weight[:, list(read)] = 0
    return model


def test_dead_units_are_those_that_nothing_makes_or_reads():
    """Unit 31 of `first` is read by the dead units of `second` alone; sigmoids leave constants."""
    model = without(chain(), made=range(5), read=(10, 11))
    without(model, made=range(3), read=range(20, 24), layer="second", reader="head")
    with torch.no_grad():
        model.second.weight[3:20, 31] = 0
    result = ap.prune(model, X, dead=True)
    gone = {name: set(range(c.units)) - set(c.kept) for name, c in result.plan.groups.items()}
    assert gone["first.weight:0"] == {0, 1, 2, 3, 4, 10, 11, 31}
    assert gone["second.weight:0"] == {0, 1, 2, 20, 21, 22, 23}
    assert difference(model(X), result.model(X)) < ROUNDING_SINGLE


def test_nothing_dead_is_no_error():
    result = ap.prune(chain(), X, dead=True)
    assert not result.report.pruned
    assert "Nothing is dead" in result.report.notes[0]


def test_a_unit_that_a_norm_brings_to_zero_is_dead_and_one_that_it_shifts_is_not():
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        model[1].weight[:4], model[1].bias[:4] = 0, 0
        model[0].weight[4:6], model[0].bias[4:6], model[1].bias[4:6] = 0, 0, 0.3
    assert kept(ap.prune(model, X, dead=True)) == {"0.weight:0": 12}


def test_masked_units_are_dead():
    model = chain()
    masks.ln_structured(model.first, "weight", amount=0.5, n=2, dim=0)
    with torch.no_grad():
        model.first.bias[model.first.weight_mask[:, 0] == 0] = 0
    result = ap.prune(model, X, dead=True)
    assert result.model.first.weight_orig.shape == (16, 8)
    assert difference(model(X), result.model(X)) < ROUNDING_SINGLE


def test_dead_units_of_onnx_models(as_onnx):
    model = onnx.load(as_onnx)
    weights = {t.name: t for t in model.graph.initializer}
    for name in ("body.weight", "body.bias"):
        array = onnx.numpy_helper.to_array(weights[name]).copy()
        array[:5] = 0
        weights[name].CopyFrom(onnx.numpy_helper.from_array(array, name))
    assert kept(ap.prune(model, dead=True, outputs=0)) == {"body.weight:0": 19}
    assert "Nothing is dead" in ap.prune(as_onnx, dead=True).report.notes[-1]


def test_dead_is_true_or_left_out():
    with pytest.raises(ap.BudgetError, match="dead=1 is not a choice"):
        ap.prune(chain(), X, dead=1)
    with pytest.raises(ap.BudgetError, match="give one budget, not 2: flops, dead"):
        ap.prune(chain(), X, dead=True, flops=0.5)
