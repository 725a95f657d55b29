"""Results of the user's class: factors that its forward lacks, and groups it cannot follow."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import autoprune as ap
from tests.tolerance import ROUNDING_DOUBLE

TOKENS = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)).double()


def prune(model, **keywords):
    """Half of every group, in double precision; the result's plan must also rebuild the model."""
    torch.manual_seed(0)
    model = model.double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0, 0.7)
    before = copy.deepcopy(model.state_dict())
    result = ap.prune(model, TOKENS, channels=0.5, multiple_of=1, criterion="random", **keywords)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    if result.report.module == "same class":
        plan = ap.Plan.from_json(result.plan.to_json())
        again = ap.apply_plan(model, plan)
        graph = ap.prune(
            model, TOKENS, channels=0.5, multiple_of=1, criterion="random",
            options=ap.Options(keep_class=False),
        )  # fmt: skip
        outputs = again(TOKENS), result.model(TOKENS)
        torch.testing.assert_close(*outputs, rtol=0, atol=0)
        if graph.plan.groups == result.plan.groups:
            torch.testing.assert_close(
                outputs[0], graph.model(TOKENS), rtol=ROUNDING_DOUBLE, atol=ROUNDING_DOUBLE
            )
    return result


class Gain(nn.Module):
    """RMS normalization written out, with the epsilon in an attribute."""

    def __init__(self, width: int, shift: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps, self.shift = 1e-2, shift

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
        return x * (self.shift + self.weight)


class Normalized(nn.Module):
    def __init__(self, norm: nn.Module):
        super().__init__()
        self.a, self.norm, self.o = nn.Linear(8, 32), norm, nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.norm(F.relu(self.a(x))))


