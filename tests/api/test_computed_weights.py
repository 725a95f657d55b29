"""Networks whose hooks compute the weights that layers use from other parameters."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as masks

import autoprune as ap
from autoprune.frameworks.torch.equality import difference
from tests.tolerance import ROUNDING_SINGLE

X = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))


def plain():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)
    )


def weight_norm():
    model = plain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch has a newer way, without hooks
        for i in (0, 2):
            nn.utils.weight_norm(model[i])
    return model


def masked():
    model = plain()
    masks.l1_unstructured(model[0], "weight", 0.5)
    masks.ln_structured(model[2], "weight", 0.5, n=2, dim=0)
    return model


def parametrized():
    model = plain()
    nn.utils.parametrizations.weight_norm(model[0])
    nn.utils.parametrizations.spectral_norm(model[2])
    return model


NETWORKS = (weight_norm, masked, parametrized)


@pytest.mark.parametrize("make", NETWORKS)
def test_prune(make):
    model = make()
    model(X).sum().backward()  # leaves weights behind that have a gradient and cannot be copied
    before = copy.deepcopy(model.state_dict())
    result = ap.prune(model, X, params=0.6, multiple_of=1)
    assert result.report.module == "same class"
    assert all(row.kept < row.units for row in result.report.groups)
    assert [result.model[i].out_features for i in (0, 2)] == [
        row.kept for row in result.report.groups
    ]
    assert result.model[2].in_features == result.model[0].out_features
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    for _ in range(2):  # the weights are computed anew after a step
        result.model(X).square().sum().backward()
        torch.optim.SGD(result.model.parameters(), lr=0.1).step()
    assert torch.isfinite(result.model(X)).all()


@pytest.mark.parametrize("make", NETWORKS)
def test_save_and_load(make, tmp_path):
    result = ap.prune(make(), X, params=0.6, multiple_of=1)
    result.save(tmp_path / "small.safetensors")
    loaded = ap.load(make(), tmp_path / "small.safetensors")
    assert difference(result.model(X), loaded(X)) <= ROUNDING_SINGLE
    result.save(tmp_path / "small.onnx")


@pytest.mark.parametrize("make", NETWORKS)
def test_train_once(make):
    model = make()
    pruner = ap.Pruner(model, X, multiple_of=1, distill="logits")
    base = torch.optim.SGD(model.parameters(), lr=0.01)
    optimizer = pruner.hesso(base, params=0.6, steps=40)
    for _ in range(40):
        optimizer.zero_grad()
        (model(X).square().mean() + pruner.distillation_loss()).backward()
        optimizer.step()
    result = pruner.finish()
    assert difference(model(X), result.model(X)) <= ROUNDING_SINGLE


def low_rank():
    """An update of rank 2, as large as the weight."""

    class Update(nn.Module):
        def __init__(self, out, into):
            super().__init__()
            self.up, self.down = (nn.Parameter(torch.randn(s)) for s in ((out, 2), (2, into)))

        def forward(self, weight):
            return weight + self.up @ self.down

    model = plain()
    nn.utils.parametrize.register_parametrization(model[0], "weight", Update(32, 16))
    return model


def standardized():
    model = plain()

    class Standardized(nn.Module):
        def forward(self, weight):
            return (weight - weight.mean(1, True)) / (weight.std(1, keepdim=True) + 1e-5)

    nn.utils.parametrize.register_parametrization(model[2], "weight", Standardized())
    return model


@pytest.mark.parametrize("make", [*NETWORKS, low_rank, standardized])
def test_scores_are_of_the_weights_that_layers_read(make):
    """The same units stay as of the network whose layers have these as their parameters."""
    computed, stored = make(), plain()
    computed.eval()(X)
    with torch.no_grad():
        for i in (0, 2, 4):
            stored[i].weight.copy_(computed[i].weight)
            stored[i].bias.copy_(computed[i].bias)
    plans = [ap.prune(m, X, channels=0.5, multiple_of=1).plan for m in (computed, stored)]
    mine, theirs = ([c.kept for c in plan.groups.values() if c.units == 32] for plan in plans)
    assert mine
    assert all(kept in theirs for kept in mine)


def test_masked_units_go_first_whatever_is_behind_the_mask():
    model = plain()
    masks.ln_structured(model[0], "weight", 0.5, n=2, dim=0)
    masked = model[0].weight_mask[:, 0] == 0
    with torch.no_grad():
        model[0].weight_orig[masked] *= 100
        model[0].bias[masked] = 0
    result = ap.prune(model, X, channels=0.5, multiple_of=1, only="0")
    assert result.model[0].out_features == 16
    assert difference(model(X), result.model(X)) <= ROUNDING_SINGLE


class Tabled(nn.Module):
    """Attention with a learned bias that is masked before any input is met."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 4)
        self.table = nn.Parameter(torch.randn(4, 6, 6))

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4)
        later = torch.ones(6, 6, dtype=torch.bool).triu(1)
        bias = self.table.masked_fill(later, torch.finfo(torch.float32).min)
        scores = (q @ k.mT + bias).softmax(-1)
        return self.out((scores @ v).transpose(1, 2).flatten(2))


def test_masks_are_no_magnitude():
    model, x = Tabled(), torch.randn(2, 6, 16)
    with torch.no_grad():
        model.table[1] *= 100
    result = ap.prune(model, x, channels=0.5, multiple_of=1, only="table")
    assert 1 in result.plan.groups["table:0"].kept


def test_learners_do_not_see_what_is_behind_a_mask():
    model = plain()
    masks.ln_structured(model[0], "weight", 0.5, n=2, dim=0)
    masked = (model[0].weight_mask[:, 0] == 0).nonzero().flatten().tolist()
    with torch.no_grad():
        model[0].weight_orig[masked] *= 1000
        model[0].bias[masked] = 0
        model[2].weight[:, masked] *= 0.1
    pruner = ap.Pruner(model, X, ignore="2.bias", multiple_of=1)
    base = torch.optim.SGD(model.parameters(), lr=1e-3)
    optimizer = pruner.hesso(base, channels=0.5, steps=20)
    for _ in range(20):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()
    (choice,) = pruner.finish().plan.groups.values()
    assert not set(choice.kept) & set(masked)


@pytest.mark.parametrize("make", NETWORKS)
def test_sparsify_says_which_weights_are_computed(make):
    with pytest.raises(ap.FormatError, match=r"0\.weight: it is computed from others"):
        ap.sparsify(make(), X)
