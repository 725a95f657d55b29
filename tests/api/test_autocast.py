"""Networks that switch mixed precision on inside their forward."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.frameworks.torch.equality import difference

X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


class Mixed(nn.Module):
    """Two linear layers in half precision around a norm in full precision."""

    def __init__(self, norm):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(8, 32), norm, nn.Linear(32, 4)

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            hidden = torch.relu(self.first(x))
            with torch.autocast("cpu", enabled=False):
                hidden = self.norm(hidden.float())
            return self.last(hidden).float()


def pruned(norm, keep_class):
    torch.manual_seed(0)
    model = Mixed(norm)
    options = ap.Options(keep_class=keep_class)
    return model, ap.prune(model, X, channels=0.5, options=options)


@pytest.mark.parametrize("keep_class", [True, False])
def test_result_is_the_zeroed_model_to_the_last_bit(keep_class, tmp_path):
    model, result = pruned(nn.Identity(), keep_class)
    assert isinstance(result.model, Mixed) is keep_class
    (choice,) = result.plan.groups.values()
    gone = [u for u in range(32) if u not in choice.kept]
    with torch.no_grad():
        model.first.weight[gone] = 0
        model.first.bias[gone] = 0
    x = torch.randn(9 if keep_class else 6, 8)
    small = result.model
    assert torch.equal(model(x), small(x))
    assert not torch.equal(model(x), _in_single(small, x))
    result.save(tmp_path / "small.pt2")
    loaded = torch.export.load(tmp_path / "small.pt2").module()
    assert torch.equal(loaded(X), small(X))


def _in_single(model, x):
    hidden = torch.relu(x @ model.first.weight.T + model.first.bias)
    return hidden @ model.last.weight.T + model.last.bias


def test_a_factor_goes_into_the_gain_of_a_norm():
    _, result = pruned(nn.RMSNorm(32), keep_class=True)
    assert isinstance(result.model, Mixed)
    assert result.report.error < 0.01


@pytest.mark.parametrize("keep_class", [True, False])
def test_training_in_mixed_precision(keep_class):
    _, result = pruned(nn.LayerNorm(32) if not keep_class else nn.Identity(), keep_class)
    model = result.model.train()
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(X).square().mean()
        loss.backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert difference(copy.deepcopy(model)(X), model(X)) == 0


def test_a_graph_that_fails_leaves_autocast_as_it_was():
    _, result = pruned(nn.Identity(), keep_class=False)
    weight = result.model.last.weight
    weight.data = weight.data[:, :-1]
    with pytest.raises(RuntimeError):
        result.model(X)
    assert not torch.is_autocast_enabled("cpu")
    assert torch.autocast_increment_nesting() == 1
    assert torch.autocast_decrement_nesting() == 0


def test_half_precision_hides_no_wrong_rule():
    """A rule that is wrong by less than half precision rounds is found without autocast."""

    @torch.library.custom_op("tests::almost_itself", mutates_args=())
    def almost_itself(x: torch.Tensor) -> torch.Tensor:
        return x - 0.05 * x.mean(-1, keepdim=True)

    almost_itself.register_fake(torch.empty_like)

    class Wrong(Mixed):
        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return self.last(almost_itself(self.first(x))).float()

    rule = "tests.almost_itself"
    ap.rule(rule, "... -> ...", zero=ap.State.ZERO)
    try:
        with pytest.raises(ap.NotEqualError):
            ap.prune(Wrong(nn.Identity()), X, channels=0.5)
    finally:
        ap.forget_rule(rule)
