"""What errors about budgets name: the axes on which most hangs, why they stay, what would help."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

import autoprune as ap
from tests.tolerance import BUDGET

X = torch.zeros(2, 3, 8, 8)


@torch.library.custom_op("autoprune_tests::product", mutates_args=())
def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x @ weight.T


@product.register_fake
def _(x, weight):
    return x.new_empty(x.shape[0], weight.shape[0])


class Custom(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(16, 8)), nn.Parameter(torch.randn(4, 16))

    def forward(self, x):
        return product(product(x, self.a).relu(), self.b)


class Summed(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 16)

    def forward(self, ids):
        return self.words(ids).square().sum(-1)


def convolutions():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def refused(model, x, options=None, **budget):
    with pytest.raises(ap.BudgetError) as raised:
        ap.prune(model, x, **budget, options=options or ap.Options())
    return raised.value


def test_what_remains_and_why():
    error = refused(convolutions(), X, flops=0.001)
    assert re.match(r"flops=0\.001 cannot be reached: .* allow flops=0\.\d+ or more", error.what)
    parts = error.where.partition(": ")[2].split("; ")
    assert parts[0].startswith("0.weight:1 (3 units, 5")
    assert parts[0].endswith("graph input `input_1`")
    assert "graph output" in parts[1]
    assert "a window slides" in parts[2]
    assert error.hint == "ask for more"


def test_the_same_budget_on_what_is_reachable():
    options = ap.Options(min_units=4)
    error = refused(convolutions(), X, options, params=0.01)
    share = float(re.search(r"params=([0-9.]+) or more", error.what)[1])
    report = ap.prune(convolutions(), X, params=share, options=options).report
    assert abs(report.after.params / report.before.params - share) <= BUDGET


@pytest.mark.parametrize(
    ("asked", "reason", "hint"),
    [
        ({"ignore": "*"}, "left alone: ignore='*'", "ignore less"),
        ({"only": "6"}, "left alone: only='6'", "name more with only"),
        ({"options": ap.Options(min_units=32)}, "graph output", "lower min_units"),
        ({"multiple_of": 64}, "graph output", "lower multiple_of"),
    ],
)
def test_what_would_help(asked, reason, hint):
    error = refused(convolutions(), X, channels=0.5, **asked)
    assert "leaves every group whole" in error.what
    assert reason in error.where
    assert hint in error.hint


def test_positions_that_are_no_units_have_a_reason():
    class Unbound(nn.Sequential):
        def forward(self, x):
            return self[1](torch.stack(self[0](x).unbind(1), 1))

    error = refused(Unbound(nn.Linear(8, 6), nn.Linear(6, 2)), torch.zeros(2, 8), channels=0.5)
    assert "0.weight:0 (6 units) and 2 more: its positions are told apart" in error.where


def test_operators_without_a_rule():
    error = refused(Custom(), torch.zeros(2, 8), flops=0.5)
    assert "operator without a rule" in error.where
    assert "product(product(" in error.where
    assert "give autoprune_tests.product.default a rule" in error.hint


def test_costs_that_there_are_none_of():
    error = refused(Summed(), torch.zeros(2, 5, dtype=torch.long), flops=0.5)
    assert "no operator of the model counts FLOPs" in error.what
    assert error.hint == "give params= or channels= instead"


@pytest.mark.parametrize(
    ("share", "hint"),
    [(1.0, "nothing to prune"), (0, "keep nothing"), (50, "percent are meant, give flops=0.5")],
)
def test_what_a_share_out_of_range_means(share, hint):
    assert hint in refused(convolutions(), X, flops=share).hint


def test_numbers_of_numpy_are_numbers():
    report = ap.prune(convolutions(), X, flops=np.float32(0.5)).report
    assert abs(report.after.flops / report.before.flops - 0.5) <= BUDGET


def test_a_misspelt_budget_or_criterion():
    with pytest.raises(TypeError, match=r"flop \(did you mean 'flops'\?\)"):
        ap.prune(convolutions(), X, flop=0.5)
    with pytest.raises(ap.AutopruneError, match=r"did you mean 'l2'\?"):
        ap.prune(convolutions(), X, flops=0.5, criterion="L2")


def test_frozen_weights_of_a_learner():
    model = convolutions().requires_grad_(False)
    pruner = ap.Pruner(model, X)
    with pytest.raises(ap.BudgetError, match=r"(?s)is frozen.*let what is frozen train"):
        pruner.hesso(torch.optim.SGD(model.parameters(), lr=0.1), flops=0.5, steps=24)


class TestMistakes:
    """What is written at the first attempt, and what to write instead."""

    @pytest.mark.parametrize(
        ("keywords", "hint"),
        [
            ({"flops": 0.5, "keep_config": True}, r"options=ap\.Options\(keep_config=\.\.\.\)"),
            ({"macs": 0.5}, "budgets are flops, params"),
            ({"flops": 0.5, "options": {"probe": True}}, r"takes ap\.Options\(\.\.\.\), not dict"),
        ],
    )
    def test_keywords(self, keywords, hint):
        with pytest.raises(TypeError, match=hint):
            ap.prune(convolutions(), X, **keywords)

    def test_options_of_others(self):
        for call in (ap.inspect, ap.Pruner):
            with pytest.raises(TypeError, match=r"takes ap\.Options"):
                call(convolutions(), X, options={"probe": True})

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("weights.pth", "load_state_dict"),
            ("weights.safetensors", "load_state_dict"),
            ("net.pt2", "on the command line"),
            ("bert-base-uncased", "pass the module itself"),
        ],
    )
    def test_paths_of_other_files(self, tmp_path, name, hint):
        for call in (ap.prune, ap.inspect, ap.sparsify, ap.to_torch):
            budget = {"flops": 0.5} if call is ap.prune else {}
            with pytest.raises(ap.TraceError, match=f"(?s)No such file.*{hint}"):
                call(tmp_path / name, **budget)
            (tmp_path / name).write_bytes(b"weights")
            with pytest.raises(ap.TraceError, match=f"(?s)not an ONNX model.*{hint}"):
                call(tmp_path / name, **budget)
            (tmp_path / name).unlink()

    def test_modules_where_onnx_is_needed(self):
        with pytest.raises(ap.TraceError, match=r"got Sequential.*\n.*path of an \.onnx file"):
            ap.to_torch(convolutions())

    def test_things_that_are_not_compiled(self):
        with pytest.raises(ap.TraceError, match=r"make a network of it: Linear\(\.\.\.\)"):
            ap.compile(nn.Linear)

    def test_plans_that_are_not_there(self, tmp_path):
        with pytest.raises(ap.PlanError, match="cannot be read: No such file or directory\n"):
            ap.Plan.load(tmp_path / "plan.json")

    def test_outputs_by_a_name_that_there_is_not(self):
        with pytest.raises(ap.TraceError, match="give positions or names: 0"):
            ap.prune(convolutions(), X, flops=0.5, outputs="logits")

    def test_files_that_load_does_not_read(self, tmp_path):
        path = tmp_path / "weights.pth"
        torch.save(convolutions().state_dict(), path)
        with pytest.raises(ap.PlanError, match=r"load reads what result\.save"):
            ap.load(convolutions(), path)

    def test_reports_are_pages_or_json(self, tmp_path):
        report = ap.inspect(convolutions(), X)
        for name in ("report.txt", "report"):
            with pytest.raises(ap.AutopruneError, match=r"use \.html"):
                report.save(tmp_path / name)
            assert not (tmp_path / name).exists()


def test_a_result_without_changes_says_so():
    result = ap.prune(convolutions(), X, dead=True)
    assert "as before" in repr(result)
    assert "0 of 2 groups lost units" in repr(result)
    assert "can go" not in repr(result)


def test_graphs_stay_graphs():
    graph = torch.export.export(convolutions(), (X,)).module(check_guards=False)
    result = ap.prune(graph, X, flops=0.5)
    assert result.report.module_reason == "so was the network that was given"
