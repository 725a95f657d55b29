"""A linear layer for torch that runs on the sparse kernels for CUDA."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.errors import TargetError
from autoprune.passes.kernels.cuda.kernels import Function, RowwiseCuda, choose, family
from autoprune.passes.kernels.cuda.library import GRID, Library
from autoprune.passes.kernels.cuda.weights import chunks_of
from autoprune.passes.kernels.kernel import Product

LIMIT = 2**31 - 1
"""Elements of a tensor that kernels count."""


def product_of(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Product:
    """A linear layer as kernels see it, with weights [outputs, inputs] of a type."""
    return Product(
        rowwise=True, x="", output="", weight=weight.detach().to("cpu", dtype).numpy(),
        bias=bias.detach().float().cpu().numpy(),
    )  # fmt: skip


class SparseLinear(nn.Module):
    """A linear layer whose weights are stored by blocks: activation(x W^T + bias + added).

    It does not train. Its numbers are those of `dtype` with sums in float32; inputs of another type
    are an error, as is running it without a library of its kernels.

    Args:
        weight: shape [outputs, inputs].
        bias: shape [outputs], or None.
        rows: outputs of a block, a power of two up to 256; 1 for single weights.
        activation: applied last: relu, relu6, silu, hardswish, gelu, or nothing.
        residual: whether `forward` takes a tensor that is added before that.
        dtype: torch.float32 or torch.float16.
    """

    values: Tensor
    index: Tensor
    starts: Tensor
    bias: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        rows: int,
        activation: str = "",
        residual: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        name = str(dtype).removeprefix("torch.")
        kernel = RowwiseCuda(rows, activation, residual, name)
        self.kernels = family(rows, activation, residual=residual, dtype=name)
        self.outputs, self.inputs = weight.shape
        self.rows, self.residual, self.dtype = rows, residual, dtype
        self.library: Library | None = None
        shift = torch.zeros(self.outputs) if bias is None else bias
        for key, array in kernel.encode(product_of(weight, shift, dtype), {}).items():
            self.register_buffer(key, torch.from_numpy(np.ascontiguousarray(array)))

    @property
    def stored(self) -> float:
        """Share of the weights that is stored."""
        return float(self.values.numel() / (self.outputs * self.inputs))

    def extra_repr(self) -> str:
        """What `print` shows."""
        return (
            f"{self.inputs}, {self.outputs}, rows={self.rows}, stored={self.stored:.0%}, "
            f"{self.kernels[-1].name}"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SparseLinear:
        """Move to a device alone: kernels read numbers of the types that were chosen."""
        for name, buffer in self.named_buffers(recurse=False):
            setattr(self, name, buffer.to(fn(buffer).device))
        return self

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """The product of x [..., inputs], and of what is added [..., outputs].

        Raises:
            TargetError: if there is no library, or it has not the kernels.
            ValueError: if tensors have other shapes, types or devices, or need gradients.
        """
        self._check(x, added)
        flat = x.contiguous().reshape(-1, self.inputs)
        y = x.new_empty(*x.shape[:-1], self.outputs)
        rest = None if added is None else added.contiguous().reshape(-1, self.outputs)
        kernel = choose(self.kernels, len(flat))
        step = max(1, min(LIMIT // max(self.inputs, self.outputs), GRID * kernel.tile))
        for first in range(0, len(flat), step):
            part = slice(first, first + step)
            self._launch(
                kernel, flat[part], None if rest is None else rest[part],
                y.view(-1, self.outputs)[part],
            )  # fmt: skip
        return y

    def _launch(self, kernel: Function, x: Tensor, added: Tensor | None, y: Tensor) -> None:
        assert self.library is not None
        tensors = (x, self.values, self.index, self.starts, self.bias, added, y)
        pointers = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
        sizes = (len(x), self.inputs, self.outputs, len(self.bias), chunks_of(self.inputs))
        if not x.is_cuda:
            self.library.launch(kernel, pointers, sizes, 0)
            return
        with torch.cuda.device(x.device):
            stream = torch.cuda.current_stream().cuda_stream
            self.library.launch(kernel, pointers, sizes, stream)

    def _check(self, x: Tensor, added: Tensor | None) -> None:
        if self.library is None:
            raise TargetError(
                "a sparse linear layer has no kernels yet",
                hint="give it a library with use_library(model, path)",
            )
        if x.shape[-1:] != (self.inputs,):
            raise ValueError(f"x has shape {list(x.shape)}, and {self.inputs} inputs are expected")
        if (added is not None) != self.residual:
            raise ValueError(f"there is {'no' if added is None else 'a'} tensor to add")
        if added is not None and added.shape != (*x.shape[:-1], self.outputs):
            raise ValueError(f"a tensor of shape {list(added.shape)} cannot be added")
        if (self.values.dtype, self.bias.dtype) != (self.dtype, torch.float32):
            raise ValueError(f"weights are {self.values.dtype}, not {self.dtype} as they were")
        for tensor in (x, *([] if added is None else [added])):
            if tensor.dtype != self.dtype:
                raise ValueError(f"numbers are {tensor.dtype}, not {self.dtype}")
            if tensor.device != self.values.device or tensor.device.type != self.library.device:
                raise ValueError(
                    f"a tensor is on {tensor.device}, weights are on {self.values.device}, and "
                    f"kernels are for {self.library.device}"
                )
            if tensor.requires_grad and torch.is_grad_enabled():
                raise ValueError("sparse kernels have no gradients: use torch.no_grad()")
