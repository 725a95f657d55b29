"""prune from one end to the other: budgets, options, and what it must not touch."""

from __future__ import annotations

import copy
import dataclasses
import re
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import autoprune as ap
from autoprune.api import inspect
from autoprune.frameworks.torch.equality import difference
from autoprune.ir import axes as ax
from autoprune.ops import rule
from autoprune.ops.views import State
from tests.api.models import IMAGES, MODELS, VECTORS, WORDS, Branchy, Digits, Mixer, build
from tests.tolerance import BUDGET, ROUNDING_SINGLE


def flops_of(model, inputs):
    """Counted by torch while the model runs; without the fused attention it does not know."""
    model = copy.deepcopy(model).eval()
    with (
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        model(inputs)
    return counter.get_total_flops()


def params_of(model):
    return sum(p.numel() for p in model.parameters())


def same_state(a, b):
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


@pytest.mark.parametrize("allocation", ["uniform", "global"])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("budget", "measure"), [("flops", flops_of), ("params", params_of)])
def test_budget_is_met(budget, measure, name, share, allocation):
    make, inputs = MODELS[name]
    model = build(make)
    options = ap.Options(allocation=allocation)
    result = ap.prune(model, inputs, **{budget: share}, options=options)
    arguments = (inputs,) if measure is flops_of else ()
    reached = measure(result.model, *arguments) / measure(model, *arguments)
    assert abs(reached - share) <= BUDGET
    before, after = (getattr(c, budget) for c in (result.report.before, result.report.after))
    assert after == measure(result.model, *arguments)
    assert before == measure(model, *arguments)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_channels_keeps_the_share_of_every_group(share):
    result = ap.prune(build(Digits), IMAGES, channels=share)
    assert len(result.report.groups) == 3
    assert all(row.kept == share * row.units for row in result.report.groups)


def test_groups_is_met_to_the_unit():
    rows = ap.prune(build(Digits), IMAGES, groups=0.4).report.groups
    assert abs(sum(row.kept for row in rows) - 0.4 * sum(row.units for row in rows)) <= 0.5


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_memory_is_met(share):
    result = ap.prune(build(Digits), IMAGES, memory=share, multiple_of=1)
    before, after = result.report.before.memory, result.report.after.memory
    assert abs(after / before - share) <= BUDGET


@pytest.mark.parametrize(
    "share", [0, 1, 1.5, -0.5, True, False, float("nan"), float("inf"), "0.5", 0.0, 1.0]
)
@pytest.mark.parametrize("budget", ["flops", "params", "memory", "channels"])
def test_shares_out_of_range(budget, share):
    with pytest.raises(ap.BudgetError, match=budget):
        ap.prune(build(Branchy), VECTORS, **{budget: share})


@pytest.mark.parametrize("budgets", [{}, {"flops": 0.5, "params": 0.5}, {"flops": None}])
def test_exactly_one_budget(budgets):
    with pytest.raises(ap.BudgetError, match="one budget"):
        ap.prune(build(Branchy), VECTORS, **budgets)


def test_a_budget_that_there_is_not():
    with pytest.raises(TypeError, match="unexpected keywords: macs"):
        ap.prune(build(Branchy), VECTORS, macs=0.5)


@pytest.mark.parametrize("budget", ["flops", "params"])
def test_unreachable_budget_names_one_that_is_reachable(budget):
    with pytest.raises(ap.BudgetError, match="cannot be reached") as raised:
        ap.prune(build(Digits), IMAGES, **{budget: 1e-6}, options=ap.Options(min_units=4))
    (share,) = re.findall(rf"{budget}=([0-9.]+) or more", str(raised.value))
    result = ap.prune(
        build(Digits), IMAGES, **{budget: float(share)}, options=ap.Options(min_units=4)
    )
    assert all(row.kept >= 4 for row in result.report.groups)


