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

The same for 8-bit integers: `RowwiseInt8` multiplies four inputs at a time, by the processor's dot
product instruction, with activations that `Quantize` has rounded, row by row.

A tile is accumulated in registers; its accumulators take less than 1024 bytes, or TVM would put
them into memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from autoprune.kernels.activations import ACTIVATIONS, check_activation

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
        return f"spatial_{self.rows}x{self.vectors}x{self.lanes}{_suffix(self)}"


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
        return f"rowwise_{self.rows}x{self.tile}{_divided(self.parts)}{_suffix(self)}"


@dataclass(frozen=True)
class Dot:
    """An instruction for dot products of four 8-bit integers at a time.

    Attributes:
        intrinsic: LLVM's name; empty for multiplications and additions, on any processor.
        lanes: 32-bit sums of a vector.
        offset: what is added to activations, whose bytes the instruction reads without a sign.
        packs: instruction set of x86 in which LLVM has `packssdw` and `packuswb` for such vectors.
    """

    intrinsic: str
    lanes: int
    offset: int
    packs: str = ""


@dataclass(frozen=True)
class RowwiseInt8:
    """`Rowwise` for 8-bit weights and activations; a block has four inputs.

    Attributes:
        rows: outputs of a block, a multiple of the instruction's lanes.
        tile: positions that are computed at once.
        dot: the instruction.
        activation: name of what is applied last.
        residual: whether a tensor in the shape of the output is added before that.
        parts: a block is computed in so many, one after the other, each of whole vectors.
    """

    rows: int
    tile: int
    dot: Dot
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
        return f"rowwise8_{self.rows}x{self.tile}{_divided(self.parts)}{_suffix(self)}"


@dataclass(frozen=True)
class Quantize:
    """Rounding of every row of activations to 8 bits, by a scale of its own.

    Attributes:
        lanes: float32 numbers of a vector.
        offset: added to the integers.
    """

    lanes: int
    offset: int

    @property
    def name(self) -> str:
        """Of the function."""
        return f"quantize_{self.lanes}_{self.offset}"


Kernel = Spatial | Rowwise | RowwiseInt8


def _divided(parts: int) -> str:
    return f"_{parts}" if parts > 1 else ""


def _suffix(kernel: Kernel) -> str:
    return f"{'_' + kernel.activation if kernel.activation else ''}{'_add' * kernel.residual}"


def check_size(kernel: Any, elements: int) -> None:
    """Check the activation of a kernel, and that its accumulators fit into registers.

    Raises:
        ValueError: if they do not, or there is no such activation.
    """
    check_activation(kernel.activation)
    if 4 * elements >= ACCUMULATORS:
        raise ValueError(f"{kernel} needs {4 * elements} bytes of accumulators")


def primitive(kernel: Kernel | Quantize) -> Any:
    """The kernel as a TVM function.

    The arguments of products are activations, values [blocks, rows], index [blocks],
    offsets [block rows + 1], bias [block rows, rows], a tensor to add (the output itself where
    there is none), the output, the first position and the number of tiles from there on, the first
    block row, and the one after the last. Activations of `Spatial` are flat, and its index says
    where the positions of an input begin. For 8-bit integers, activations [positions, inputs / 4]
    and values hold four bytes in an int32, and before the first position come the scales of
    activations [positions] and of weights [block rows, rows], and the sums of each output's weights
    [block rows, rows], to which the offset of activations adds.
    `Quantize` takes activations [positions, inputs], the bytes and the scales to be made.
    """
    if isinstance(kernel, Quantize):
        return _quantize(kernel)
    if isinstance(kernel, RowwiseInt8):
        return _rowwise_int8(kernel)
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
        blocks = T.int32()
        block_rows = T.int32()
        ends = T.int32()
        X = T.match_buffer(x, (extent,), "float32", align=4)
        V = T.match_buffer(values, (blocks, rows), "float32", align=4)
        I = T.match_buffer(index, (blocks,), "int32", align=4)  # noqa: E741
        P = T.match_buffer(offsets, (ends,), "int32", align=4)
        B = T.match_buffer(bias, (block_rows, rows), "float32", align=4)
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
        blocks = T.int32()
        block_rows = T.int32()
        ends = T.int32()
        X = T.match_buffer(x, (positions, inputs), "float32", align=4)
        V = T.match_buffer(values, (blocks, rows), "float32", align=4)
        I = T.match_buffer(index, (blocks,), "int32", align=4)  # noqa: E741
        P = T.match_buffer(offsets, (ends,), "int32", align=4)
        B = T.match_buffer(bias, (block_rows, rows), "float32", align=4)
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


def _dot_vector(dot: Dot, sums: Any, x: Any, values: Any) -> Any:
    """The sums plus products of the bytes of `x` and of every lane of `values`."""
    bytes_ = f"int8x{4 * dot.lanes}"
    return T.call_llvm_pure_intrin(
        f"int32x{dot.lanes}", dot.intrinsic, sums,
        T.reinterpret(bytes_, T.broadcast(x, dot.lanes)), T.reinterpret(bytes_, values),
    )  # fmt: skip


