"""Pruning to a latency: the search on answers that are known, and once with a real clock."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.analysis.resizing import sizes_of
from autoprune.frameworks.torch.export_onnx import export_onnx
from autoprune.frameworks.torch.objects import Inputs
from autoprune.passes.pruning import latency as latency_budget
from autoprune.passes.pruning.latency import ROUNDS, TOLERANCE, meet_latency
from autoprune.report.latency import Latency
from tests.api.models import IMAGES, Digits, build


@dataclass
class _Network:
    """What stands for a network: its share of the FLOPs and of the time."""

    flops: float
    taken: float

    @property
    def latency(self):
        return Latency(1.0, self.taken, threads=1, rounds=5)


def searched(share, taken):
    """The network that is found if a share of the FLOPs takes `taken` of the time; all tried."""
    tried = []

    def attempt(flops):
        tried.append(_Network(flops, taken(flops)))
        return tried[-1]

    return meet_latency(share, attempt), tried


@pytest.mark.parametrize("share", [0.35, 0.5, 0.8])
@pytest.mark.parametrize("overhead", [0.0, 0.1, 0.3])
def test_time_linear_in_flops_is_met_at_the_second_network(overhead, share):
    found, tried = searched(share, lambda flops: overhead + (1 - overhead) * flops)
    assert abs(found.taken - share) <= TOLERANCE
    assert len(tried) <= 2


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize(
    "taken",
    [
        lambda flops: flops**0.5,
        lambda flops: flops**2,
        lambda flops: min(1.0, 1.6 * flops),
        lambda flops: flops + 0.4 * flops * (1 - flops),
    ],
    ids=["concave", "convex", "flat above", "bent"],
)
def test_other_times_are_met(taken, share):
    found, tried = searched(share, taken)
    assert abs(found.taken - share) <= TOLERANCE
    assert len(tried) <= ROUNDS


def test_a_step_in_time_gives_the_largest_network_below_it():
    found, tried = searched(0.6, lambda flops: 0.8 if flops > 0.4 else 0.3)
    assert found.taken == 0.3
    assert found.flops == max(t.flops for t in tried if t.flops <= 0.4)
    assert found.flops > 0.3


def test_a_smaller_network_may_be_slower():
    found, _ = searched(0.5, lambda flops: 1.2 if flops > 0.3 else flops)
    assert found.taken <= 0.5


def test_what_no_network_reaches_is_refused_at_once():
    tried = 0

    def attempt(flops):
        nonlocal tried
        tried += 1
        return _Network(flops, 0.6 + 0.4 * flops)

    with pytest.raises(ap.BudgetError, match=r"latency=0.2 cannot be reached: .* takes 0.60"):
        meet_latency(0.2, attempt)
    assert tried <= 3


@pytest.fixture
def clock(monkeypatch):
    """A clock by which a fifth of the time does not depend on the FLOPs; counts the networks."""
    opened = []

    def measured(network, analysis, kept, original, threads):
        opened.append(original)
        share = analysis.costs.flops(sizes_of(kept)) / analysis.costs.flops({})
        return Latency(1.0, 0.2 + 0.8 * share, threads, 5)

    monkeypatch.setattr(latency_budget, "measured", measured)
    return opened


@pytest.mark.parametrize("framework", ["torch", "onnx"])
def test_prune_meets_a_latency(clock, framework, tmp_path):
    model, said = build(Digits).eval(), []
    options = ap.Options(progress=said.append, threads=2)
    source, inputs = model, IMAGES
    if framework == "onnx":
        source, inputs = tmp_path / "digits.onnx", None
        export_onnx(model, Inputs((IMAGES,), {}), source)
    result = ap.prune(source, inputs, latency=0.6, options=options)
    latency = result.report.latency
    assert abs(latency.after / latency.before - 0.6) <= TOLERANCE
    assert latency.threads == 2
    assert result.report.after.flops < 0.6 * result.report.before.flops
    assert len(set(map(id, clock))) == 1 < len(clock)  # the original is opened once
    assert any("of the FLOPs take" in text for text in said)


def test_the_clock_is_real(monkeypatch):
    monkeypatch.setattr(latency_budget, "SECONDS", 0.1)
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(64, 64, 3, padding=1) for _ in range(4)]
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), *convolutions, nn.Conv2d(64, 3, 1))
    result = ap.prune(model, torch.randn(1, 3, 48, 48), latency=0.5)
    latency = result.report.latency
    assert latency.after / latency.before <= 0.5 + TOLERANCE
    assert latency.rounds >= 5
    assert result.report.after.flops < result.report.before.flops


@pytest.mark.parametrize("share", [0, 1, -0.5, True, "0.5"])
def test_shares_out_of_range(share):
    with pytest.raises(ap.BudgetError, match="latency"):
        ap.prune(build(Digits), IMAGES, latency=share)
