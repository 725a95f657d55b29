"""Norms over a share of the positions they were made for, all others counting as zeros.

With a share s of the positions kept, the mean over all is m = s mean(x), and the variance
s mean((x - m)^2) + (1 - s) m^2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = False,
    *,
    share: float,
) -> Tensor:
    """`torch.layer_norm` of an input of which only a share of what is normalized is given."""
    dims = tuple(range(-len(normalized_shape), 0))
    return _affine(_normalized(input, dims, eps, share), weight, bias)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = False,
    *,
    share: float,
) -> Tensor:
    """`torch.group_norm` of an input of which only a share of each group is given."""
    batch, channels, *space = input.shape
    grouped = input.reshape(batch, num_groups, channels // num_groups * prod(space))
    normalized = _normalized(grouped, (-1,), eps, share).reshape(input.shape)
    shape = (channels, *(1,) * len(space))
    return _affine(
        normalized,
        None if weight is None else weight.reshape(shape),
        None if bias is None else bias.reshape(shape),
    )


def _normalized(x: Tensor, dims: tuple[int, ...], eps: float, share: float) -> Tensor:
    mean = share * x.mean(dims, keepdim=True)
    centred = x - mean
    variance = share * centred.square().mean(dims, keepdim=True) + (1 - share) * mean.square()
    return centred * torch.rsqrt(variance + eps)


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


RESCALED: dict[Any, Callable[..., Tensor]] = {
    torch.ops.aten.layer_norm.default: layer_norm,
    torch.ops.aten.group_norm.default: group_norm,
}
"""The function of this module that stands in for an operator."""
