"""Units chosen for each head, and the same numbers of units in all layers."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.frameworks.torch.equality import difference
from tests.api.models import WORDS, Mixer, build
from tests.tolerance import CUT, ROUNDING_SINGLE
from tests.zoo.models import get

SHARED = ap.Options(per_outer=False)


class Experts(nn.Module):
    """Feed-forward layers side by side, each with hidden units of its own."""

    def __init__(self, experts=3, width=4, hidden=8):
        super().__init__()
        self.up = nn.Parameter(torch.randn(experts, width, hidden))
        self.down = nn.Parameter(torch.randn(experts, hidden, width))

    def forward(self, x):
        return torch.bmm(torch.bmm(x, self.up).relu(), self.down)


EXPERTS = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))


def kept_of(result, name):
    (choice,) = (c for n, c in result.plan.groups.items() if n == name)
    return choice


def test_each_expert_keeps_its_largest_units():
    model = build(Experts)
    strong = [[0, 2, 5, 7], [1, 2, 3, 4], [4, 5, 6, 7]]
    with torch.no_grad():
        for e, units in enumerate(strong):
            model.up[e][:, units] += 10 * model.up[e][:, units].sign()
    result = ap.prune(model, EXPERTS, channels=0.5, multiple_of=1)
    assert kept_of(result, "up:2").kept == tuple(map(tuple, strong))
    assert torch.equal(result.model.up[1], model.up[1][:, [1, 2, 3, 4]])
    assert torch.equal(result.model.down[2], model.down[2][[4, 5, 6, 7]])
    assert {row.name: row.outer for row in result.report.groups} == {"up:2": "up:0"}
    assert "8 -> 4 each" in str(result.report)


def test_the_same_units_everywhere_if_asked():
    result = ap.prune(build(Experts), EXPERTS, channels=0.5, options=SHARED)
    assert kept_of(result, "up:2").outer == ""
    assert all(row.outer == "" for row in result.report.groups)


def test_a_criterion_may_score_units_or_choices():
    one = ap.prune(build(Experts), EXPERTS, channels=0.5, criterion=lambda w: np.arange(w.units))
    assert kept_of(one, "up:2").kept == (4, 5, 6, 7)
    order = np.array([1, -1, 1])[:, None] * np.arange(8)
    each = ap.prune(build(Experts), EXPERTS, channels=0.5, criterion=lambda w: order)
    assert kept_of(each, "up:2").kept == ((4, 5, 6, 7), (0, 1, 2, 3), (4, 5, 6, 7))


@pytest.mark.parametrize("name", ["hf_bert", "hf_gpt2", "hf_llama", "tv_resnext50_32x4d"])
def test_own_class_and_plan(name):
    row = get(name)
    model, inputs = row.build(), row.inputs()
    result = ap.prune(model, inputs, channels=0.5, criterion="random")
    assert result.report.module == "same class"
    assert result.report.error <= CUT
    assert any(choice.outer for choice in result.plan.groups.values())
    plan = ap.Plan.from_json(result.plan.to_json())
    assert plan == result.plan
    rebuilt = ap.apply_plan(model, plan)
    for a, b in zip(rebuilt.parameters(), result.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_graph_module_plan_and_file(tmp_path):
    model = build(Mixer)
    options = ap.Options(keep_class=False)
    result = ap.prune(model, WORDS, channels=0.5, criterion="random", options=options)
    assert any(choice.outer for choice in result.plan.groups.values())
    again = ap.apply_plan(model, ap.Plan.from_json(result.plan.to_json()), WORDS)
    assert difference(result.model(WORDS), again(WORDS)) <= ROUNDING_SINGLE
    path = result.save(tmp_path / "small.safetensors")
    loaded = ap.load(build(Mixer, seed=1), path, WORDS)
    assert difference(result.model(WORDS), loaded(WORDS)) <= ROUNDING_SINGLE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kept": [[0, 1], [0, 1]]}, "expects shape"),
        ({"kept": [[0, 1], [0, 1], [0]]}, "equally many"),
        ({"kept": [[0, 1], [0, 1], [1, 0]]}, "increasing"),
        ({"kept": [[0, 1], [0, 1], [0, 8]]}, "from 0 to 7"),
        ({"kept": [[], [], []]}, "at least one"),
        ({"kept": []}, "equally many"),
        ({"kept": [0, 1]}, "not a plan"),
        ({"outer": 3}, "not a plan"),
        ({"outer": ""}, "not a plan"),
        ({"outer": "nothing"}, "not in the plan"),
    ],
    ids=str,
)
def test_edited_plans(change, message):
    model = build(Experts)
    data = json.loads(ap.prune(model, EXPERTS, channels=0.5).plan.to_json())
    data["groups"]["up:2"] |= change
    with pytest.raises(ap.PlanError, match=message):
        ap.apply_plan(model, ap.Plan.from_json(json.dumps(data)))


def test_a_table_for_a_group_that_has_no_outer_axis():
    model = build(Mixer)
    result = ap.prune(model, WORDS, channels=0.5, options=ap.Options(keep_class=False))
    name, other = "up.weight:0", next(n for n, c in result.plan.groups.items() if c.outer)
    choice = dataclasses.replace(
        result.plan.groups[name],
        kept=tuple(result.plan.groups[name].kept for _ in range(4)),
        outer=result.plan.groups[other].outer,
    )
    plan = dataclasses.replace(result.plan, groups={**result.plan.groups, name: choice})
    with pytest.raises(ap.PlanError, match="cannot be chosen per unit"):
        ap.apply_plan(model, plan, WORDS)


def counts(result):
    """Kept counts of groups by name, layer indices left out."""
    found = {}
    for row in result.report.groups:
        name = ".".join("#" if part.isdigit() else part for part in row.name.split("."))
        found.setdefault((name, row.units), set()).add(row.kept)
    return found


@pytest.mark.parametrize("name", ["hf_bert", "hf_llama"])
def test_uniform_layers(name):
    row = get(name)
    options = ap.Options(allocation="global", uniform=True)
    free = ap.prune(row.build(), row.inputs(), flops=0.6, options=ap.Options(allocation="global"))
    result = ap.prune(row.build(), row.inputs(), flops=0.6, options=options)
    assert any(len(kept) > 1 for kept in counts(free).values())
    assert all(len(kept) == 1 for kept in counts(result).values())
    assert any(row.kept < row.units for row in result.report.groups)


def test_uniform_leaves_all_layers_alone_where_one_is():
    row = get("hf_bert")
    ignored = "bert.encoder.layer.1.intermediate"
    result = ap.prune(
        row.build(), row.inputs(), channels=0.5, ignore=ignored, options=ap.Options(uniform=True)
    )
    wide = [r for r in result.report.groups if "intermediate" in r.name]
    assert len(wide) == 2
    assert all(r.kept == r.units for r in wide)
    assert any("uniform=True" in r.reason for r in wide)
