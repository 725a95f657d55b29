"""Sparse matrix products as TVM functions, with bias, residual and activation inside.

Weights [outputs, inputs] are stored by blocks of `rows` outputs at one input each: for every block
row the inputs that occur in it (`index`, from `offsets[o]` to `offsets[o + 1]`) and for each of
these `rows` values. All sizes are symbolic and weights are arguments, so that one function serves
every layer of a network.

Two loop orders, after what runs along the vectors of the processor:

* `spatial`: activations are [inputs, positions], as in a convolution of an NCHW tensor. A tile of
  positions is a vector, and every weight is used for a whole tile. An input is given by where its
  positions begin, so that the taps of a larger convolution are inputs like any other: the same
  padded plane, begun elsewhere.
* `rowwise`: activations are [positions, inputs], as in a linear layer. A block of outputs is a
  vector, and every activation is used for a whole block.

A tile is accumulated in registers; its accumulators take less than 1024 bytes, or TVM would put
them into memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from autoprune.passes.kernels.activations import ACTIVATIONS, check_activation

ACCUMULATORS = 1024
"""Bytes; from here on they are not kept in registers."""


@dataclass(frozen=True)
class Spatial:
    """A product with positions along the vectors: Y[o, m] = sum over k of W[o, k] X[I[k] + m].

    Attributes:
        rows: outputs of a block.
        lanes: elements of a vector.
        vectors: vectors of a tile.
        activation: name of what is applied last.
        residual: whether a tensor in the shape of the output is added before that.
    """

    rows: int
    lanes: int
    vectors: int
    activation: str = ""
    residual: bool = False

    def __post_init__(self) -> None:
        check_size(self, self.rows * self.tile)

    @property
    def tile(self) -> int:
        """Positions of a tile."""
        return self.lanes * self.vectors

    @property
    def name(self) -> str:
        """Of the function."""
        return f"spatial_{self.rows}x{self.vectors}x{self.lanes}{suffix(self)}"


@dataclass(frozen=True)
class Rowwise:
    """A product with outputs along the vectors: Y[m, o] = sum over k of W[o, k] X[m, k].

    Attributes:
        rows: outputs of a block, a multiple of the processor's vectors.
        tile: positions that are computed at once.
        activation: name of what is applied last.
        residual: whether a tensor in the shape of the output is added before that.
        parts: a block is computed in so many, one after the other, each of whole vectors.
    """

    rows: int
    tile: int
    activation: str = ""
    residual: bool = False
    parts: int = 1

    def __post_init__(self) -> None:
        check_size(self, self.width * self.tile)

    @property
    def width(self) -> int:
        """Outputs of a part."""
        return self.rows // self.parts

    @property
    def name(self) -> str:
        """Of the function."""
        return f"rowwise_{self.rows}x{self.tile}{divided(self.parts)}{suffix(self)}"


def divided(parts: int) -> str:
    """The parts of a block in the name of a function."""
    return f"_{parts}" if parts > 1 else ""


def suffix(kernel: Any) -> str:
    """The activation and the residual of a kernel in the name of its function."""
    return f"{'_' + kernel.activation if kernel.activation else ''}{'_add' * kernel.residual}"


def check_size(kernel: Any, elements: int) -> None:
    """Check the activation of a kernel, and that its accumulators fit into registers.

    Raises:
        ValueError: if they do not, or there is no such activation.
    """
    check_activation(kernel.activation)
    if 4 * elements >= ACCUMULATORS:
        raise ValueError(f"{kernel} needs {4 * elements} bytes of accumulators")


def weights_of(
    rows: int, values: Any, index: Any, offsets: Any, bias: Any, *integers: Any
) -> tuple[Any, ...]:
    """The buffers of weights that are stored by blocks, for the function that is being written.

    Args:
        rows: outputs of a block.
        values: handle of the values, which are bytes if there are `integers`.
        index: handle of the inputs of blocks.
        offsets: handle of where block rows begin.
        bias: handle of the bias.
        integers: handles of the scales of outputs and of the sums of their weights.

    Returns:
        A buffer for each handle.
    """
    blocks, block_rows, ends = (
        tirx.Var(name, "int32") for name in ("blocks", "block_rows", "ends")
    )

    def buffer(handle: Any, shape: tuple[Any, ...], dtype: str) -> Any:
        return T.match_buffer(handle, shape, dtype, align=4)

    by_output = zip((bias, *integers), ("float32", "float32", "int32"), strict=False)
    return (
        buffer(values, (blocks, rows), "int32" if integers else "float32"),
        buffer(index, (blocks,), "int32"),
        buffer(offsets, (ends,), "int32"),
        *(buffer(handle, (block_rows, rows), dtype) for handle, dtype in by_output),
    )


def primitive(kernel: Spatial | Rowwise) -> Any:
    """The kernel as a TVM function.

    The arguments of products are activations, values [blocks, rows], index [blocks],
    offsets [block rows + 1], bias [block rows, rows], a tensor to add (the output itself where
    there is none), the output, the first position and the number of tiles from there on, the first
    block row, and the one after the last. Activations of `Spatial` are flat, and its index says
    where the positions of an input begin.
    """
    return _spatial(kernel) if isinstance(kernel, Spatial) else _rowwise(kernel)


def _spatial(kernel: Spatial) -> Any:
    rows, lanes, vectors, tile = kernel.rows, kernel.lanes, kernel.vectors, kernel.tile
    activation, residual = ACTIVATIONS[kernel.activation], kernel.residual

    @T.prim_func
    def product(
        x: T.handle, values: T.handle, index: T.handle, offsets: T.handle, bias: T.handle,
        added: T.handle, y: T.handle,
        start: T.int32, tiles: T.int32, first: T.int32, last: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        extent = T.int32()
        positions = T.int32()
        outputs = T.int32()
        X = T.match_buffer(x, (extent,), "float32", align=4)
        V, I, P, B = weights_of(rows, values, index, offsets, bias)  # noqa: E741
        R = T.match_buffer(added, (outputs, positions), "float32", align=4)
        Y = T.match_buffer(y, (outputs, positions), "float32", align=4)
        for t in T.serial(tiles):
            for o in T.serial(last - first):
                acc = T.alloc_buffer((rows * tile,), "float32")
                for r in T.unroll(rows):
                    for v in T.unroll(vectors):
                        for lane in T.vectorized(lanes):
                            acc[r * tile + v * lanes + lane] = B[first + o, r]
                for b in T.serial(P[first + o + 1] - P[first + o]):
                    for v in T.unroll(vectors):
                        for r in T.unroll(rows):
                            for lane in T.vectorized(lanes):
                                acc[r * tile + v * lanes + lane] += (
                                    V[P[first + o] + b, r]
                                    * X[I[P[first + o] + b] + start + t * tile + v * lanes + lane]
                                )
                for r in T.unroll(rows):
                    for v in T.unroll(vectors):
                        for lane in T.vectorized(lanes):
                            Y[(first + o) * rows + r, start + t * tile + v * lanes + lane] = (
                                activation(
                                    acc[r * tile + v * lanes + lane]
                                    + (
                                        R[
                                            (first + o) * rows + r,
                                            start + t * tile + v * lanes + lane,
                                        ]
                                        if residual
                                        else T.float32(0)
                                    )
                                )
                            )

    return product


def _rowwise(kernel: Rowwise) -> Any:
    rows, tile, parts, width = kernel.rows, kernel.tile, kernel.parts, kernel.width
    activation, residual = ACTIVATIONS[kernel.activation], kernel.residual

    @T.prim_func
    def product(
        x: T.handle, values: T.handle, index: T.handle, offsets: T.handle, bias: T.handle,
        added: T.handle, y: T.handle,
        start: T.int32, tiles: T.int32, first: T.int32, last: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        inputs = T.int32()
        positions = T.int32()
        outputs = T.int32()
        X = T.match_buffer(x, (positions, inputs), "float32", align=4)
        V, I, P, B = weights_of(rows, values, index, offsets, bias)  # noqa: E741
        R = T.match_buffer(added, (positions, outputs), "float32", align=4)
        Y = T.match_buffer(y, (positions, outputs), "float32", align=4)
        for t in T.serial(tiles):
            for o in T.serial(last - first):
                for part in T.unroll(parts):
                    acc = T.alloc_buffer((tile * width,), "float32")
                    for m in T.unroll(tile):
                        for r in T.vectorized(width):
                            acc[m * width + r] = B[first + o, part * width + r]
                    for b in T.serial(P[first + o + 1] - P[first + o]):
                        for m in T.unroll(tile):
                            for r in T.vectorized(width):
                                acc[m * width + r] += (
                                    V[P[first + o] + b, part * width + r]
                                    * X[start + t * tile + m, I[P[first + o] + b]]
                                )
                    for m in T.unroll(tile):
                        for r in T.vectorized(width):
                            Y[start + t * tile + m, (first + o) * rows + part * width + r] = (
                                activation(
                                    acc[m * width + r]
                                    + (
                                        R[
                                            start + t * tile + m,
                                            (first + o) * rows + part * width + r,
                                        ]
                                        if residual
                                        else T.float32(0)
                                    )
                                )
                            )

    return product
