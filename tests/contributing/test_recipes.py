"""Every recipe of CONTRIBUTING.md, followed: the files of scratch/, put in place and used."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

import autoprune as ap
from autoprune.cli.main import main
from autoprune.frameworks.network import Executable, Network
from autoprune.frameworks.onnx.signatures import SIGNATURES
from autoprune.ops import rule
from autoprune.passes.learners.masks import MaskMethod
from autoprune.passes.learners.units.unit_training import Method
from autoprune.passes.pruning.criteria import CRITERIA
from autoprune.passes.pruning.problem import SOLVERS
from autoprune.testing import check_criterion, check_network, check_rule
from tests.contributing.scratch.framework.model import Perceptron
from tests.contributing.scratch.framework.network import PerceptronNetwork
from tests.onnx.build import Builder
from tests.tolerance import BUDGET, ROUNDING_SINGLE

NET = """from torch import nn

def build():
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4))
"""


def perceptron() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))


X = torch.linspace(-1, 1, 24).reshape(3, 8)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Prunes a small network on the command line."""
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = main(["prune", "net:build", "--input", "2x4", *words, "-o", "a.safetensors"])
        assert not code, capsys.readouterr().err

    return run


@torch.library.custom_op("scratch::gate", mutates_args=())
def gate(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return x * torch.tanh(y)


gate.register_fake(lambda x, y: torch.empty_like(x))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.z = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.z(torch.ops.scratch.gate(self.a(x), self.b(x)))


@pytest.fixture(params=["in the package", "by a user"])
def gate_rule(request, lay):
    if request.param == "by a user":
        ap.rule("scratch.gate", "... , ... -> ...", zero=ap.State.ZERO)
        yield
        ap.forget_rule("scratch.gate")
    else:
        assert lay("operator", "autoprune.ops", rule._OPERATORS) == {"scratch.gate"}
        rule.find.cache_clear()
        yield
    rule.find.cache_clear()


def test_an_operator(gate_rule):
    check_rule("scratch.gate", torch.randn(4, 6), torch.randn(4, 6))
    (group,) = check_network(Gated(), X).groups
    assert (str(group.guarantee), group.units) == ("zero-invariant", 16)
    result = ap.prune(Gated(), X, channels=0.5)
    assert (type(result.model), result.model.b.out_features) == (Gated, 8)
    assert not result.report.unknown_operators


def test_an_operator_of_onnx(run_file):
    build = Builder()
    x = build.input("x", (3, 4))
    a, b = build.linear("a", x, 4, 8), build.linear("b", x, 4, 8)
    gated = build.node("Gate", a, b, domain="test.scratch", strength=2.0)
    model = build.model(build.linear("z", gated, 8, 2))
    body = [
        helper.make_node("Constant", [], ["s"]),
        helper.make_node("Mul", ["q", "s"], ["scaled"]),
        helper.make_node("Tanh", ["scaled"], ["t"]),
        helper.make_node("Mul", ["p", "t"], ["r"]),
    ]
    strength = onnx.AttributeProto(name="value_float", ref_attr_name="strength", type=1)
    body[0].attribute.append(strength)
    model.functions.append(
        helper.make_function(
            "test.scratch", "Gate", ["p", "q"], ["r"], body,
            [helper.make_opsetid("", build.opset)], ["strength"],
        )
    )  # fmt: skip
    assert run_file("onnx_operator/rule.py", rule._OPERATORS) == {"scratch.Gate"}
    assert run_file("onnx_operator/signature.py", SIGNATURES) == {"scratch.Gate"}
    rule.find.cache_clear()
    result = ap.prune(model, channels=0.5)
    ((name, kept),) = ((row.name, row.kept) for row in result.report.groups)
    assert (name, kept) == ("a.weight:1", 4)
    assert "Gate" in [node.op_type for node in result.model.graph.node]


def test_a_criterion(lay, command):
    assert lay("criterion", "autoprune.passes.pruning.criteria", CRITERIA) == {"spread"}
    assert check_criterion("spread") > 10
    model = perceptron()
    with torch.no_grad():
        model[0].weight[::2] = 1.0
        model[0].bias[::2], model[2].weight[:, ::2] = 1.0, 1.0
    result = ap.prune(model, X, channels=0.5, criterion="spread")
    assert torch.equal(result.model[0].weight, model[0].weight[1::2])
    command("--channels", "0.5", "--criterion", "spread")


def train(model, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()


def test_a_learner(lay):
    assert lay("learner", "autoprune.passes.learners.units", Method.named) == {"smallest"}
    model = perceptron()
    pruner = ap.Pruner(model, X)
    optimizer = pruner.smallest(torch.optim.SGD(model.parameters(), 0.1), groups=0.5, steps=20)
    train(model, optimizer, 20)
    small = pruner.finish().model
    assert small[0].out_features == 8
    torch.testing.assert_close(small(X), model(X), rtol=0, atol=ROUNDING_SINGLE)


def test_a_mask_method(lay):
    assert lay("mask_method", "autoprune.passes.learners.masks", MaskMethod.named) == {"at_once"}
    model = perceptron()
    sparsifier = ap.Sparsifier(model, X, format="block 4x1", sparsity=0.5)
    train(model, sparsifier.at_once(torch.optim.SGD(model.parameters(), 0.1), steps=4), 4)
    result = sparsifier.finish()
    assert [row.sparsity for row in result.report.rows] == [0.5, 0.5]
    blocks = result.model[0].weight.reshape(4, 4, 8)
    assert torch.equal((blocks != 0).all(1), (blocks != 0).any(1))


def test_a_budget(run_file, command):
    assert run_file("budget/squares.py", SOLVERS) == {"squares"}
    layers = nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 8)
    model = nn.Sequential(*layers)
    result = ap.prune(model, X, squares=0.5, multiple_of=1)
    reached = sum(row.kept**2 for row in result.report.groups) / (64**2 + 40**2)
    assert abs(reached - 0.5) <= BUDGET
    with pytest.raises(ap.BudgetError, match="squares=2 is not a fraction"):
        ap.prune(model, X, squares=2)
    command("--squares", "0.25")


def test_a_framework(tmp_path):
    rng = np.random.default_rng(0)
    sizes = ((16, 8), (24, 16), (4, 24))
    weights = {f"{i}.weight": rng.normal(size=s) for i, s in enumerate(sizes)}
    weights |= {f"{i}.bias": rng.normal(size=s[0]) for i, s in enumerate(sizes)}
    names = [f"{i}.{of}" for i in range(3) for of in ("weight", "bias")]
    model = Perceptron({name: weights[name].astype(np.float32) for name in names})
    x = rng.normal(size=(5, 8)).astype(np.float32)
    network = PerceptronNetwork(model, x)
    asked = {n for kind in (Executable, Network) for n in vars(kind) if not n.startswith("_")}
    assert asked <= set(dir(network))
    report = ap.inspect(network)
    found = [(row.name, row.guarantee, row.units) for row in report.groups]
    assert found == [("0.weight:0", "folded", 16), ("1.weight:0", "folded", 24)]

    result = ap.prune(network, flops=0.5)
    assert result.report.module == "Perceptron"
    assert abs(result.report.after.flops / result.report.before.flops - 0.5) <= BUDGET
    zeroed = {name: array.copy() for name, array in model.weights.items()}
    for name, choice in result.plan.groups.items():
        gone = np.setdiff1d(np.arange(choice.units), choice.kept)
        layer = name.partition(".")[0]
        zeroed[f"{layer}.weight"][gone] = zeroed[f"{layer}.bias"][gone] = 0
    np.testing.assert_allclose(result.model(x), Perceptron(zeroed)(x), atol=ROUNDING_SINGLE)

    with np.load(result.save(tmp_path / "small.npz")) as saved:
        again = Perceptron(dict(saved))
    assert np.array_equal(again(x), result.model(x))
    with pytest.raises(ap.AutopruneError, match="cannot save as"):
        result.save(tmp_path / "small.onnx")
    with pytest.raises(ap.TraceError, match="read already"):
        ap.prune(network, x, flops=0.5)

    followed = ap.apply_plan(network, result.plan)
    assert np.array_equal(followed(x), result.model(x))
    twice = result.plan.after(result.plan)
    with pytest.raises(ap.PlanError, match="2 steps"):
        ap.apply_plan(network, twice)
    for foreign in (network, result):
        with pytest.raises(ap.TraceError, match="`sparsify` needs"):
            ap.sparsify(foreign)
        with pytest.raises(ap.TraceError, match="`load` needs"):
            ap.load(foreign, tmp_path / "small.safetensors")
        with pytest.raises(ap.AutopruneError, match="perceptrons are not written as ONNX"):
            ap.compile(foreign)
    with pytest.raises(ap.TraceError, match="pruning needs"):
        ap.prune(result, flops=0.5)
