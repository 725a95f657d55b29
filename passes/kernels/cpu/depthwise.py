"""Depthwise convolutions beside sparse ones.

A tile is some rows of the output by one vector. Rows share what they load: of three rows of taps,
two are those of the row before. Sizes are symbolic; taps, strides and dilations are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from tvm.script import tirx as T

from autoprune.passes.kernels.activations import ACTIVATIONS, check_activation
from autoprune.passes.kernels.geometry import Geometry
from autoprune.passes.kernels.kernel import Candidate, Kernel, Lowered, Product, Steps
from autoprune.passes.kernels.registry import define
from autoprune.passes.kernels.target import Target
from autoprune.passes.sparsify.layout import Array


@define
@dataclass(frozen=True)
class Depthwise(Kernel):
    """Every channel by itself, of floats; also after a convolution, in the same operator."""

    name = "depthwise"
    operator = "DepthwiseConv"
    slot = "depthwise"
    padded = True
    rows = 1

    geometry: Geometry
    activation: str = ""

    @classmethod
    def matches(cls, product: Product, positions: int | None = None) -> Iterator[Candidate]:
        """Those whose padding can be between rows."""
        if product.depthwise and product.geometry.gap is not None:
            yield Candidate(cls(product.geometry.unpadded, product.activation))

    def encode(self, product: Product, steps: Steps) -> dict[str, Array]:
        taps = np.ascontiguousarray(product.weight)
        return {"taps": taps, "shift": product.bias.astype(np.float32)}

    def lower(self, target: Target) -> Lowered:
        """Tiles of several rows by one vector, of shorter vectors, and of one position."""
        height = target.registers // 8
        lanes = (count for count in (16, 8, 4) if count <= target.lanes)
        shapes = [*((count, height) for count in lanes), (1, 1)]
        geometry = self.geometry.unpadded
        tiles = (DepthwiseTile(geometry, n, rows, self.activation) for n, rows in shapes)
        return Lowered(1, tuple(tiles))


@dataclass(frozen=True)
class DepthwiseTile:
    """Y[c, h, w] = sum over taps of W[c, tap] X[c, where the tap begins + h * pitch + w].

    Attributes:
        geometry: taps, strides and dilations; padding is up to the caller.
        lanes: elements of a vector.
        height: rows of a tile.
        activation: name of what is applied last.
    """

    kind: ClassVar[str] = "depthwise"

    geometry: Geometry
    lanes: int
    height: int
    activation: str = ""

    def __post_init__(self) -> None:
        check_activation(self.activation)

    @property
    def tile(self) -> int:
        """Columns of a tile."""
        return self.lanes

    @property
    def name(self) -> str:
        """Of the function."""
        g = self.geometry
        sizes = "_".join(f"{h}x{w}" for h, w in (g.kernel, g.stride, g.dilation))
        return f"{self.kind}_{sizes}_{self.height}x{self.lanes}_{self.activation}"

    def primitive(self) -> Any:
        return _depthwise(self)


def _depthwise(kernel: DepthwiseTile) -> Any:
    """The kernel as a TVM function.

    Its arguments are activations (flat), taps [channels, taps], bias [channels], the output
    [channels, positions], elements from one channel to the next, from one phase (every stride-th
    row and column) to the next, and from one row to the next, and the rows of the output. There
    are as many as the tile has, and a row takes a vector at least.
    """
    lanes, height, activation = kernel.lanes, kernel.height, ACTIVATIONS[kernel.activation]
    (kh, kw), (sh, sw), (dh, dw) = (
        kernel.geometry.kernel, kernel.geometry.stride, kernel.geometry.dilation,
    )  # fmt: skip

    @T.prim_func
    def convolution(
        x: T.handle, taps: T.handle, bias: T.handle, y: T.handle,
        plane: T.int32, phase: T.int32, pitch: T.int32, rows: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        extent = T.int32()
        channels = T.int32()
        positions = T.int32()
        X = T.match_buffer(x, (extent,), "float32", align=4)
        W = T.match_buffer(taps, (channels, kh * kw), "float32", align=4)
        B = T.match_buffer(bias, (channels,), "float32", align=4)
        Y = T.match_buffer(y, (channels, positions), "float32", align=4)
        for c in T.serial(channels):
            for i in T.serial((rows + (height - 1)) // height):
                for j in T.serial((pitch + (lanes - 1)) // lanes):
                    acc = T.alloc_buffer((height * lanes,), "float32")
                    for r in T.unroll(height):
                        for lane in T.vectorized(lanes):
                            acc[r * lanes + lane] = B[c]
                    row = T.meta_var(T.min(i * height, rows - height))
                    column = T.meta_var(T.min(j * lanes, pitch - lanes))
                    for a in T.unroll(kh):
                        for b in T.unroll(kw):
                            for r in T.unroll(height):
                                for lane in T.vectorized(lanes):
                                    acc[r * lanes + lane] += (
                                        W[c, a * kw + b]
                                        * X[
                                            c * plane
                                            + (a * dh % sh * sw + b * dw % sw) * phase
                                            + (row + r + a * dh // sh) * pitch
                                            + column
                                            + b * dw // sw
                                            + lane
                                        ]
                                    )
                    for r in T.unroll(height):
                        for lane in T.vectorized(lanes):
                            Y[c, (row + r) * pitch + column + lane] = activation(
                                acc[r * lanes + lane]
                            )

    return convolution
