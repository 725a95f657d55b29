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
from autoprune.passes.kernels.kernel import Product, Tile
from autoprune.passes.kernels.registry import select
from autoprune.passes.sparsify.layout import Array

SMALLEST = 4096
"""Weights of a product from which on it is worth a kernel."""


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
        self.functions: dict[Tile, Any] = {}

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
        inputs, outputs = weight.shape
        positions = prod(shape[:-1])
        flat = x if len(shape) == 2 else relax.op.reshape(x, (positions, inputs))
        y = self._product(_matrix(weight.T, rowwise=True), flat, positions)
        if y is None:
            return None
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
        batch, inputs, *plane = shape
        positions = batch * prod(plane)
        # Kernels take all positions of a channel together, those of the whole batch here.
        planes = relax.op.permute_dims(x, (1, 0, 2, 3))
        flat = relax.op.reshape(planes, (inputs * positions,))
        product = _matrix(weight.reshape(weight.shape[:2]), rowwise=False)
        y = self._product(product, flat, positions)
        if y is None:
            return None
        y = relax.op.reshape(y, (len(weight), batch, *plane))
        return self.builder_.normalize(relax.op.permute_dims(y, (1, 0, 2, 3)))

    def _product(self, product: Product, x: Any, positions: Any) -> Any:
        """A call of the kernel for a product; None if it stays dense."""
        known = positions if isinstance(positions, int) else None
        if product.weight.size < SMALLEST or (
            # Kernels count elements in 32 bits.
            known is not None and known * max(product.weight.shape) >= 2**31
        ):
            return None
        found = select(product, ("float32",))
        tile = None if found is None else found.kernel.exactly(known)
        if found is None or tile is None:
            return None
        if tile not in self.functions:
            function = _whole(tile, rowwise=product.rowwise)
            self.functions[tile] = self.builder_.add_func(function, tile.name)
        arrays = found.kernel.encode(product, {})
        if not product.rowwise:
            arrays["index"] = arrays["index"] * np.int32(positions)
        arguments = [self.builder_.emit(x), *map(relax.const, arrays.values())]
        outputs = len(product.weight)
        shape = (positions, outputs) if product.rowwise else (outputs, positions)
        made = relax.TensorType(shape, "float32")
        return self.builder_.emit(relax.call_tir(self.functions[tile], arguments, made))


def _matrix(weight: Array, *, rowwise: bool) -> Product:
    """A product of TVM's, as kernels see it: nothing is added or applied."""
    return Product(rowwise, "", "", weight, np.zeros(len(weight), np.float32))


def _last_line(error: Exception) -> str:
    """What an error of TVM says below its traceback."""
    return next(iter(reversed(str(error).strip().splitlines())), type(error).__name__)


def _whole(tile: Tile, *, rowwise: bool) -> Any:
    """A tile's function for all positions and block rows, with tensors alone for arguments.

    There is no tensor to add, and the number of positions is a multiple of the tile.
    """
    product = tile.primitive()
    *_, bias, _added, y, start, tiles, first, last = product.params
    positions = y.shape[0 if rowwise else 1]
    whole = product.specialize(
        {start: 0, tiles: positions // tile.tile, first: 0, last: bias.shape[0]}
    )
    *tensors, _added, y = whole.params
    return tirx.PrimFunc([*tensors, y], whole.body, None, whole.attrs)


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