def dot_written_out(dot: Dot, x: Any, value: Any) -> Any:
    """The same for one lane, without the instruction and without the sum."""
    kind = "uint8" if dot.offset else "int8"

    def byte(whole: Any, kind: str, place: int) -> Any:
        return T.Cast("int32", T.Cast(kind, T.shift_right(whole, 8 * place)))

    first, *rest = (byte(x, kind, place) * byte(value, "int8", place) for place in range(4))
    return sum(rest, first)


def _rowwise_int8(kernel: RowwiseInt8) -> Any:
    rows, tile, lanes = kernel.rows, kernel.tile, kernel.dot.lanes
    parts, width = kernel.parts, kernel.width
    activation, residual = ACTIVATIONS[kernel.activation], kernel.residual
    offset, written_out = kernel.dot.offset, not kernel.dot.intrinsic

    @T.prim_func
    def product(
        x: T.handle, values: T.handle, index: T.handle, offsets: T.handle, bias: T.handle,
        added: T.handle, y: T.handle, x_scales: T.handle, scales: T.handle, sums: T.handle,
        start: T.int32, tiles: T.int32, first: T.int32, last: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        inputs = T.int32()
        positions = T.int32()
        outputs = T.int32()
        blocks = T.int32()
        block_rows = T.int32()
        ends = T.int32()
        X = T.match_buffer(x, (positions, inputs), "int32", align=4)
        V = T.match_buffer(values, (blocks, rows), "int32", align=4)
        I = T.match_buffer(index, (blocks,), "int32", align=4)  # noqa: E741
        P = T.match_buffer(offsets, (ends,), "int32", align=4)
        B = T.match_buffer(bias, (block_rows, rows), "float32", align=4)
        R = T.match_buffer(added, (positions, outputs), "float32", align=4)
        Y = T.match_buffer(y, (positions, outputs), "float32", align=4)
        XS = T.match_buffer(x_scales, (positions,), "float32", align=4)
        S = T.match_buffer(scales, (block_rows, rows), "float32", align=4)
        Z = T.match_buffer(sums, (block_rows, rows), "int32", align=4)
        for t in T.serial(tiles):
            for o in T.serial(last - first):
                for part in T.unroll(parts):
                    acc = T.alloc_buffer((tile * width,), "int32")
                    for m in T.unroll(tile):
                        for r in T.vectorized(width):
                            acc[m * width + r] = Z[first + o, part * width + r] * (-offset)
                    for b in T.serial(P[first + o + 1] - P[first + o]):
                        if written_out:
                            for m in T.unroll(tile):
                                for r in T.vectorized(width):
                                    acc[m * width + r] += dot_written_out(
                                        kernel.dot,
                                        X[start + t * tile + m, I[P[first + o] + b]],
                                        V[P[first + o] + b, part * width + r],
                                    )
                        else:
                            for v in T.unroll(width // lanes):
                                for m in T.unroll(tile):
                                    acc[T.ramp(m * width + v * lanes, 1, lanes)] = _dot_vector(
                                        kernel.dot,
                                        acc[T.ramp(m * width + v * lanes, 1, lanes)],
                                        X[start + t * tile + m, I[P[first + o] + b]],
                                        V[
                                            P[first + o] + b,
                                            T.ramp(part * width + v * lanes, 1, lanes),
                                        ],
                                    )
                    for m in T.unroll(tile):
                        for r in T.vectorized(width):
                            Y[start + t * tile + m, (first + o) * rows + part * width + r] = (
                                activation(
                                    T.Cast("float32", acc[m * width + r])
                                    * (S[first + o, part * width + r] * XS[start + t * tile + m])
                                    + B[first + o, part * width + r]
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


def _quantize(kernel: Quantize) -> Any:
    lanes, offset = kernel.lanes, kernel.offset

    @T.prim_func
    def quantize(x: T.handle, q: T.handle, scales: T.handle):
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        inputs = T.int32()
        positions = T.int32()
        X = T.match_buffer(x, (positions, inputs), "float32", align=4)
        # Bytes, with or without a sign.
        Q = T.match_buffer(q, (positions, inputs), "uint8", align=1)
        S = T.match_buffer(scales, (positions,), "float32", align=4)
        for m in T.serial(positions):
            most = T.alloc_buffer((lanes,), "float32")
            for lane in T.vectorized(lanes):
                most[lane] = T.float32(1e-30)
            for k in T.serial(inputs // lanes):
                for lane in T.vectorized(lanes):
                    most[lane] = T.max(
                        most[lane],
                        T.max(X[m, k * lanes + lane], -X[m, k * lanes + lane]),
                    )
            for lane in T.unroll(lanes - 1):
                most[0] = T.max(most[0], most[lane + 1])
            S[m] = most[0] * T.float32(1 / 127)
            for k in T.serial(inputs // lanes):
                for lane in T.vectorized(lanes):
                    Q[m, k * lanes + lane] = T.Cast(
                        "uint8",
                        T.Cast(
                            "int32",
                            T.floor(
                                X[m, k * lanes + lane] * (T.float32(127) / most[0])
                                + T.float32(offset + 0.5)
                            ),
                        ),
                    )

    return quantize