def test_budget_between_steps_names_the_nearest():
    model = build(lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)))
    with pytest.raises(ap.BudgetError, match="within 1 %") as raised:
        ap.prune(model, VECTORS, flops=0.4, options=ap.Options(exact_budget=True))
    (share,) = re.findall(r"nearest reachable is flops=([0-9.]+)", str(raised.value))
    assert ap.prune(model, VECTORS, flops=float(share)).report.after.flops
    with pytest.warns(ap.BudgetWarning, match=f"flops=0.4 .* {share}") as warned:
        result = ap.prune(model, VECTORS, flops=0.4)
    assert warned[0].filename == __file__
    assert str(warned[0].message) in result.report.notes


@pytest.mark.parametrize("multiple", [4, 8])
@pytest.mark.parametrize("name", MODELS)
def test_multiple_of(name, multiple):
    make, inputs = MODELS[name]
    model = build(make)
    result = ap.prune(
        model, inputs, channels=0.6, multiple_of=multiple, options=ap.Options(keep_class=False)
    )
    before = {n: p.shape for n, p in model.named_parameters(remove_duplicate=False)}
    changed = 0
    for n, p in result.model.named_parameters(remove_duplicate=False):
        for old, new in zip(before[n], p.shape, strict=True):
            if old != new:
                changed += 1
                assert new % multiple == 0, n
    assert changed


@pytest.mark.parametrize("value", [0, -1, 1.5, "8"])
def test_multiple_of_must_be_a_whole_number(value):
    with pytest.raises(ap.AutopruneError, match="multiple_of"):
        ap.prune(build(Branchy), VECTORS, flops=0.5, multiple_of=value)


@pytest.mark.parametrize("least", [1, 5, 20])
def test_min_units(least):
    result = ap.prune(
        build(Digits), IMAGES, channels=0.05, multiple_of=1, options=ap.Options(min_units=least)
    )
    assert all(row.kept >= min(least, row.units) for row in result.report.groups)
    assert any(row.kept == max(least, 2) for row in result.report.groups)


@pytest.mark.parametrize("value", [0, -3])
def test_min_units_is_at_least_one(value):
    with pytest.raises(ap.BudgetError, match="min_units"):
        ap.prune(build(Branchy), VECTORS, flops=0.5, options=ap.Options(min_units=value))


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        ("3", "3.weight"),
        (["3"], "3.weight"),
        ("3.weight", "3.weight"),
        ("[4]", "3.weight"),
        ("7.weight:0", "7.weight"),
        ("[38].*:0", "3.weight"),
        ("1", "0.weight"),
    ],
)
def test_ignore(ignore, left):
    model = build(Digits)
    result = ap.prune(model, IMAGES, channels=0.5, ignore=ignore)
    assert result.model.get_parameter(left).shape[0] == model.get_parameter(left).shape[0]
    assert any("ignore=" in row.reason for row in result.report.groups)


@pytest.mark.parametrize("name", ["head", "words"])
def test_ignore_either_name_of_a_tied_weight(name):
    result = ap.prune(build(Mixer), WORDS, channels=0.5, ignore=name)
    assert result.model.head.weight.shape == (11, 32)
    assert result.model.up.weight.shape == (64, 32)


@pytest.mark.parametrize("ignore", ["nonsense", ["3", "nonsense"], "layer*", ""])
def test_ignore_what_does_not_exist(ignore):
    with pytest.raises(ap.AutopruneError, match="matches no module, parameter or group"):
        ap.prune(build(Digits), IMAGES, flops=0.5, ignore=ignore)


def test_l2_keeps_the_largest():
    model = build(lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)))
    with torch.no_grad():
        model[0].weight[[0, 3, 5]] *= 1e-3
        model[0].bias[[0, 3, 5]] *= 1e-3
        model[2].weight[:, [0, 3, 5]] *= 1e-3
    result = ap.prune(model, VECTORS, channels=0.5)
    assert torch.equal(result.model[0].weight, model[0].weight[[1, 2, 4]])
    assert torch.equal(result.model[2].weight, model[2].weight[:, [1, 2, 4]])


def test_criterion_as_a_function_sees_the_weights():
    seen = {}

    def last_first(weights):
        seen[weights.group.name] = [m.shape for m in weights.matrices()]
        return np.arange(weights.units)

    model = build(lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)))
    result = ap.prune(model, VECTORS, channels=0.5, criterion=last_first)
    assert torch.equal(result.model[0].weight, model[0].weight[3:])
    assert seen == {"0.weight:0": [(6, 4), (6, 1), (6, 3)]}


