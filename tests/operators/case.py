"""A case: a tiny network around one operator call, and what must be found in it.

The layers whose names start with `z` read what the operator made; all others feed it. So a
group whose guarantee is `zero-invariant` needs only the slices of the others zeroed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

Z, FOLDED, M, C, A = "zero-invariant", "folded", "masked", "compensated", "approximate"

aten = torch.ops.aten


@dataclass(frozen=True)
class Case:
    """One operator call.

    Attributes:
        name: of the test.
        covers: registered operator names (`aten.` left out) that the trace must contain.
        layers: the network's modules and parameters; drawn anew, in float64, for each test.
        call: the forward, given the network and its inputs.
        groups: exactly the groups to find, as `{"a.weight:0[6]": guarantee}`; all else is pinned.
        inputs: shapes of normal inputs, or ready tensors.
        weaker: the reason why a guarantee may be weaker than what the numbers show.
        dynamic_shapes: for symbolic sizes.
    """

    name: str
    covers: str
    layers: Callable[[], Mapping[str, nn.Module | Tensor]]
    call: Callable[..., Any]
    groups: Mapping[str, str]
    inputs: tuple[Any, ...] = ((5, 3),)
    weaker: str = ""
    dynamic_shapes: Any = None
    seeds: tuple[int, ...] = field(default=(0, 1))

    def network(self) -> Net:
        torch.manual_seed(0)
        network = Net(self.layers(), self.call).double().eval()
        with torch.no_grad():
            for parameter in network.parameters():  # no bias, gain or variance may be trivial
                parameter.normal_(0, 0.7)
            for name, buffer in network.named_buffers():
                if name.endswith("running_mean"):
                    buffer.normal_()
                elif name.endswith("running_var"):
                    buffer.uniform_(0.5, 2)
        return network

    def example(self) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        return tuple(
            i if isinstance(i, Tensor) else torch.randn(i, dtype=torch.float64) for i in self.inputs
        )


class Net(nn.Module):
    def __init__(self, layers: Mapping[str, nn.Module | Tensor], call: Any) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.call = call

    def forward(self, *inputs: Tensor) -> Any:
        return self.call(self, *inputs)


def free(*shape: int) -> nn.Parameter:
    """A parameter of its own."""
    return nn.Parameter(torch.zeros(shape))


def chain(
    name: str,
    op: Callable[[Tensor], Tensor],
    guarantee: str | None,
    *,
    covers: str = "",
    before: Callable[[Tensor], Tensor] = lambda x: x,
    after: Callable[[Tensor], Tensor] = lambda x: x,
    weaker: str = "",
) -> Case:
    """linear 3 -> 6, the operator, linear 6 -> 2."""
    return Case(
        name,
        covers or name,
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(after(op(before(m.a(x))))),
        {"a.weight:0[6]": guarantee} if guarantee else {},
        weaker=weaker,
    )


def one(
    name: str,
    call: Callable[[Tensor], Tensor],
    groups: Mapping[str, str],
    *,
    covers: str = "",
    out: int = 10,
    inputs: tuple[Any, ...] = ((5, 3),),
    weaker: str = "",
) -> Case:
    """linear 3 -> 6, the call, linear out -> 2."""
    return Case(
        name,
        covers or name,
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(out, 2)},
        lambda m, x: m.z(call(m.a(x))),
        groups,
        inputs,
        weaker=weaker,
    )


def two(
    name: str,
    call: Callable[[Tensor, Tensor], Tensor],
    groups: Mapping[str, str],
    *,
    covers: str = "",
    second: int = 4,
    out: int = 10,
    inputs: tuple[Any, ...] = ((5, 3),),
    weaker: str = "",
) -> Case:
    """linears 3 -> 6 and 3 -> second, the call on both, linear out -> 2."""
    return Case(
        name,
        covers or name,
        lambda: {"a": nn.Linear(3, 6), "b": nn.Linear(3, second), "z": nn.Linear(out, 2)},
        lambda m, x: m.z(call(m.a(x), m.b(x))),
        groups,
        inputs,
        weaker=weaker,
    )


def two_tokens(
    name: str,
    call: Callable[[Tensor, Tensor], Tensor],
    groups: str | Mapping[str, str] | None,
    *,
    covers: str = "",
    out: int = 6,
    weaker: str = "",
) -> Case:
    """linears 3 -> 6 and 3 -> 6 of 4 tokens, the call on both, linear out -> 2."""
    found = {"a.weight:0[6]": groups} if isinstance(groups, str) else groups or {}
    inputs = ((5, 4, 3),)
    return two(name, call, found, covers=covers, second=6, out=out, inputs=inputs, weaker=weaker)


def image(
    name: str,
    op: Callable[[Tensor], Tensor],
    guarantee: str | None,
    *,
    covers: str = "",
    size: tuple[int, ...] = (8, 8),
    weaker: str = "",
) -> Case:
    """convolution 3 -> 6 channels, the operator on maps, mean over pixels, linear 6 -> 2."""
    layer = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(size)]
    return Case(
        name,
        covers or name,
        lambda: {"a": layer(3, 6, 1), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(op(m.a(x)).flatten(2).mean(-1)),
        {"a.weight:0[6]": guarantee} if guarantee else {},
        ((2, 3, *size),),
        weaker=weaker,
    )


def tokens(
    name: str,
    op: Callable[[Tensor], Tensor],
    groups: str | Mapping[str, str] | None,
    *,
    covers: str = "",
    width: int = 6,
    out: int | None = None,
    weaker: str = "",
) -> Case:
    """linear 3 -> width on 4 tokens, the operator, linear out -> 2; x is [5, 4, width]."""
    found = {f"a.weight:0[{width}]": groups} if isinstance(groups, str) else groups or {}
    return Case(
        name,
        covers or name,
        lambda: {"a": nn.Linear(3, width), "z": nn.Linear(out or width, 2)},
        lambda m, x: m.z(op(m.a(x))),
        found,
        ((5, 4, 3),),
        weaker=weaker,
    )


def opaque(
    name: str,
    op: Callable[[Tensor], Any],
    *,
    covers: str = "",
    shape: tuple[int, ...] = (6, 6),
    groups: Mapping[str, str] | None = None,
) -> Case:
    """linear to the last of `shape`, the operator, and the sum of all it returns.

    Nothing but the operator pins what the linear layer makes: the sum would let it go.
    """
    return Case(
        name,
        covers or name,
        lambda: {"a": nn.Linear(3, shape[-1])},
        lambda m, x: total(op(m.a(x))),
        groups or {},
        ((*shape[:-1], 3),),
    )


def total(outputs: Any) -> Tensor:
    """One number in which every element of every output counts."""
    tensors = [v for v in pytree.tree_leaves(outputs) if isinstance(v, Tensor)]
    numbers = [(v.abs() if v.is_complex() else v).to(torch.float64).sum() for v in tensors]
    return torch.stack(numbers).sum()
