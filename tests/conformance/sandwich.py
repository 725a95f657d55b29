"""A network around one call of an operator: layers make its tensors, layers read its results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

WIDTH = 2
"""Size of the axes of the inputs and of the outputs of the network."""


class Along(nn.Module):
    """A linear layer along one axis."""

    def __init__(self, dim: int, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.dim = dim
        # Of inputs a little below 1 these make outputs a little below 1.
        self.weight = nn.Parameter((1 - 0.1 * torch.rand(outputs, inputs)) / inputs)
        self.bias = nn.Parameter(0.02 * torch.rand(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        turned = x.transpose(self.dim, -1)
        return F.linear(turned, self.weight, self.bias).transpose(self.dim, -1)


class Made(nn.Module):
    """A tensor times what layers along each of its axes make, which is a little below 1.

    So positive numbers stay positive, and what is in [-1, 1] stays there.
    """

    def __init__(self, base: Tensor, bias: bool) -> None:
        super().__init__()
        self.dtype = base.dtype
        # Zero times an infinity is not a number.
        self.base = nn.Buffer(base.detach().clone().nan_to_num(posinf=9, neginf=-9))
        long = [dim for dim, size in enumerate(base.shape) if size > 1]
        self.layers = nn.Sequential(*(Along(dim, WIDTH, base.shape[dim], bias) for dim in long))
        self.shape = tuple(WIDTH if dim in long else n for dim, n in enumerate(base.shape))

    def forward(self, x: Tensor) -> Tensor:
        product = self.base * self.layers(x)
        real = self.dtype.is_floating_point or self.dtype.is_complex
        return (product if real else product.round()).to(self.dtype)


class Read(nn.Module):
    """Layers along each axis of a result."""

    def __init__(self, result: Tensor) -> None:
        super().__init__()
        shape = as_real(result).shape
        self.layers = nn.Sequential(
            *(Along(dim, n, WIDTH, bias=True) for dim, n in enumerate(shape) if n > 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(as_real(x).double())


class Sandwich(nn.Module):
    """The network.

    Args:
        op: the operator.
        args: its positional arguments, of any structure.
        kwargs: its keyword arguments.
        dtypes: of the tensors that layers make; the others are buffers.
        bias: whether these layers have biases, so that what they make of a unit without weights
            is not zero.
    """

    def __init__(
        self,
        op: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        dtypes: tuple[torch.dtype, ...],
        bias: bool,
    ) -> None:
        super().__init__()
        self.op = op
        leaves, self.structure = pytree.tree_flatten((args, kwargs))
        self.rest = {
            i: v for i, v in enumerate(leaves) if not isinstance(v, Tensor) or v.is_quantized
        }
        tensors = {i: v for i, v in enumerate(leaves) if i not in self.rest}
        self.made = nn.ModuleDict()
        for i, tensor in tensors.items():
            if tensor.dtype in dtypes and tensor.layout is torch.strided:
                self.made[str(i)] = Made(tensor, bias)
            else:
                self.register_buffer(f"given{i}", tensor.detach().clone())
        self.double()
        with torch.no_grad():
            results = self.results(*self.example())
        self.read = nn.ModuleList(Read(r) for r in results).double()

    def example(self) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(0)
        return tuple(
            0.9 - 0.1 * torch.rand(made.shape, generator=generator, dtype=torch.float64)
            for made in self.made.values()
        )

    def results(self, *inputs: Tensor) -> list[Tensor]:
        """The tensors that the operator returns."""
        made = {int(i): m(x) for (i, m), x in zip(self.made.items(), inputs, strict=True)}
        leaves = [
            made[i] if i in made else self.rest[i] if i in self.rest else getattr(self, f"given{i}")
            for i in range(self.structure.num_leaves)
        ]
        args, kwargs = pytree.tree_unflatten(leaves, self.structure)
        results = pytree.tree_leaves(self.op(*args, **kwargs))
        return [r for r in results if isinstance(r, Tensor) and r.layout is torch.strided]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        results = self.results(*inputs)
        return tuple(layer(r) for layer, r in zip(self.read, results, strict=True))


def as_real(x: Tensor) -> Tensor:
    """Complex numbers as pairs."""
    return torch.view_as_real(x) if x.is_complex() else x
