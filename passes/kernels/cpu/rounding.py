"""Between floats and bytes: TVM functions, and what products do with their results.

Four channels share an int32. A byte without a sign stands for (byte - zero) * step; where the
instruction wants signs, all bytes in memory have their highest bit flipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from autoprune.passes.kernels.activations import ACTIVATIONS
from autoprune.passes.kernels.geometry import TOGETHER
from autoprune.passes.kernels.kernel import Lowered, Tile
from autoprune.passes.kernels.target import Dot, Target

FLIPPED = -0x7F7F7F80
"""The highest bits of four bytes, as an int32."""


@dataclass(frozen=True)
class Rounding:
    """A function between floats and bytes.

    Attributes:
        kind: `largest` for the largest absolute value; `pack` rounds four inputs to the bytes of an
            int32, and `unpack` makes floats of them; `quantize` rounds every row by a scale of its
            own.
        lanes: float32 numbers of a vector.
        offset: of the instruction that reads the bytes.
    """

    kind: str
    lanes: int
    offset: int = 0

    @property
    def name(self) -> str:
        """Of the function."""
        offset = "" if self.kind == "largest" else f"_{self.offset}"
        return f"{self.kind}_{self.lanes}{offset}"

    def primitive(self) -> Any:
        return _WRITTEN[self.kind](self)


def lowered_bytes(target: Target, tiles: Iterable[Tile]) -> Lowered:
    """A kernel that reads and makes bytes, of four outputs together."""
    offset = target.need_dot().offset
    pack, unpack = (Rounding(kind, target.lanes, offset) for kind in ("pack", "unpack"))
    return Lowered(TOGETHER, tuple(tiles), pack, unpack=unpack, offset=offset)


def absolute(x: Any) -> Any:
    """Without its sign."""
    return T.max(x, -x)


def _largest(kernel: Rounding) -> Any:
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
                most[lane] = T.max(most[lane], absolute(X[i * lanes + lane]))
        for i in T.serial(count % lanes):
            most[0] = T.max(most[0], absolute(X[count // lanes * lanes + i]))
        for lane in T.unroll(lanes - 1):
            most[0] = T.max(most[0], most[lane + 1])
        Y[0] = most[0]

    return function


def store_bytes(
    dot: Dot,
    activation: str,
    y: Any,
    place: tuple[Any, ...],
    sums: Any,
    firsts: Sequence[int],
    scales: Any,
    bias: Any,
    row: Any,
    numbers: Any,
    added: Any = None,
) -> None:
    """Let a function store a vector of bytes of the four outputs of a block row.

    Args:
        dot: lanes of the vector, and how bytes are stored.
        activation: name of what is applied last.
        y: what is stored to.
        place: the first of the elements.
        sums: of products.
        firsts: where those of each output begin.
        scales: of the outputs [block rows, 4].
        bias: of the outputs [block rows, 4].
        row: of the block.
        numbers: as `_spatial_int8` takes them.
        added: what is added, in the shape of y.
    """
    *before, column = place
    if dot.packs:
        lanes = dot.lanes
        at = [*before, T.ramp(column, 1, lanes)]
        made = [
            T.Cast(f"float32x{lanes}", sums[T.ramp(first, 1, lanes)])
            * T.broadcast(scales[row, r], lanes)
            + T.broadcast(bias[row, r], lanes)
            for r, first in enumerate(firsts)
        ]
        if added is not None:
            made = _with_added(made, added[tuple(at)], numbers, dot.offset, lanes)
        joined = packed_bytes(activated(made, activation, numbers, lanes), dot)
        # Of 16 bytes, four of every vector have come together; they go to lanes of their own.
        places = [16 * (i // 16) + 4 * (i % 4) + i % 16 // 4 for i in range(4 * lanes)]
        T.buffer_store(y, T.reinterpret(f"int32x{lanes}", tirx.Shuffle([joined], places)), at)
        return
    with T.vectorized(dot.lanes) as lane:
        at = [*before, column + lane]
        made = [
            T.Cast("float32", sums[first + lane]) * scales[row, r] + bias[row, r]
            for r, first in enumerate(firsts)
        ]
        if added is not None:
            made = _with_added(made, added[tuple(at)], numbers, dot.offset, 1)
        T.buffer_store(y, bytes_of(activated(made, activation, numbers, 1), dot.offset), at)


def _with_added(made: list[Any], added: Any, numbers: Any, offset: int, lanes: int) -> list[Any]:
    factor = _spread(numbers[0], lanes)
    return [m + byte_of(added, r, offset, lanes) * factor for r, m in enumerate(made)]


def activated(made: list[Any], activation: str, numbers: Any, lanes: int) -> list[Any]:
    """Numbers of bytes, of what comes before the activation; without one, it is the same."""
    if not activation:
        return made
    factor, shift = _spread(numbers[1], lanes), _spread(numbers[2], lanes)
    return [ACTIVATIONS[activation](m) * factor + shift for m in made]


def _spread(number: Any, lanes: int) -> Any:
    return T.broadcast(number, lanes) if lanes > 1 else number


def _vector(kind: str, lanes: int) -> str:
    return f"{kind}x{lanes}" if lanes > 1 else kind


def byte_of(quadruple: Any, place: int, offset: int, lanes: int = 1) -> Any:
    """One of the four bytes as a float, or as a vector of such."""
    whole = quadruple if offset else T.bitwise_xor(quadruple, FLIPPED)
    byte = T.bitwise_and(T.shift_right(whole, 8 * place), 255)
    return T.Cast(_vector("float32", lanes), byte)


def bytes_of(numbers: list[Any], offset: int) -> Any:
    """Four floats rounded down to bytes, those that are none to the nearest."""
    whole = [T.Cast("int32", T.max(T.min(n, T.float32(255)), T.float32(0))) for n in numbers]
    first, second, third = (T.shift_left(w, 8 * place) for place, w in enumerate(whole[:3]))
    # A shift into the sign is not defined in C.
    fourth = T.Cast("int32", T.Cast("int8", whole[3])) * (1 << 24)
    joined = T.bitwise_or(T.bitwise_or(first, second), T.bitwise_or(third, fourth))
    return joined if offset else T.bitwise_xor(joined, FLIPPED)


def packed_bytes(numbers: list[Any], dot: Dot) -> Any:
    """Bytes of four vectors, rounded down; those that are none become the nearest.

    Of every 16 bytes, four are of the same vector.
    """
    bits, words = 32 * dot.lanes, f"llvm.x86.{dot.packs}.packssdw"
    whole = [T.Cast(f"int32x{dot.lanes}", number) for number in numbers]
    pairs = [
        T.call_llvm_pure_intrin(f"int16x{2 * dot.lanes}", f"{words}.{bits}", *whole[i : i + 2])
        for i in (0, 2)
    ]
    name = f"llvm.x86.{dot.packs}.packuswb.{bits}"
    return T.call_llvm_pure_intrin(f"int8x{4 * dot.lanes}", name, *pairs)


def _pack(kernel: Rounding) -> Any:
    """The function; its arguments are activations [channels, n], what they become, and numbers.

    What they become is [channels / 4 rounded up, n], where the last channel fills the bytes that no
    channel is left for; the numbers are the step and what is zero.
    """
    lanes, offset = kernel.lanes, kernel.offset

    def packed(x: Any, channels: Any, c: Any, i: Any, inverse: Any, numbers: Any) -> Any:
        return bytes_of(
            [
                x[T.min(c * 4 + r, channels - 1), i] * inverse[0] + (numbers[1] + T.float32(0.5))
                for r in range(4)
            ],
            offset,
        )

    @T.prim_func
    def function(x: T.handle, q: T.handle, numbers: T.handle):
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        count = T.int32()
        channels = T.int32()
        quads = T.int32()
        X = T.match_buffer(x, (channels, count), "float32", align=4)
        Q = T.match_buffer(q, (quads, count), "int32", align=4)
        N = T.match_buffer(numbers, (2,), "float32", align=4)
        inverse = T.alloc_buffer((1,), "float32")
        inverse[0] = T.float32(1) / N[0]
        for c in T.serial(quads):
            for i in T.serial(count // lanes):
                for lane in T.vectorized(lanes):
                    at = T.meta_var(i * lanes + lane)
                    Q[c, at] = packed(X, channels, c, at, inverse, N)
            for i in T.serial(count % lanes):
                last = T.meta_var(count // lanes * lanes + i)
                Q[c, last] = packed(X, channels, c, last, inverse, N)

    return function


def _unpack(kernel: Rounding) -> Any:
    """The function; its arguments are those of `_pack`."""
    lanes, offset = kernel.lanes, kernel.offset

    @T.prim_func
    def function(x: T.handle, q: T.handle, numbers: T.handle):
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        count = T.int32()
        channels = T.int32()
        quads = T.int32()
        X = T.match_buffer(x, (channels, count), "float32", align=4)
        Q = T.match_buffer(q, (quads, count), "int32", align=4)
        N = T.match_buffer(numbers, (2,), "float32", align=4)
        for c in T.serial(quads):
            for i in T.serial(count // lanes):
                for r in T.unroll(4):
                    for lane in T.vectorized(lanes):
                        at = T.meta_var(i * lanes + lane)
                        X[c * 4 + r, at] = (byte_of(Q[c, at], r, offset) - N[1]) * N[0]
            for i in T.serial(count % lanes):
                for r in T.unroll(4):
                    last = T.meta_var(count // lanes * lanes + i)
                    X[c * 4 + r, last] = (byte_of(Q[c, last], r, offset) - N[1]) * N[0]

    return function


def _quantize(kernel: Rounding) -> Any:
    """The function; it takes activations [positions, inputs], and the bytes and scales to make."""
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
                    most[lane] = T.max(most[lane], absolute(X[m, k * lanes + lane]))
            for lane in T.unroll(lanes - 1):
                most[0] = T.max(most[0], most[lane + 1])
            S[m] = most[0] * T.float32(1 / 127)
            for k in T.serial(inputs // lanes):
                for lane in T.vectorized(lanes):
                    at = T.meta_var(k * lanes + lane)
                    whole = T.meta_var(
                        T.floor(X[m, at] * (T.float32(127) / most[0]) + T.float32(offset + 0.5))
                    )
                    Q[m, at] = T.Cast("uint8", T.Cast("int32", whole))

    return quantize


_WRITTEN = {"largest": _largest, "pack": _pack, "unpack": _unpack, "quantize": _quantize}
