"""A network with zeros in its weights -> all of it by TVM: Relax, with calls of the sparse kernels.

    lv = R.matmul(x, W)  ->  lv = R.call_tir(cls.rowwise_32x7, (x, values, index, offsets, bias))

Nothing of ONNX Runtime is left, and TVM compiles for more processors than there are kernels tuned
for. That is all this is for: TVM's dense kernels are slow here, so times of it say nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tvm
from tvm import relax, tirx
from tvm.relax.frontend.onnx import from_onnx

from autoprune.errors import TargetError
from autoprune.ir.files import read_file, write_atomically
from autoprune.passes.kernels.templates import ACCUMULATORS, Rowwise, Spatial, primitive
from autoprune.passes.lower.units import blocks_with_weights, sparse_rows
from autoprune.passes.sparsify.blocks import Block
from autoprune.passes.sparsify.layout import Array

SMALLEST = 4096
"""Weights of a product from which on it is worth a kernel."""

LANES = (16, 8, 4, 2, 1)
"""Elements of a vector that are tried; LLVM splits those that a processor does not have."""


@dataclass(frozen=True, eq=False)
class RelaxNetwork:
    """A network that TVM's virtual machine runs.

    Attributes:
        module: the network in Relax, before TVM's own passes.
        executable: what TVM made of it.
        inputs: their names, in order.
        outputs: their names, in order.
        sparse: how many products run on sparse kernels.
    """

    module: Any
    executable: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sparse: int

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, of inputs by name, on this processor.

        Raises:
            TargetError: if inputs are missing, or unknown.
        """
        if set(self.inputs) != set(feed):
            raise TargetError(
                f"the inputs are {', '.join(self.inputs)}, and {', '.join(feed) or 'none'} given"
            )
        machine = relax.VirtualMachine(self.executable, tvm.cpu())
        tensors = (np.ascontiguousarray(feed[name]) for name in self.inputs)
        made = machine["main"](*map(tvm.runtime.tensor, tensors))
        arrays = [made] if len(self.outputs) == 1 else list(made)
        return {name: array.numpy() for name, array in zip(self.outputs, arrays, strict=True)}

    def save(self, path: str | Path, compiler: str = "g++") -> None:
        """Write a shared library for `tvm.runtime.load_module`.

        Args:
            path: where to.
            compiler: that links for the target, such as aarch64-linux-gnu-g++.
        """
        link = tvm.support.cc.cross_compiler(compiler)
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder, f"network{Path(path).suffix or '.so'}")
            self.executable.export_library(str(made), fcompile=link)
            write_atomically(path, read_file(made))


def compile_relax(model: onnx.ModelProto, target: Mapping[str, Any]) -> RelaxNetwork:
    """Compile an ONNX model by TVM alone.

    Linear layers and 1x1 convolutions of at least 4,096 weights, of which at most half has to be
    stored, call the kernels of `autoprune.passes.kernels`. A convolution has to have a fixed shape
    for that. Everything else is TVM's.

    Args:
        model: the model, with constants and normalization folded.
        target: the processor as TVM describes it: kind, mcpu, mtriple.

    Raises:
        TargetError: if TVM does not know an operator of the model, or the target.
    """
    try:
        device = tvm.target.Target(dict(target))
        imported = from_onnx(model)
    # TVM has no base of its errors, and the importer raises whatever it stumbles over.
    except Exception as error:
        raise TargetError(
            f"TVM does not take this network: {_last_line(error)}",
            hint="run it on ONNX Runtime, as ap.compile makes it",
        ) from error
    folded = relax.transform.FoldConstant()(imported)
    rewriter = _Rewriter(folded)
    function = rewriter.visit_expr(folded["main"])
    rewriter.builder_.update_func(folded.get_global_var("main"), function)
    module = rewriter.builder_.finalize()
    executable = tvm.compile(relax.get_pipeline("zero")(module), target=device)
    names = [value.name for value in model.graph.input]
    constants = {tensor.name for tensor in model.graph.initializer}
    return RelaxNetwork(
        module, executable, tuple(name for name in names if name not in constants),
        tuple(value.name for value in model.graph.output), rewriter.sparse,
    )  # fmt: skip


