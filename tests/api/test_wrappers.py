"""Models inside of something: what compiles or parallelizes them, or products made of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import autoprune as ap

X = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))


def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))


def compiled():
    model = torch.compile(plain(), backend="eager")
    model(X)
    return model


def compiled_in_place():
    model = plain()
    model.compile(backend="eager")
    return model


def compiled_inside():
    model = plain()
    model[0] = torch.compile(model[0], backend="eager")
    return model


def parallel():
    return nn.DataParallel(torch.compile(plain(), backend="eager"))


WRAPPED = (compiled, compiled_in_place, compiled_inside, parallel)


@pytest.mark.parametrize("make", WRAPPED)
def test_the_module_inside_is_pruned(make, tmp_path):
    """Names of groups and weights have no prefixes, and fit models with and without wrappers."""
    result = ap.prune(make(), X, channels=0.5)
    assert type(result.model) is nn.Sequential
    assert [*result.model.state_dict()] == [*plain().state_dict()]
    assert [*result.plan.groups] == ["0.weight:0"]
    result.save(tmp_path / "small.safetensors")
    for original in (plain(), make()):
        small = ap.load(original, tmp_path / "small.safetensors")
        assert torch.equal(small(X), result.model(X))


@pytest.mark.parametrize("make", WRAPPED)
def test_training_goes_through_the_wrapper(make):
    model = make()
    pruner = ap.Pruner(model, X)
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer = pruner.hesso(base, channels=0.5, steps=20)
    for _ in range(20):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()
    small = pruner.finish().model
    assert [*small.state_dict()] == [*plain().state_dict()]
    assert torch.allclose(small(X), model(X), atol=1e-6)


def test_weights_of_a_wrapped_model_become_sparse():
    result = ap.sparsify(compiled(), X, format={"0": "block 8x1"}, sparsity=0.5)
    assert [*result.model.state_dict()] == [*plain().state_dict()]


class Product(nn.Module):
    """Takes a file's name in place of tensors."""

    def __init__(self):
        super().__init__()
        self.model = plain()

    def forward(self, source):
        return self.model(torch.load(source))


class Answers(Product):
    """Takes tensors, and returns words."""

    def forward(self, x):
        return ["yes" if p > 0 else "no" for p in self.model(x)[:, 0].tolist()]


class Pipeline:
    """No module, but a holder of some."""

    def __init__(self):
        self.tokenizer, self.network = str.split, plain()
        self.parts = {"decoder": nn.Linear(8, 2)}


@pytest.mark.parametrize(
    ("thing", "named"),
    [
        (Product(), r"pass `model\.model`, of class Sequential"),
        (Answers(), r"pass `model\.model`, of class Sequential"),
        (Pipeline(), r"model\.network \(Sequential, 420 param.*model\.parts\['decoder'\] \(Linear"),
        ({"net": plain()}, r"model\['net'\] \(Sequential"),
        (plain().state_dict(), "load_state_dict, and pass the network"),
        (nn.Linear, r"make a network of it: Linear\(\.\.\.\)"),
        (plain, "call it, and pass the network"),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, str) else "",
)
@pytest.mark.parametrize("call", [ap.inspect, ap.Pruner])
def test_errors_name_the_module_to_pass(thing, named, call):
    with pytest.raises(ap.TraceError, match=named):
        call(thing, X)
