"""Tensors of modules by path, and as arrays; dtypes that numpy lacks are those of ml_dtypes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import nn

from autoprune.frameworks.network import Array

_LACKING = {
    getattr(torch, name): np.dtype(getattr(ml_dtypes, name))
    for name in ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
}
_BITS = {1: torch.uint8, 2: torch.int16}


def array_of(tensor: torch.Tensor) -> Array:
    """A tensor on the host; it shares memory if it is there, dense and of a dtype of numpy."""
    tensor = tensor.detach()
    if tensor.layout not in (torch.strided, torch.jagged):
        tensor = tensor.to_dense()
    lacking = _LACKING.get(tensor.dtype)
    if lacking is not None:
        bits = tensor.contiguous().view(_BITS[lacking.itemsize]).numpy(force=True)
        found: Array = bits.view(lacking)
        return found
    array: Array = tensor.numpy(force=True)
    return array


def tensor_of(array: Array, device: torch.device | None = None) -> torch.Tensor:
    """An array as a tensor, which may share its memory."""
    lacking = next((dtype for dtype, known in _LACKING.items() if known == array.dtype), None)
    if lacking is not None:
        bits = np.ascontiguousarray(array).view(f"i{array.itemsize}")
        tensor = torch.from_numpy(bits).view(lacking)
    else:
        tensor = torch.from_numpy(np.asarray(array, order="C"))
    return tensor if device is None else tensor.to(device)


def single(tensor: torch.Tensor) -> Array:
    """A tensor as an array to calculate with: half precision becomes single."""
    half = tensor.dtype in (torch.bfloat16, torch.float16)
    return array_of(tensor.detach().float() if half else tensor)


def get_attribute(module: nn.Module, path: str) -> Any:
    """What stands at a dotted path: a parameter, a buffer, a module, or any other attribute."""
    owner, _, name = path.rpartition(".")
    return getattr(module.get_submodule(owner), name)


def get_tensor(module: nn.Module, path: str) -> torch.Tensor:
    """The parameter, buffer or tensor attribute at a dotted path."""
    tensor: torch.Tensor = get_attribute(module, path)
    return tensor


def set_tensor(module: nn.Module, path: str, tensor: torch.Tensor) -> None:
    """Replace the parameter, buffer or tensor attribute at a dotted path."""
    owner, _, name = path.rpartition(".")
    setattr(module.get_submodule(owner), name, tensor)
