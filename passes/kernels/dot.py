"""Instructions for dot products of 8-bit integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T


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


def dot_vectors(dot: Dot, sums: Any, x: Any, values: Any) -> Any:
    """The sums plus products of the bytes of every lane of `x` and of `values`."""
    bytes_ = f"int8x{4 * dot.lanes}"
    return T.call_llvm_pure_intrin(
        f"int32x{dot.lanes}", dot.intrinsic, sums,
        T.reinterpret(bytes_, x), T.reinterpret(bytes_, values),
    )  # fmt: skip


def dot_written_out(dot: Dot, x: Any, value: Any) -> Any:
    """The same for one lane, without the instruction and without the sum."""
    kind = "uint8" if dot.offset else "int8"

    def byte(whole: Any, kind: str, place: int) -> Any:
        return T.Cast("int32", T.Cast(kind, T.shift_right(whole, 8 * place)))

    first, *rest = (byte(x, kind, place) * byte(value, "int8", place) for place in range(4))
    return sum(rest, first)