@pytest.mark.parametrize(
    "criterion",
    [
        lambda w: np.zeros(w.units + 1),
        lambda w: np.full(w.units, np.nan),
        lambda w: np.full(w.units, np.inf),
        lambda w: 1.0,
        lambda w: np.zeros((w.units, 1)),
        lambda w: None,
        lambda w: "high",
    ],
    ids=["too many", "NaN", "infinite", "one number", "matrix", "None", "text"],
)
def test_criterion_that_returns_no_scores(criterion):
    with pytest.raises(ap.AutopruneError, match="finite scores"):
        ap.prune(build(Branchy), VECTORS, flops=0.5, criterion=criterion)


@pytest.mark.parametrize("criterion", ["L2", "", 3, None])
def test_unknown_criterion(criterion):
    with pytest.raises(ap.AutopruneError, match=r"l2.*random"):
        ap.prune(build(Branchy), VECTORS, flops=0.5, criterion=criterion)


def test_seed():
    def plan(seed, criterion="random"):
        return ap.prune(build(Digits), IMAGES, channels=0.5, criterion=criterion, seed=seed).plan

    assert plan(3) == plan(3)
    assert plan(3) != plan(4)
    assert plan(3, "l2") == plan(4, "l2")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(value):
    model = build(Digits)
    with torch.no_grad():
        model[3].weight[1, 2, 0, 0] = value
    with pytest.raises(ap.GraphError, match=r"(?s)NaN or infinite.*3\.weight"):
        ap.prune(model, IMAGES, flops=0.5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_not_changed(name, training):
    make, inputs = MODELS[name]
    model = build(make).train(training)
    next(model.children()).eval()
    state, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    given, generator = inputs.clone(), torch.get_rng_state()
    result = ap.prune(model, inputs, flops=0.5)
    assert same_state(model.state_dict(), state)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(inputs, given)
    assert torch.equal(torch.get_rng_state(), generator)
    assert result.model.training is training
    with torch.no_grad():
        for p in result.model.parameters():
            p.fill_(7.0)
    assert same_state(model.state_dict(), state), "the result shares memory with the model"


@pytest.mark.parametrize("keep_class", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_the_result_trains_and_copies(name, keep_class):
    make, inputs = MODELS[name]
    model = build(make).train()
    result = ap.prune(model, inputs, flops=0.5, options=ap.Options(keep_class=keep_class))
    small = copy.deepcopy(result.model).train()
    torch.manual_seed(0)
    classes = 11 if name == "mixer" else 5 if name == "digits" else 3
    target = torch.randint(classes, (inputs.numel(),))[: len(inputs)]
    optimizer = torch.optim.Adam(small.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        output = small(inputs)
        loss = F.cross_entropy(output.mean(1) if output.ndim == 3 else output, target)
        loss.backward()
        assert all(p.grad is not None for p in small.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < sum(losses[:3])
    assert same_state(
        ap.prune(
            model, inputs, flops=0.5, options=ap.Options(keep_class=keep_class)
        ).model.state_dict(),
        result.model.state_dict(),
    )


@pytest.mark.parametrize("keep_class", [True, False])
def test_train_and_eval_switch_dropout_and_batch_norm(keep_class):
    result = ap.prune(
        build(Digits).eval(), IMAGES, flops=0.5, options=ap.Options(keep_class=keep_class)
    )
    small = result.model
    assert torch.equal(small(IMAGES), small(IMAGES))
    before = copy.deepcopy(small.state_dict())
    small.train()
    assert not torch.equal(small(IMAGES), small(IMAGES)), "dropout does nothing"
    after = small.state_dict()
    assert any("running_mean" in k and not torch.equal(v, before[k]) for k, v in after.items())
    small.load_state_dict(before)
    copied = copy.deepcopy(small).eval()
    assert torch.equal(copied(IMAGES), copied(IMAGES))
    assert difference(copied(IMAGES), small.eval()(IMAGES)) == 0


@pytest.mark.parametrize("name", MODELS)
def test_the_class_is_kept_where_attributes_say_it_all(name):
    make, inputs = MODELS[name]
    result = ap.prune(build(make), inputs, flops=0.5)
    assert (type(result.model) is make) == (result.report.module == "same class")
    assert (type(result.model) is make) == (name != "branchy")
    assert bool(result.report.module_reason) == (name == "branchy")
    assert result.report.error <= ROUNDING_SINGLE


def test_both_kinds_of_result_agree():
    for make, inputs in (MODELS["digits"], MODELS["mixer"]):
        own, graph = (
            ap.prune(
                build(make).eval(), inputs, channels=0.5, options=ap.Options(keep_class=keep)
            ).model
            for keep in (True, False)
        )
        if params_of(own) == params_of(graph):
            assert difference(own(inputs), graph(inputs)) <= ROUNDING_SINGLE


def test_any_batch_with_dynamic_shapes():
    result = ap.prune(
        build(Branchy), VECTORS, flops=0.5, options=ap.Options(dynamic_shapes="batch")
    )
    for n in (1, 6, 13):
        assert result.model(torch.randn(n, 4)).shape == (n, 3)


def test_approximate_groups_only_on_request():
    model = build(
        lambda: nn.Sequential(nn.Linear(4, 32), nn.Sigmoid(), nn.LayerNorm(32), nn.Linear(32, 3))
    )
    with pytest.raises(ap.BudgetError, match=r"(?s)left alone: mean .*approximate=True"):
        ap.prune(model, VECTORS, channels=0.5)
    result = ap.prune(model, VECTORS, channels=0.5, options=ap.Options(approximate=True))
    assert result.report.groups[0].kept == 16
    assert result.report.approximate_error > ROUNDING_SINGLE


def test_global_allocation_takes_from_where_it_matters_least():
    model = build(
        lambda: nn.Sequential(
            nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)
        )
    )
    with torch.no_grad():
        model[0].weight[:48] *= 1e-4
        model[0].bias[:48] *= 1e-4
        model[2].weight[:, :48] *= 1e-4
    result = ap.prune(
        model, VECTORS, params=0.5, multiple_of=1, options=ap.Options(allocation="global")
    )
    first, second = result.report.groups
    assert first.kept / first.units < second.kept / second.units
    uniform = ap.prune(model, VECTORS, params=0.5, multiple_of=1)
    first, second = uniform.report.groups
    assert abs(first.kept - second.kept) <= 1


def test_unknown_allocation():
    with pytest.raises(ap.AutopruneError, match="allocation"):
        ap.prune(build(Branchy), VECTORS, flops=0.5, options=ap.Options(allocation="best"))


def test_strict_forbids_operators_without_a_rule():
    model = build(lambda: nn.Sequential(nn.Linear(4, 32), Mystery(), nn.Linear(32, 3)))
    with pytest.raises(ap.GraphError, match=r"testlib\.mystery"):
        ap.prune(model, VECTORS, flops=0.5, options=ap.Options(strict=True))
    report = inspect(model, VECTORS)
    assert any("testlib.mystery" in row.name for row in report.unknown_operators)
    assert all("without a rule" in row.reason or "graph" in row.reason for row in report.pinned)


@torch.library.custom_op("testlib::mystery", mutates_args=())
def mystery(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


mystery.register_fake(torch.empty_like)


class Mystery(nn.Module):
    """Uses an operator nobody has a rule for."""

    def forward(self, x):
        return mystery(x)


def test_where_nothing_can_be_pruned_it_says_why():
    model = nn.Sequential(nn.Linear(4, 32), Mystery(), nn.Linear(32, 3))
    report = inspect(model, VECTORS)
    assert not report.groups
    (note,) = report.notes
    assert "Nothing can be pruned" in note
    assert "without a rule" in note
    with pytest.raises(ap.BudgetError, match="cannot be reached"):
        ap.prune(model, VECTORS, flops=0.5)


def test_model_without_parameters():
    assert inspect(nn.ReLU(), VECTORS).notes
    with pytest.raises(ap.BudgetError):
        ap.prune(nn.ReLU(), VECTORS, params=0.5)


def test_inspect_gives_reasons():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.a, self.z = nn.Embedding(9, 8), nn.Linear(8, 6), nn.Linear(6, 2)

        def forward(self, i):
            return self.z(self.a(self.words(i)).softmax(-1))

    report = inspect(Model(), torch.zeros(2, 3, dtype=torch.int64))
    reasons = {row.where[0]: row.reason for row in report.pinned}
    assert "index" in reasons["words.weight:0"]
    assert "softmax" in reasons["a.weight:0"]
    assert "graph output" in reasons["z.weight:0"]
    assert [row.name for row in report.groups] == ["words.weight:1"]
    assert report.before == report.after


@pytest.mark.parametrize("name", MODELS)
def test_costs_before_agree_with_torch(name):
    make, inputs = MODELS[name]
    report = inspect(build(make), inputs)
    assert report.before.params == params_of(build(make))
    assert report.before.flops == flops_of(build(make), inputs)


@contextmanager
def replaced(name, **answers):
    """Another rule for an operator, for a while."""
    operator = dataclasses.replace(rule.find(name), **answers)
    rule.define(name, operator, override=True)
    try:
        yield
    finally:
        rule.forget(name)


def test_a_wrong_rule_is_caught_and_the_first_difference_named():
    """The pieces of a split are swapped: sizes fit, and everything after is wrong."""

    def swapped(call):
        source = call.axes_of(call.tensors[0])
        first, second = call.axes.pieces(source[1], [6, 6])
        return [(source[0], second), (source[0], first)]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.z = nn.Linear(4, 12), nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x):
            first, second = self.a(x).split([6, 6], 1)
            return self.z((first * self.b(x)).relu() + second.sum(1, keepdim=True))

    with (
        replaced("aten.split_with_sizes", axes=swapped),
        pytest.raises(ap.NotEqualError) as raised,
    ):
        ap.prune(build(Model), VECTORS, channels=0.5, criterion="random")
    assert "split" in raised.value.where
    assert __file__ in raised.value.where


def test_a_wrong_promise_of_zeros_is_caught():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 12)

        def forward(self, x):
            return self.a(x).sigmoid().sum(1)

    with (
        replaced("aten.sigmoid", zero=lambda call: State.ZERO),
        pytest.raises(ap.NotEqualError) as raised,
    ):
        ap.prune(build(Model), VECTORS, channels=0.5)
    assert "aten.sum" in raised.value.where


def test_axes_of_a_wrong_size_are_an_error_of_ours():
    for shapes in (lambda call: [()], lambda call: [], lambda call: [(ax.ONE, ax.ONE)] * 2):
        with replaced("aten.relu", axes=shapes), pytest.raises(ap.GraphError, match="relu"):
            inspect(nn.Sequential(nn.Linear(4, 6), nn.ReLU()), VECTORS)


def test_channel_counts_are_even_by_default():
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 100, 3), nn.ReLU(), nn.Conv2d(100, 3, 1)
    )
    result = ap.prune(model, torch.randn(1, 3, 8, 8), channels=0.7)
    assert [m.out_channels for m in result.model if isinstance(m, nn.Conv2d)] == [48, 72, 3]


def test_the_default_multiple_gives_way_to_the_budget():
    model = nn.Sequential(nn.Linear(4, 40), nn.ReLU(), nn.Linear(40, 2))
    result = ap.prune(model, torch.randn(2, 4), flops=0.525)
    assert result.model[0].out_features == 21


def test_inputs_of_zeros_do_not_hide_a_wrong_rule():
    right = rule.find("aten.chunk.default")

    def swapped(call):
        return list(reversed(right.axes(call)))

    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 8, bias=False), nn.Linear(4, 4, bias=False)
            self.c = nn.Linear(4, 2, bias=False)

        def forward(self, x):
            left, right = self.a(x).chunk(2, 1)
            return self.c(left * self.b(x)) + right.sum(1, keepdim=True)

    with replaced("aten.chunk", axes=swapped), pytest.raises(ap.NotEqualError):
        ap.prune(Halves(), torch.zeros(2, 4), channels=0.5, multiple_of=1)