class ReZero(nn.Module):
    """The branch whose mean a cut must rescale is multiplied by zero at first."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 32), nn.Linear(8, 1)
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(x) + self.alpha * torch.relu(self.a(x)).mean(-1, keepdim=True)


class Attention(nn.Module):
    """Fused projection; the scale follows from the width, by the operator or by hand."""

    def __init__(self, by_hand: bool):
        super().__init__()
        self.heads, self.width, self.by_hand = 4, 6, by_hand
        self.qkv, self.o = nn.Linear(8, 72), nn.Linear(24, 8)

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        q, k, v = self.qkv(x).view(n, length, 3, self.heads, self.width).unbind(2)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        if self.by_hand:
            weights = (q @ k.transpose(-2, -1) / self.width**0.5).softmax(-1)
            y = weights @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v)
        return self.o(y.transpose(1, 2).flatten(2))


class Then(nn.Module):
    """An RMS normalization and a function."""

    def __init__(self, function):
        super().__init__()
        self.norm, self.function = nn.RMSNorm(32), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.norm(x))


PASSING = {
    "abs": torch.abs,
    "largest of all tokens": lambda x: x.amax(1, keepdim=True),
    "running maximum": lambda x: x.cummax(1).values,
    "sum of branches": lambda x: F.relu(x) + x.abs().flip(1) / 2,
    "difference of a branch": lambda x: x - x.mean(1, keepdim=True),
    "choice by sign": lambda x: torch.where(x > 0, x, 0.3 * x),
    "limit of zero": lambda x: x.clamp(min=0),
    "padding": lambda x: F.pad(x, (0, 0, 1, 1)),
    "maximum pooling": lambda x: F.max_pool1d(x.transpose(1, 2), 2).transpose(1, 2),
    "appended to an empty cache": lambda x: torch.cat([torch.zeros(0), x], 1),
    "product with itself": lambda x: (x * x).sqrt(),
    "product over tokens": lambda x: torch.einsum("nlc,lm->nmc", x, torch.ones(5, 5).to(x)),
}
"""Functions that pass a positive factor on."""

STOPPING = {
    "hardswish": F.hardswish,
    "limit": lambda x: x.clamp(min=0.5),
    "choice by size": lambda x: torch.where(x > 0.5, x, 0.3 * x),
    "rounding": lambda x: x.round(decimals=1),
}
"""Functions that do not."""


@pytest.mark.parametrize("name", PASSING)
def test_factors_pass_through_what_is_homogeneous(name):
    result = prune(Normalized(Then(PASSING[name])))
    assert result.report.module == "same class", result.report.module_reason
    assert result.plan.factors


@pytest.mark.parametrize("name", STOPPING)
def test_factors_stop_at_what_is_not(name):
    result = prune(Normalized(Then(STOPPING[name])))
    assert result.report.module == "GraphModule"
    reason = result.report.module_reason
    assert "does not pass a factor on" in reason or "keeps the 0.5" in reason


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: Normalized(nn.RMSNorm(32, eps=1e-2)), id="rms_norm"),
        pytest.param(lambda: Normalized(nn.RMSNorm(32)), id="rms_norm, default epsilon"),
        pytest.param(lambda: Normalized(Gain(32)), id="written out"),
        pytest.param(lambda: Normalized(Gain(32, 1.0)), id="gain 1 + weight"),
        *(
            pytest.param(lambda f=f: Normalized(nn.Sequential(nn.RMSNorm(32), f)), id=f"then {f}")
            for f in (nn.PReLU(), nn.LeakyReLU(), nn.RReLU())
        ),
        pytest.param(ReZero, id="mean into a scalar"),
        pytest.param(lambda: Attention(False), id="implicit attention scale"),
        pytest.param(lambda: Attention(True), id="attention scale by hand"),
    ],
)
def test_parameters_take_up_the_factors_of_a_cut(model):
    result = prune(model())
    assert result.report.module == "same class", result.report.module_reason
    assert result.plan.factors
    assert all(g.kept == g.units // 2 for g in result.report.groups)


class LiteralEpsilon(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-2)


def test_a_literal_epsilon_can_not_follow():
    result = prune(Normalized(LiteralEpsilon()))
    assert result.report.module == "GraphModule"
    assert "eps" in result.report.module_reason or "0.01" in result.report.module_reason


class LiteralHeads(nn.Module):
    """Head count and width are literals, the feed-forward layers can follow."""

    def __init__(self):
        super().__init__()
        self.qkv, self.o = nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.down = nn.Linear(8, 64), nn.Linear(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.down(F.gelu(self.up(x + self.o(y))))


def test_groups_the_forward_cannot_follow_are_left_alone():
    result = prune(LiteralHeads())
    assert result.report.module == "same class"
    kept = {g.name: g.kept for g in result.report.groups}
    assert kept["up.weight:0"] == 32
    left = [g for g in result.report.groups if g.kept == g.units]
    assert left
    assert all("to keep the model's class" in g.reason for g in left)


def test_every_group_is_cut_where_the_class_does_not_matter():
    result = prune(LiteralHeads(), options=ap.Options(keep_class=False))
    assert result.report.module == "GraphModule"
    assert all(g.kept < g.units for g in result.report.groups)


class Unread(nn.Module):
    """Its forward runs a layer whose result it does not use, and one that reads that."""

    def __init__(self):
        super().__init__()
        self.a, self.unread, self.after, self.b = (
            nn.Linear(8, 16), nn.Linear(16, 12), nn.Linear(12, 16), nn.Linear(16, 4),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.a(x).relu()
        _ = hidden + self.after(self.unread(hidden).tanh())
        return self.b(hidden)


def test_layers_nothing_reads_shrink_with_what_they_are_given():
    result = prune(Unread())
    assert result.report.module == "same class"
    assert all(g.kept == g.units / 2 for g in result.report.groups)
    assert result.model.unread.weight.shape == (6, 8)
    assert result.model.after.weight.shape == (8, 6)


class Buckets(Attention):
    """Two attributes, of which one only happens to hold the width of a head."""

    def __init__(self, by_hand: bool = False):
        super().__init__(by_hand)
        self.buckets, self.table = 6, nn.Embedding(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        far = torch.arange(x.shape[1]).mul(2).clamp(max=self.buckets - 1)
        return super().forward(x + self.table(far))


def test_a_number_that_only_happens_to_be_a_size_stays():
    result = prune(Buckets())
    assert result.report.module == "same class", result.report.module_reason
    assert (result.model.width, result.model.buckets) == (3, 6)
    assert all(g.kept == g.units // 2 for g in result.report.groups)
