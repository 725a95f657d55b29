"""`Spatial` products of 8-bit integers as TVM functions, and the rounding before them.

Activations are [inputs / 4, positions], with the bytes of four inputs in an int32; all positions of
an image have one scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from autoprune.kernels.activations import ACTIVATIONS
from autoprune.kernels.templates import Dot, check_size, dot_written_out


@dataclass(frozen=True)
class SpatialInt8:
    """`Spatial` for 8-bit weights and activations; a block has four inputs.

    Attributes:
        rows: outputs of a block.
        vectors: vectors of a tile; 0 for a tile of one position, without vectors.
        dot: the instruction.
        activation: name of what is applied last.
        residual: whether a tensor in the shape of the output is added before that.
    """

    rows: int
    vectors: int
    dot: Dot
    activation: str = ""
    residual: bool = False

    def __post_init__(self) -> None:
        check_size(self, self.rows * self.tile)

    @property
    def tile(self) -> int:
        """Positions of a tile."""
        return self.vectors * self.dot.lanes or 1

    @property
    def name(self) -> str:
        """Of the function."""
        suffix = f"_{self.activation}" if self.activation else ""
        return f"spatial8_{self.rows}x{self.tile}{suffix}{'_add' * self.residual}"


@dataclass(frozen=True)
class Largest:
    """The largest absolute value.

    Attributes:
        lanes: float32 numbers of a vector.
    """

    lanes: int

    @property
    def name(self) -> str:
        """Of the function."""
        return f"largest_{self.lanes}"


@dataclass(frozen=True)
class Pack:
    """Rounding of four inputs to bytes of one int32.

    Attributes:
        lanes: float32 numbers of a vector.
        offset: added to the integers.
    """

    lanes: int
    offset: int

    @property
    def name(self) -> str:
        """Of the function."""
        return f"pack_{self.lanes}_{self.offset}"


def spatial_int8(kernel: SpatialInt8) -> Any:
    """The kernel as a TVM function.

    Its arguments are those of `Spatial`, with bytes in activations and values, and before the
    first position the scale of activations [1], and scales and sums of each output's weights
    [block rows, rows].
    """
    rows, tile, dot = kernel.rows, kernel.tile, kernel.dot
    lanes = dot.lanes if kernel.vectors else 1
    vectors, offset = tile // lanes, dot.offset
    activation, residual = ACTIVATIONS[kernel.activation], kernel.residual
    in_vectors = bool(kernel.vectors and dot.intrinsic)

    @T.prim_func
    def product(
        x: T.handle, values: T.handle, index: T.handle, offsets: T.handle, bias: T.handle,
        added: T.handle, y: T.handle, x_scale: T.handle, scales: T.handle, sums: T.handle,
        start: T.int32, tiles: T.int32, first: T.int32, last: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        extent = T.int32()
        positions = T.int32()
        outputs = T.int32()
        blocks = T.int32()
        block_rows = T.int32()
        ends = T.int32()
        X = T.match_buffer(x, (extent,), "int32", align=4)
        V = T.match_buffer(values, (blocks, rows), "int32", align=4)
        I = T.match_buffer(index, (blocks,), "int32", align=4)  # noqa: E741
        P = T.match_buffer(offsets, (ends,), "int32", align=4)
        B = T.match_buffer(bias, (block_rows, rows), "float32", align=4)
        R = T.match_buffer(added, (outputs, positions), "float32", align=4)
        Y = T.match_buffer(y, (outputs, positions), "float32", align=4)
        XS = T.match_buffer(x_scale, (1,), "float32", align=4)
        S = T.match_buffer(scales, (block_rows, rows), "float32", align=4)
        Z = T.match_buffer(sums, (block_rows, rows), "int32", align=4)
        for t in T.serial(tiles):
            for o in T.serial(last - first):
                acc = T.alloc_buffer((rows * tile,), "int32")
                for r in T.unroll(rows):
                    for v in T.unroll(vectors):
                        for lane in T.vectorized(lanes):
                            acc[r * tile + v * lanes + lane] = Z[first + o, r] * (-offset)
                for b in T.serial(P[first + o + 1] - P[first + o]):
                    if in_vectors:
                        for v in T.unroll(vectors):
                            for r in T.unroll(rows):
                                acc[T.ramp(r * tile + v * lanes, 1, lanes)] = _dot_positions(
                                    dot,
                                    acc[T.ramp(r * tile + v * lanes, 1, lanes)],
                                    X[
                                        T.ramp(
                                            I[P[first + o] + b] + start + t * tile + v * lanes,
                                            1,
                                            lanes,
                                        )
                                    ],
                                    V[P[first + o] + b, r],
                                )
                    else:
                        for v in T.unroll(vectors):
                            for r in T.unroll(rows):
                                for lane in T.vectorized(lanes):
                                    acc[r * tile + v * lanes + lane] += dot_written_out(
                                        dot,
                                        X[
                                            I[P[first + o] + b]
                                            + start
                                            + t * tile
                                            + v * lanes
                                            + lane
                                        ],
                                        V[P[first + o] + b, r],
                                    )
                for r in T.unroll(rows):
                    for v in T.unroll(vectors):
                        for lane in T.vectorized(lanes):
                            Y[(first + o) * rows + r, start + t * tile + v * lanes + lane] = (
                                activation(
                                    T.Cast("float32", acc[r * tile + v * lanes + lane])
                                    * (S[first + o, r] * XS[0])
                                    + B[first + o, r]
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


def _dot_positions(dot: Dot, sums: Any, x: Any, value: Any) -> Any:
    """The sums plus products of the bytes of every lane of `x` and of `value`."""
    bytes_ = f"int8x{4 * dot.lanes}"
    return T.call_llvm_pure_intrin(
        f"int32x{dot.lanes}", dot.intrinsic, sums,
        T.reinterpret(bytes_, x), T.reinterpret(bytes_, T.broadcast(value, dot.lanes)),
    )  # fmt: skip


def largest(kernel: Largest) -> Any:
    """The function; its arguments are numbers [n] and the result [1]."""
    lanes = kernel.lanes

    @T.prim_func
    def function(x: T.handle, y: T.handle):
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        count = T.int32()
        X = T.match_buffer(x, (count,), "float32", align=4)
        Y = T.match_buffer(y, (1,), "float32", align=4)
        most = T.alloc_buffer((lanes,), "float32")
        for lane in T.vectorized(lanes):
            most[lane] = T.float32(0)
        for i in T.serial(count // lanes):
            for lane in T.vectorized(lanes):
                most[lane] = T.max(most[lane], T.max(X[i * lanes + lane], -X[i * lanes + lane]))
        for i in T.serial(count % lanes):
            most[0] = T.max(
                most[0],
                T.max(X[count // lanes * lanes + i], -X[count // lanes * lanes + i]),
            )
        for lane in T.unroll(lanes - 1):
            most[0] = T.max(most[0], most[lane + 1])
        Y[0] = most[0]

    return function


def pack(kernel: Pack) -> Any:
    """The function; its arguments are activations [4 quads, n], what they become, and the scale.

    What they become is [quads, n]; the scale [1] is such that nothing rounded exceeds 127.
    """
    lanes, offset = kernel.lanes, kernel.offset

    def byte(x: Any, inverse: Any, place: int) -> Any:
        rounded = x * inverse + T.float32(offset + 0.5)
        if offset:
            # Above zero, so that conversion rounds down, and never more than a byte.
            return T.shift_left(T.Cast("int32", rounded), 8 * place)
        whole = T.bitwise_and(T.Cast("int32", T.floor(rounded)), 255)
        return T.shift_left(whole, 8 * place)

    @T.prim_func
    def function(x: T.handle, q: T.handle, scale: T.handle):
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        count = T.int32()
        channels = T.int32()
        quads = T.int32()
        X = T.match_buffer(x, (channels, count), "float32", align=4)
        Q = T.match_buffer(q, (quads, count), "int32", align=4)
        S = T.match_buffer(scale, (1,), "float32", align=4)
        inverse = T.alloc_buffer((1,), "float32")
        inverse[0] = T.float32(1) / S[0]
        for c in T.serial(quads):
            for i in T.serial(count // lanes):
                for lane in T.vectorized(lanes):
                    Q[c, i * lanes + lane] = (
                        byte(X[c * 4, i * lanes + lane], inverse[0], 0)
                        + byte(X[c * 4 + 1, i * lanes + lane], inverse[0], 1)
                        + byte(X[c * 4 + 2, i * lanes + lane], inverse[0], 2)
                        + byte(X[c * 4 + 3, i * lanes + lane], inverse[0], 3)
                    )
            for i in T.serial(count % lanes):
                Q[c, count // lanes * lanes + i] = (
                    byte(X[c * 4, count // lanes * lanes + i], inverse[0], 0)
                    + byte(X[c * 4 + 1, count // lanes * lanes + i], inverse[0], 1)
                    + byte(X[c * 4 + 2, count // lanes * lanes + i], inverse[0], 2)
                    + byte(X[c * 4 + 3, count // lanes * lanes + i], inverse[0], 3)
                )

    return function
