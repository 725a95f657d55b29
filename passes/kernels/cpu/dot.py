"""Dot products of 8-bit integers, by an instruction and written out."""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from autoprune.passes.kernels.target import Dot


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
