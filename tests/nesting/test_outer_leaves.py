"""Which groups may be chosen per unit of another axis, and which may not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from autoprune.analysis.groups import find_groups
from autoprune.analysis.nesting import outer_leaves
from autoprune.analysis.typing import infer
from autoprune.frameworks.torch.network import TorchNetwork
from autoprune.frameworks.torch.trace import trace
from autoprune.passes.pruning.law import prove
from tests.nesting.choices import random_choices
from tests.tolerance import CUT
from tests.zoo.models import get

HEADS, WIDTH, TOKENS = 3, 6, 5


class Heads(nn.Module):
    """A layer to heads, a step that is to be looked at, and a layer back."""

    def __init__(self, step, **parameters):
        super().__init__()
        self.first = nn.Linear(4, HEADS * WIDTH)
        self.last = nn.Linear(HEADS * WIDTH, 2)
        self.step = step
        for name, shape in parameters.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape)))

    def forward(self, x):
        heads = self.first(x).unflatten(2, (HEADS, WIDTH)).transpose(1, 2)
        return self.last(self.step(self, heads).transpose(1, 2).flatten(2))


def outers_of(model, inputs):
    """By group name, its size and that of the axis per whose units it may be chosen."""
    typed = infer(trace(model, inputs).graph)
    groups = {g.leaf.uid: g for g in find_groups(typed)}
    found = outer_leaves(typed, groups)
    return {groups[uid].name: (groups[uid].units, leaf.size) for uid, leaf in found.items()}


TOKEN = torch.randn(2, TOKENS, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("step", "parameters"),
    [
        (lambda m, x: F.gelu(x), {}),
        (lambda m, x: x * m.gain, {"gain": (HEADS, 1, WIDTH)}),
        (lambda m, x: x * m.gain, {"gain": (HEADS, 1, 1)}),
        (lambda m, x: F.scaled_dot_product_attention(x, x, x), {}),
        (lambda m, x: (x @ x.transpose(2, 3)).softmax(-1) @ x, {}),
        (lambda m, x: torch.cat([x, x], 3).chunk(2, 3)[1], {}),
        (lambda m, x: F.rms_norm(x, (WIDTH,)), {}),
    ],
    ids=["elementwise", "own_gain", "head_gain", "fused", "attention", "chunk", "norm"],
)
def test_heads_that_nothing_compares(step, parameters):
    assert [*outers_of(Heads(step, **parameters), TOKEN).values()] == [(WIDTH, HEADS)]


def test_layers_that_are_alike_but_for_one_call():
    own, shared, again = (
        Heads(lambda m, x: x * m.gain, gain=shape)
        for shape in [(HEADS, 1, WIDTH), (WIDTH,), (HEADS, 1, WIDTH)]
    )
    model = nn.Sequential(own, nn.Linear(2, 4), shared, nn.Linear(2, 4), again)
    found = [f"{layer}.{name}" for layer in (0, 4) for name in outers_of(own, TOKEN)]
    assert [*outers_of(model, TOKEN)] == found


@pytest.mark.parametrize(
    ("step", "parameters"),
    [
        (lambda m, x: x * m.gain, {"gain": (WIDTH,)}),
        (lambda m, x: x + x.sum(1, keepdim=True), {}),
        (lambda m, x: torch.einsum("nhlw,gh->nglw", x, m.mix), {"mix": (HEADS, HEADS)}),
        (lambda m, x: x * torch.einsum("nhlw,nglw->nhg", x, x).sum(2)[..., None, None], {}),
        (lambda m, x: x.softmax(1), {}),
        (lambda m, x: x.cumsum(1), {}),
        (lambda m, x: x.flip(1), {}),
        (lambda m, x: x + x[:, torch.tensor([1, 2, 0])], {}),
        (lambda m, x: F.layer_norm(x.transpose(1, 3), (HEADS,)).transpose(1, 3), {}),
    ],
    ids=["shared_gain", "sum", "mix", "compare", "softmax", "cumsum", "flip", "look_up", "norm"],
)
def test_heads_that_meet(step, parameters):
    assert (WIDTH, HEADS) not in outers_of(Heads(step, **parameters), TOKEN).values()


def test_normalization_over_all_heads_does_not_compare_them():
    def step(m, x):
        flat = F.rms_norm(x.transpose(1, 2).flatten(2), (HEADS * WIDTH,), m.gain)
        return flat.unflatten(2, (HEADS, WIDTH)).transpose(1, 2)

    found = outers_of(Heads(step, gain=(HEADS * WIDTH,)), TOKEN)
    assert [*found.values()] == [(WIDTH, HEADS)]


def test_the_innermost_of_several():
    class Grid(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2, 3, 4, 5))
            self.back = nn.Parameter(torch.randn(2, 3, 5, 2))

        def forward(self, x):
            hidden = torch.einsum("nghi,ghiw->nghw", x, self.weight).relu()
            return torch.einsum("nghw,ghwo->ngho", hidden, self.back)

    assert outers_of(Grid(), torch.randn(7, 2, 3, 4)) == {"weight:3": (5, 3)}


def test_grouped_convolution():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 3, groups=4), nn.ReLU(), nn.Conv2d(12, 2, 1),
    ).eval()  # fmt: skip
    assert outers_of(model, torch.randn(1, 3, 5, 5)) == {
        "0.weight:0/1": (2, 4), "3.weight:0/1": (3, 4)
    }  # fmt: skip


def test_rotary_tables_are_shared_by_heads():
    row = get("hf_llama")
    found = outers_of(row.build().eval(), row.inputs())
    assert any("v_proj" in name for name in found)
    assert not any("q_proj.weight:0/2" in name or "q_proj.weight:0/3" in name for name in found)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "name", ["hf_bert", "hf_gpt2", "hf_llama", "hf_vit", "small_experts_bmm", "tv_resnext50_32x4d"]
)
def test_cut_equals_zeroed(name, seed):
    row = get(name)
    traced = trace(row.build().eval(), row.inputs())
    typed = infer(traced.graph)
    groups = {g.leaf.uid: g for g in find_groups(typed) if g.guarantee.exact}
    outers = outer_leaves(typed, groups)
    assert outers
    kept = random_choices(np.random.default_rng(seed), groups, outers)
    error = prove(TorchNetwork(traced), typed, groups, kept).error
    assert error <= CUT
