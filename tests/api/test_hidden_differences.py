"""Differences that equal outputs on the example inputs would hide."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import autoprune as ap
from autoprune.errors import NotEqualError

TOKENS = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


def prune(model, inputs=TOKENS, **keywords):
    return ap.prune(model.eval(), inputs, channels=0.5, multiple_of=1, seed=0, **keywords)


class Limit(nn.Module):
    """`max_len` happens to equal the width of the heads."""

    def __init__(self):
        super().__init__()
        self.dim = self.max_len = 16
        self.heads = 4
        self.w, self.o = nn.Linear(8, 64), nn.Linear(64, 8)

    def forward(self, x):
        x = x[:, : self.max_len]
        y = self.w(x).view(*x.shape[:2], self.heads, self.dim)
        return self.o(F.relu(y).flatten(2))


class Masked(nn.Module):
    """One class is filled with the smallest number, next to which all others are nothing."""

    def __init__(self):
        super().__init__()
        self.a, self.o = nn.Linear(8, 32), nn.Linear(32, 4)
        self.register_buffer("mask", torch.tensor([False, True, False, False]))

    def forward(self, x):
        h = F.relu(self.a(x))
        y = self.o(h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6))
        return y.masked_fill(self.mask, torch.finfo(y.dtype).min)


class Clamped(nn.Module):
    """The limit of the clamp is the width, far above every activation of the example."""

    def __init__(self):
        super().__init__()
        self.a, self.o = nn.Linear(8, 32), nn.Linear(32, 4)

    def forward(self, x):
        h = F.relu(self.a(x))
        return self.o(h.clamp(max=h.shape[-1]))


def test_an_unrelated_attribute_of_the_same_size_stays():
    model = Limit()
    small = prune(model).model
    longer = torch.randn(2, 14, 8)
    if isinstance(small, Limit):
        assert small.max_len == 16
        assert small(longer).shape == (2, 14, 8)
    else:
        with pytest.raises(ap.TraceError, match="traced for inputs of shape"):
            small(longer)


@pytest.mark.parametrize("network", [Masked, Clamped])
def test_a_class_that_computes_something_else_is_not_accepted(network):
    torch.manual_seed(0)
    result = prune(network())
    assert result.report.module == "GraphModule"


class LastToken(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.o = nn.Linear(8, 32), nn.Linear(32, 4)

    def forward(self, x, scale=1.0):
        h = F.relu(self.a(x))
        h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.o(h)[:, x.shape[1] - 1] * scale


def test_a_graph_refuses_inputs_it_was_not_traced_for():
    import copy

    small = prune(LastToken(), (TOKENS, 2.0)).model
    for network in (small, copy.deepcopy(small)):
        network(TOKENS, 2.0)
        network(x=TOKENS, scale=2.0)
        with pytest.raises(ap.TraceError, match=r"\(2, 5, 8\)"):
            network(torch.randn(2, 9, 8), 2.0)
        with pytest.raises(ap.TraceError, match=r"the input 2\.0"):
            network(TOKENS, 3.0)


class Ordered(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.o = nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, p, q):
        return self.o(F.relu(self.a(p))) - q


def test_keywords_in_another_order_keep_their_meaning():
    p, q = TOKENS, torch.randn(2, 5, 8)
    small = prune(Ordered(), {"q": q, "p": p}, options=ap.Options(keep_class=False)).model
    assert torch.allclose(small(p, q), small(p=p, q=q))


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.o = nn.Linear(8, 32), nn.Linear(32, 8)
        self.register_buffer("seen", torch.zeros(1))
        self.calls = []

    def forward(self, x):
        self.seen += x.shape[0]
        self.calls.append(1)
        return self.o(F.relu(self.a(x)))


@pytest.mark.parametrize("keep_class", [True, False])
def test_checking_leaves_no_trace_in_the_result(keep_class):
    model = Counting()
    result = prune(model, options=ap.Options(keep_class=keep_class))
    assert model.seen.item() == 0
    assert result.model.seen.item() == 0
    assert not getattr(result.model, "calls", [])


class Positions(nn.Module):
    """Indices are not zero where values are."""

    def __init__(self):
        super().__init__()
        self.a, self.o = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x):
        h = F.relu(self.a(x))
        return self.o(h) + h.cummax(1)[1].to(h.dtype).sum(-1, keepdim=True)


def test_indices_of_removed_units_are_not_zero():
    report = ap.inspect(Positions(), TOKENS)
    assert [g.guarantee for g in report.groups] == ["approximate"]


class Noisy(nn.Module):
    """Draws random numbers in evaluation too."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.o = nn.Linear(8, 32), nn.Linear(8, 16), nn.Linear(16, 4)
        self.c = nn.Linear(32, 16)

    def forward(self, x):
        h = F.dropout(F.relu(self.a(x)), 0.5, training=True)
        return self.o(self.c(h) + self.b(x) * torch.randn_like(self.b(x)))


def test_random_draws_are_not_exact():
    report = ap.inspect(Noisy(), TOKENS)
    assert {g.guarantee for g in report.groups} == {"approximate"}
    assert all("random" in g.reason for g in report.groups)


class Sketched(nn.Module):
    """Decomposes what a layer makes by a random method."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.o = nn.Linear(8, 32), nn.Linear(32, 8), nn.Linear(2, 4)

    def forward(self, x):
        return self.o(torch.svd_lowrank(self.b(F.relu(self.a(x))), q=2)[0])


def test_what_is_random_is_not_called_exact():
    with pytest.raises(NotEqualError, match="draws random numbers") as raised:
        prune(Sketched())
    assert "aten.randn" in raised.value.where
    assert "o(torch.svd_lowrank" in raised.value.where
    report = prune(Noisy(), options=ap.Options(approximate=True)).report
    assert report.approximate_error > 0


class Roots(nn.Module):
    """Of what is positive until units are zero."""

    def __init__(self):
        super().__init__()
        self.a, self.o = nn.Linear(8, 32), nn.Linear(32, 4)
        nn.init.constant_(self.a.bias, 9.0)

    def forward(self, x):
        return self.o(torch.sqrt(self.a(x) - 0.1))


def test_what_is_no_number_once_units_are_zero_is_named():
    network = Roots()
    assert network(TOKENS).isfinite().all()
    with pytest.raises(NotEqualError, match="once the removed units are zero"):
        prune(network)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_inputs_that_hide_every_mistake_are_refused(number):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    with pytest.raises(ap.TraceError, match="no output is a finite number"):
        ap.prune(model, torch.full((2, 8), number), channels=0.5)


def test_sparse_outputs_are_compared():
    class Sparse(nn.Sequential):
        def forward(self, x):
            return super().forward(x).to_sparse()

    model = Sparse(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    small = ap.prune(model, torch.randn(2, 8), channels=0.5).model
    assert small(torch.randn(2, 8)).is_sparse


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_saving_leaves_a_graph_in_training(tmp_path, suffix):
    model = nn.Sequential(nn.Linear(8, 32), nn.Dropout(0.9), nn.Linear(32, 4)).train()
    options = ap.Options(keep_class=False)
    result = ap.prune(model, TOKENS, channels=0.5, multiple_of=1, options=options)
    assert not torch.equal(result.model(TOKENS), result.model(TOKENS))
    result.save(tmp_path / f"small{suffix}")
    assert result.model.training
    assert not torch.equal(result.model(TOKENS), result.model(TOKENS))
