"""Operators that autoprune does not know."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.library import custom_op


@custom_op("testlib::scaled_add", mutates_args=())
def scaled_add(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    return a + alpha * b


@scaled_add.register_fake
def _(a, b, alpha):
    return torch.empty_like(a)


@custom_op("testlib::my_linear", mutates_args=())
def my_linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    y = x @ w.T
    return y if b is None else y + b


@my_linear.register_fake
def _(x, w, b=None):
    return x.new_empty(*x.shape[:-1], w.shape[0])


@custom_op("testlib::flip", mutates_args=())
def flip(x: Tensor) -> Tensor:
    return x.flip(-1)


@custom_op("testlib::smooth_gate", mutates_args=())
def smooth_gate(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


@custom_op("testlib::attention_weights", mutates_args=())
def attention_weights(x: Tensor) -> Tensor:
    return torch.softmax(x, -1)


@custom_op("testlib::guess_again", mutates_args=())
def guess_again(x: Tensor) -> Tensor:
    return x + torch.rand_like(x)


for operator in (flip, smooth_gate, attention_weights, guess_again):
    operator.register_fake(torch.empty_like)


@custom_op("testlib::to_heads", mutates_args=())
def to_heads(x: Tensor, heads: int) -> Tensor:
    return x.reshape(x.shape[0], heads, -1).clone()


@to_heads.register_fake
def _(x, heads):
    return x.new_empty(x.shape[0], heads, x.shape[1] // heads)


@custom_op("testlib::pad_to", mutates_args=())
def pad_to(x: Tensor, width: int) -> Tensor:
    """Zeros behind the last axis up to a width: refuses a wider one."""
    return torch.cat([x, x.new_zeros(*x.shape[:-1], width - x.shape[-1])], -1)


@pad_to.register_fake
def _(x, width):
    return x.new_empty(*x.shape[:-1], width)


@custom_op("testlib::moments", mutates_args=())
def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """What it is given, and the sum of squares of each row."""
    return 2 * x, x.square().sum(-1)


@moments.register_fake
def _(x):
    return torch.empty_like(x), x.new_empty(x.shape[:-1])


@custom_op("testlib::leaky", mutates_args=())
def leaky(x: Tensor) -> Tensor:
    return torch.nn.functional.leaky_relu(x)


leaky.register_fake(torch.empty_like)


@custom_op("testlib::accumulate", mutates_args={"into"})
def accumulate(into: Tensor, x: Tensor) -> None:
    into += x


class Network(nn.Module):
    """Two branches that a custom operator adds, and a custom linear layer: 8 -> 32 -> 24 -> 4."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(8, 32)
        self.b = nn.Linear(8, 32)
        self.weight = nn.Parameter(torch.randn(24, 32) / 6)
        self.bias = nn.Parameter(torch.randn(24))
        self.z = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.ops.testlib.scaled_add(self.a(x).relu(), self.b(x).relu(), 0.5)
        return self.z(torch.ops.testlib.my_linear(hidden, self.weight, self.bias).relu())
