"""Putting sparse linear layers into a model.

```python
fast = sparse_linears(result.model)  # a copy; anywhere
build_cuda(kernels_of(fast), "kernels.so", arch="sm_90")  # where TVM and nvcc are
use_library(fast.cuda(), "kernels.so")  # where the GPU is
```
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import torch
from torch import nn

from autoprune.errors import TargetError
from autoprune.passes.kernels.cuda.kernels import DTYPES, Kernel
from autoprune.passes.kernels.cuda.library import Library
from autoprune.passes.kernels.cuda.linear import SparseLinear
from autoprune.passes.sparsify.layout import Array
from autoprune.passes.sparsify.tiles import kept_tiles

DENSEST = 0.5
"""Share of the weights that is stored at most, for a layer to become sparse."""

SMALLEST = 4096
"""Weights of such a layer at least."""

ROWS = (64, 32, 16, 8)
"""Outputs of a block that are tried."""


def sparse_linears(
    model: nn.Module, *, rows: int | None = None, dtype: torch.dtype = torch.float32
) -> nn.Module:
    """A copy of a model in which linear layers with many zeros are `SparseLinear`.

    Layers become sparse if they have at least 4,096 weights of which at most half has to be stored.
    A layer that is shared stays shared. Subclasses of `nn.Linear` and layers with hooks stay as
    they are. Code of the model that reads `layer.weight` itself, as torch's own transformer layers
    do, finds none.

    Args:
        model: it is not changed.
        rows: outputs of a block, or None to find out by the zeros of each layer: 64, 32, 16, 8, or
            single weights.
        dtype: of the sparse layers; the rest of the model has to agree.

    Raises:
        TargetError: if no layer has enough zeros, or there are no kernels for the type.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise TargetError(f"there are no kernels for {name}", hint=f"use {' or '.join(DTYPES)}")
    made: dict[nn.Module, SparseLinear] = {}
    result = copy.deepcopy(model)
    for owner in list(result.modules()):
        # named_children would leave out a layer's second name.
        for key, layer in list(owner._modules.items()):
            if not _plain(layer):
                continue
            if layer not in made:
                weight = layer.weight.detach().float().cpu().numpy()
                found = _block_rows(weight) if rows is None else rows
                if weight.size < SMALLEST or _stored(weight, found) > DENSEST:
                    continue
                made[layer] = SparseLinear(layer.weight, layer.bias, rows=found, dtype=dtype)
            setattr(owner, key, made[layer].to(layer.weight.device))
    if not made:
        raise TargetError(
            "no linear layer has enough zeros",
            hint="make weights sparse first, with ap.sparsify or a Sparsifier",
        )
    return result


def _plain(layer: nn.Module | None) -> TypeGuard[nn.Linear]:
    """Whether it is a linear layer and nothing else: no subclass, no hooks, no weight of a kind."""
    return (
        type(layer) is nn.Linear
        and not (layer._forward_hooks or layer._forward_pre_hooks)
        and type(layer.weight) is nn.Parameter
    )


def _block_rows(weight: Array) -> int:
    """The largest blocks that store hardly more than the smallest; 1 if none stores little."""
    shares = {rows: _stored(weight, rows) for rows in ROWS}
    least = min(shares.values())
    if least > DENSEST:
        return 1
    return next(rows for rows, share in shares.items() if share <= 1.1 * least)


def _stored(weight: Array, rows: int) -> float:
    """Share of the weights in blocks that are stored."""
    return float(kept_tiles(weight != 0, rows, 1).sum() * rows / weight.size)


def _layers(model: nn.Module) -> Iterator[SparseLinear]:
    return (module for module in model.modules() if isinstance(module, SparseLinear))


def kernels_of(model: nn.Module) -> tuple[Kernel, ...]:
    """The kernels that the sparse layers of a model need, each once."""
    return tuple(dict.fromkeys(kernel for layer in _layers(model) for kernel in layer.kernels))


def use_library(model: nn.Module, path: str | Path) -> nn.Module:
    """Give the sparse layers of a model their kernels.

    Args:
        model: it is changed.
        path: of a library that `build_cuda` made of `kernels_of(model)`.

    Returns:
        The model.

    Raises:
        TargetError: if it is no such library, or lacks a kernel.
    """
    library = Library(Path(path))
    missing = [kernel.name for kernel in kernels_of(model) if kernel not in library]
    if missing:
        raise TargetError(
            f"the library has no kernel {missing[0]}", where=str(path),
            hint="build it again, with build_cuda(kernels_of(model), path)",
        )  # fmt: skip
    for layer in _layers(model):
        layer.library = library
    return model
