"""Prune through an operator of your own.  python examples/custom_operator.py"""

import torch
from torch import Tensor, nn

import autoprune as ap
from autoprune.testing import check_rule


@torch.library.custom_op("mylib::gated", mutates_args=())
def gated(x: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
    """A linear layer of an input that is multiplied by a gate."""
    return (x * gate) @ weight.T


@gated.register_fake
def _(x, gate, weight):
    return x.new_empty(*x.shape[:-1], weight.shape[0])


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(16, 128)
        self.gate = nn.Linear(16, 128)
        self.down = nn.Parameter(torch.randn(64, 128) / 11)
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(gated(self.up(x), self.gate(x).sigmoid(), self.down).relu())


network, x = Network(), torch.randn(32, 16)

print("\n--- No rule: pinned\n")
print(ap.inspect(network, x))

print("\n--- Probed\n")
print(ap.prune(network, x, flops=0.5, options=ap.Options(probe=True)).report)

print("\n--- A wrong rule: the letters of the gate are its own\n")
ap.rule(gated, "... i, ... g, o i -> ... o", zero=ap.State.ZERO)
try:
    check_rule(gated, torch.randn(5, 6), torch.randn(5, 6), torch.randn(4, 6))
except ap.RuleError as error:
    print(error)

print("\n--- The right one\n")
ap.rule(gated, "... i, ... i, o i -> ... o", zero=ap.State.ZERO)
print(check_rule(gated, torch.randn(5, 6), torch.randn(5, 6), torch.randn(4, 6)))
print(ap.prune(network, x, flops=0.5).report)
