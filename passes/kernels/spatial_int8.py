"""`Spatial` products of 8-bit integers as TVM functions.

Activations are [inputs / 4, positions], with the bytes of four inputs in an int32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tvm.script import tirx as T

from autoprune.passes.kernels.activations import ACTIVATIONS
from autoprune.passes.kernels.dot import Dot, dot_vectors, dot_written_out
from autoprune.passes.kernels.rounding import store_bytes
from autoprune.passes.kernels.templates import check_size, suffix, weights_of


@dataclass(frozen=True)
class SpatialInt8:
    """`Spatial` for 8-bit weights and activations; a block has four inputs.

    With `quantized`, the output and what is added are bytes, too, and what exceeds a byte becomes
    the nearest one: ReLU needs no other activation where zero is the least byte.

    Attributes:
        rows: outputs of a block.
        vectors: vectors of a tile; 0 for a tile of one position, without vectors.
        dot: the instruction.
        activation: name of what is applied last.
        residual: whether a tensor in the shape of the output is added before that.
        quantized: whether it makes bytes, rather than floats; blocks are of 4 outputs then.
    """

    rows: int
    vectors: int
    dot: Dot
    activation: str = ""
    residual: bool = False
    quantized: bool = False

    def __post_init__(self) -> None:
        check_size(self, self.rows * self.tile)
        if self.quantized and self.rows != 4:
            raise ValueError(f"{self} makes bytes of {self.rows} outputs, not of 4")

    @property
    def tile(self) -> int:
        """Positions of a tile."""
        return self.vectors * self.dot.lanes or 1

    @property
    def name(self) -> str:
        """Of the function."""
        kind = "quantized" if self.quantized else "spatial8"
        return f"{kind}_{self.rows}x{self.tile}{suffix(self)}"


def spatial_int8(kernel: SpatialInt8) -> Any:
    """The kernel as a TVM function.

    Its arguments are those of `Spatial`, with bytes in activations and values, and before the
    first position come numbers on activations, and scales and sums of each output's weights
    [block rows, rows]. Of floats, the first number is the scale of activations.

    With `quantized`, the numbers are the factor of what is added and, where there is an activation,
    a factor of its result and what is added to that. Scales and bias are those of the bytes that
    are made, before an activation those of numbers; one half is added, to round down.
    """
    rows, tile, dot = kernel.rows, kernel.tile, kernel.dot
    lanes = dot.lanes if kernel.vectors else 1
    vectors, offset = tile // lanes, dot.offset
    activation, residual = ACTIVATIONS[kernel.activation], kernel.residual
    in_vectors = bool(kernel.vectors and dot.intrinsic)
    kind = "int32" if kernel.quantized else "float32"

    def finish(
        sums: Any, added: Any, y: Any, row: Any, start: Any, scales: Any, bias: Any, numbers: Any
    ) -> None:
        vector = dot if in_vectors else replace(dot, lanes=lanes, packs="")
        for v in range(vectors):
            store_bytes(
                vector, kernel.activation, y, (row, start + v * lanes),
                sums, [r * tile + v * lanes for r in range(4)],
                scales, bias, row, numbers, added if residual else None,
            )  # fmt: skip

    @T.prim_func
    def product(
        x: T.handle, values: T.handle, index: T.handle, offsets: T.handle, bias: T.handle,
        added: T.handle, y: T.handle, numbers: T.handle, scales: T.handle, sums: T.handle,
        start: T.int32, tiles: T.int32, first: T.int32, last: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        extent = T.int32()
        positions = T.int32()
        outputs = T.int32()
        many = T.int32()
        X = T.match_buffer(x, (extent,), "int32", align=4)
        R = T.match_buffer(added, (outputs, positions), kind, align=4)
        Y = T.match_buffer(y, (outputs, positions), kind, align=4)
        N = T.match_buffer(numbers, (many,), "float32", align=4)
        V, I, P, B, S, Z = weights_of(  # noqa: E741
            rows, values, index, offsets, bias, scales, sums
        )
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
                                acc[T.ramp(r * tile + v * lanes, 1, lanes)] = dot_vectors(
                                    dot,
                                    acc[T.ramp(r * tile + v * lanes, 1, lanes)],
                                    X[
                                        T.ramp(
                                            I[P[first + o] + b] + start + t * tile + v * lanes,
                                            1,
                                            lanes,
                                        )
                                    ],
                                    T.broadcast(V[P[first + o] + b, r], lanes),
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
                if kernel.quantized:
                    finish(acc, R, Y, first + o, start + t * tile, S, B, N)
                else:
                    for r in T.unroll(rows):
                        for v in T.unroll(vectors):
                            for lane in T.vectorized(lanes):
                                Y[(first + o) * rows + r, start + t * tile + v * lanes + lane] = (
                                    activation(
                                        T.Cast("float32", acc[r * tile + v * lanes + lane])
                                        * (S[first + o, r] * N[0])
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