@relax.expr_functor.mutator
class _Rewriter(relax.PyExprMutator):  # type: ignore[misc]
    """Puts sparse kernels in the place of products with constant weights."""

    def __init__(self, module: Any) -> None:
        super().__init__(module)
        self.sparse = 0
        self.functions: dict[Rowwise | Spatial, Any] = {}

    def visit_call_(self, call: Any) -> Any:
        call = super().visit_call_(call)
        name = getattr(call.op, "name", "")
        if name not in ("relax.matmul", "relax.nn.conv2d"):
            return call
        made = (self._linear if name == "relax.matmul" else self._convolution)(call)
        if made is None:
            return call
        self.sparse += 1
        return made

    def _linear(self, call: Any) -> Any:
        x, weight = call.args[0], _constant(call.args[1])
        shape = _shape(x)
        if weight is None or weight.ndim != 2 or shape is None or len(shape) < 2:
            return None
        rows = _rows(weight.T, rowwise=True)
        outputs, inputs = weight.T.shape
        positions = prod(shape[:-1])
        if not rows or not _counted(positions, max(inputs, outputs)):
            return None
        tile = _divisor(positions, (ACCUMULATORS // 4 - 1) // rows)
        flat = x if len(shape) == 2 else relax.op.reshape(x, (positions, inputs))
        arrays = _arrays(weight.T, rows, 1)
        y = self._call(Rowwise(rows, tile), flat, arrays, (positions, outputs))
        return self.builder_.normalize(relax.op.reshape(y, (*shape[:-1], outputs)))

    def _convolution(self, call: Any) -> Any:
        x, weight = call.args[0], _constant(call.args[1])
        shape, settings = _shape(x), call.attrs
        plain = settings.groups == 1 and settings.data_layout == "NCHW"
        if weight is None or shape is None or not all(isinstance(size, int) for size in shape):
            return None
        ones = [*weight.shape[2:], *(int(stride) for stride in settings.strides)]
        if not plain or set(ones) != {1} or any(int(size) for size in settings.padding):
            return None
        matrix = weight.reshape(weight.shape[:2])
        rows = _rows(matrix, rowwise=False)
        batch, inputs, *plane = shape
        positions = batch * prod(plane)
        if not rows or not _counted(positions, max(inputs, len(matrix))):
            return None
        tile = _divisor(positions, (ACCUMULATORS // 4 - 1) // rows)
        lanes = next(count for count in LANES if tile % count == 0)
        kernel = Spatial(rows, lanes, tile // lanes)
        # Kernels take all positions of a channel together, those of the whole batch here.
        planes = relax.op.permute_dims(x, (1, 0, 2, 3))
        flat = relax.op.reshape(planes, (inputs * positions,))
        arrays = _arrays(matrix, rows, positions)
        y = self._call(kernel, flat, arrays, (len(matrix), positions))
        y = relax.op.reshape(y, (len(matrix), batch, *plane))
        return self.builder_.normalize(relax.op.permute_dims(y, (1, 0, 2, 3)))

    def _call(
        self, kernel: Rowwise | Spatial, x: Any, arrays: list[Array], shape: tuple[Any, ...]
    ) -> Any:
        if kernel not in self.functions:
            self.functions[kernel] = self.builder_.add_func(_whole(kernel), kernel.name)
        arguments = [self.builder_.emit(x), *(relax.const(array) for array in arrays)]
        made = relax.TensorType(shape, "float32")
        return self.builder_.emit(relax.call_tir(self.functions[kernel], arguments, made))


def _last_line(error: Exception) -> str:
    """What an error of TVM says below its traceback."""
    return next(iter(reversed(str(error).strip().splitlines())), type(error).__name__)


def _rows(weight: Array, *, rowwise: bool) -> int:
    """Outputs of the blocks it is stored in; 0 if the product stays dense."""
    rows = sparse_rows(weight, rowwise=rowwise) if weight.size >= SMALLEST else 0
    return 0 if rowwise and rows == 1 else rows


def _arrays(weight: Array, rows: int, step: int) -> list[Array]:
    """Values, index, offsets and bias of a kernel; an input is `step` elements after the last."""
    encoded = Block(rows, 1).encode(weight, blocks_with_weights(weight, rows)).arrays
    index = encoded["columns"] * np.int32(step)
    bias = np.zeros((len(weight) // rows, rows), np.float32)
    return [encoded["values"].reshape(-1, rows), index, encoded["offsets"], bias]


def _whole(kernel: Rowwise | Spatial) -> Any:
    """A kernel for all positions and block rows, with tensors alone for arguments.

    There is no tensor to add, and the number of positions is a multiple of the kernel's tile.
    """
    product = primitive(kernel)
    *_, bias, _added, y, start, tiles, first, last = product.params
    positions = y.shape[0 if isinstance(kernel, Rowwise) else 1]
    whole = product.specialize(
        {start: 0, tiles: positions // kernel.tile, first: 0, last: bias.shape[0]}
    )
    *tensors, _added, y = whole.params
    return tirx.PrimFunc([*tensors, y], whole.body, None, whole.attrs)


def _counted(positions: Any, channels: int) -> bool:
    """Whether kernels, which count elements in 32 bits, can count these."""
    return not isinstance(positions, int) or positions * channels < 2**31


def _divisor(positions: Any, most: int) -> int:
    """The largest tile that divides the positions; 1 if their number varies."""
    if not isinstance(positions, int):
        return 1
    return next(tile for tile in range(min(most, positions), 0, -1) if positions % tile == 0)


def _constant(expression: Any) -> Array | None:
    if not isinstance(expression, tvm.ir.GenericConst) or expression.ty.dtype != "float32":
        return None
    return np.asarray(expression.value.numpy())


def _shape(expression: Any) -> tuple[Any, ...] | None:
    """Sizes, as numbers where they are known; None if even their count is not."""
    shape = expression.ty.shape
    if shape is None or not hasattr(shape, "values"):
        return None
    return tuple(int(s) if isinstance(s, tirx.IntImm) else s for s in shape.values)
