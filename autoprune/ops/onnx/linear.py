"""Gemm: `alpha A B + beta C`, where A and B may be transposed and C is broadcast."""

from __future__ import annotations

from autoprune.ops.contraction import Contraction, Dim, axes_rule, cost_over, zero_rule
from autoprune.ops.rule import Call, Cost, Operator, no_axes, register


def _gemm(call: Call) -> Contraction:
    a, b, c = call.tensor("a"), call.tensor("b"), call.value("c")
    left: tuple[Dim, ...] = (("m",), ("i",))
    right: tuple[Dim, ...] = (("i",), ("o",))
    output: tuple[Dim, ...] = (("m",), ("o",))
    if call.get("transA") is True:
        left = left[::-1]
    if call.get("transB") is True:
        right = right[::-1]
    return Contraction(
        operands=((a, left), (b, right)),
        output=output,
        added=() if c is None else ((c, output[2 - len(c.shape) :]),),
    )


def _gemm_cost(call: Call) -> Cost:
    rows_first = call.get("transA") is not True
    return cost_over(call, call.axes_of("a")[1:] if rows_first else call.axes_of("a")[:1])


register(
    "onnx.Gemm",
    Operator(axes=axes_rule(_gemm), zero=zero_rule(_gemm), cost=_gemm_cost, mixes=no_axes),
)
