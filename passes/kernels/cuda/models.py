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
from autoprune.passes.kernels.cuda.kernels import DTYPES, Function, stored_share
from autoprune.passes.kernels.cuda.library import Library
from autoprune.passes.kernels.cuda.linear import SparseLinear, product_of
from autoprune.passes.kernels.registry import DENSEST, select

SMALLEST = 4096
"""Weights of such a layer at least."""


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
                found = _block_rows(layer, rows, dtype)
                if found is None:
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


def _block_rows(layer: nn.Linear, rows: int | None, dtype: torch.dtype) -> int | None:
    """Outputs of a block, those given or the best; None if the layer stays dense."""
    if layer.weight.numel() < SMALLEST:
        return None
    product = product_of(layer.weight, torch.zeros(layer.out_features), dtype)
    if rows is not None:
        return rows if stored_share(product.weight, rows) <= DENSEST else None
    found = select(product, ("float32",), device="cuda")
    return None if found is None else found.kernel.rows


def _layers(model: nn.Module) -> Iterator[SparseLinear]:
    return (module for module in model.modules() if isinstance(module, SparseLinear))


def kernels_of(model: nn.Module) -> tuple[Function, ...]:
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
