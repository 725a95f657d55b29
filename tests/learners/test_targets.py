"""Targets are met, by construction, whatever the method."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.passes import learners
from tests.tolerance import BUDGET

STEPS = 20

METHODS = [
    learners.HSPG(),
    learners.DHSPG(),
    learners.HESSO(),
    learners.HESSOCRIC(cycles=1, samples=2),
    learners.GroupLasso(),
    learners.WGSEF(),
    learners.Polarization(),
    learners.TurboVBI(),
]


class Residual(nn.Module):
    """Convolutions with a shortcut, and a classifier on flattened channels."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU())
        self.one = nn.Sequential(nn.Conv2d(24, 40, 3, padding=1), nn.BatchNorm2d(40), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(40, 24, 3, padding=1), nn.BatchNorm2d(24))
        self.head = nn.Linear(24 * 16, 5)

    def forward(self, x):
        h = self.stem(x)
        h = (h + self.two(self.one(h))).relu()
        return self.head(nn.functional.avg_pool2d(h, 2).flatten(1))


class Attention(nn.Module):
    """A transformer layer of four heads."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)
        self.norm1, self.norm2 = nn.LayerNorm(32), nn.LayerNorm(32)
        self.heads = 4

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        h = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(h.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


NETWORKS = {
    "residual": (Residual, lambda: torch.randn(4, 1, 8, 8)),
    "attention": (Attention, lambda: torch.randn(2, 5, 32)),
}


def learned(network, method, *, multiple_of=None, options=None, steps=STEPS, **target):
    """The Pruner and the result of a short training on noise."""
    torch.manual_seed(0)
    make, inputs = NETWORKS[network]
    model, x = make(), inputs()
    pruner = ap.Pruner(
        model, x, multiple_of=multiple_of, options=options or ap.Options(keep_class=False)
    )
    base = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    timing = learners.Timing(start=0.2, stop=0.8, periods=4)
    optimizer = pruner.learn(base, method, steps=steps, timing=timing, **target)
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return pruner, pruner.finish()


# All methods choose by the same targets.
@pytest.mark.parametrize(
    ("method", "network", "budget", "share"),
    [(method, "residual", "flops", 0.3) for method in METHODS]
    + [(learners.HESSO(), "residual", *target) for target in (("params", 0.7), ("memory", 0.75))]
    + [(learners.DHSPG(), "attention", *target) for target in (("flops", 0.3), ("params", 0.7))],
    ids=lambda value: type(value).__name__ if isinstance(value, learners.Method) else None,
)
def test_costs_are_met_within_one_percent(method, budget, share, network):
    report = learned(network, method, **{budget: share})[1].report
    reached = getattr(report.after, budget) / getattr(report.before, budget)
    assert abs(reached - share) <= BUDGET
    assert all(group.kept >= 1 for group in report.groups)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_units_are_met_exactly(method):
    share = 0.61
    pruner, result = learned("attention", method, groups=share)
    units = pruner.optimizer.training.units.count
    kept = units - int(pruner.optimizer.training.zero.sum())
    assert abs(kept - share * units) <= 0.5
    lost = sum(group.units - group.kept for group in result.report.groups)
    assert lost == units - kept


def test_every_group_keeps_its_share():
    report = learned("residual", learners.HESSO(), channels=0.5, multiple_of=1)[1].report
    assert {(g.units, g.kept) for g in report.groups} == {(24, 12), (40, 20)}


@pytest.mark.parametrize("multiple", [1, 4, 8])
@pytest.mark.parametrize("allocation", ["uniform", "global"])
def test_multiples_are_kept(multiple, allocation):
    options = ap.Options(allocation=allocation)
    report = learned(
        "residual", learners.HESSO(), flops=0.4, multiple_of=multiple, options=options
    )[1].report
    assert all(group.kept % multiple == 0 for group in report.groups)
    assert abs(report.after.flops / report.before.flops - 0.4) <= BUDGET


@pytest.mark.parametrize("least", [1, 6])
def test_no_layer_is_removed(least):
    """Even where a whole layer scores lowest, some units of it stay."""
    torch.manual_seed(0)
    model, x = Residual(), torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        for parameter in model.one.parameters():
            parameter.mul_(1e-6)
    pruner = ap.Pruner(model, x, multiple_of=1, options=ap.Options(min_units=least))
    base = torch.optim.SGD(model.parameters(), lr=0.0)
    optimizer = pruner.hesso(base, groups=0.2, steps=STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    assert min(group.kept for group in pruner.finish().report.groups) >= least


def test_what_is_chosen_stays_chosen():
    """Over the periods the chosen units only grow in number, and the target is met in the end."""
    torch.manual_seed(0)
    model, x = Residual(), torch.randn(4, 1, 8, 8)
    seen = []
    pruner = ap.Pruner(model, x, multiple_of=1)
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer = pruner.hesso(base, flops=0.3, steps=40)
    for _ in range(40):
        optimizer.zero_grad()
        # Other scores in every step.
        (model(x) * torch.randn(4, 5)).sum().backward()
        optimizer.step()
        seen.append(optimizer.training.chosen.clone())
    for earlier, later in pairwise(seen):
        assert not (earlier & ~later).any()
    assert abs(pruner.finish().report.after.flops / pruner.analysis.costs.flops({}) - 0.3) <= BUDGET
