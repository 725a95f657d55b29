"""Gemm and MatMul with transposed operands, alone or fused with what follows them.

Gemm         alpha A B + beta C, where A and B may be transposed and C is broadcast
FusedMatMul  alpha A B, where the last two dimensions may be transposed, or the batch moved
FusedGemm, FusedConv   with an activation at the end, the latter with a further summand
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from autoprune.ir.contraction import Contraction
from autoprune.ops.convolution import describe as describe_convolution
from autoprune.ops.convolution import resize_groups
from autoprune.ops.letters import Describe, contracting, in_letters, scaled
from autoprune.ops.linear import matrix_product
from autoprune.ops.rule import Operator, register
from autoprune.ops.views import Call, State, Zeroing


def describe_gemm(call: Call, first: str, second: str, third: str) -> Contraction:
    """The letters of a Gemm whose operands have these names."""
    a, b, c = call.tensor(first), call.tensor(second), call.value(third)
    left = "i m" if call.get("transA") is True else "m i"
    right = "o i" if call.get("transB") is True else "i o"
    found = in_letters(f"{left}, {right} -> m o", a, b, plus=c)
    return scaled(found, call, "product_scale", "added_scale")


def _gemm(call: Call) -> Contraction:
    return describe_gemm(call, "a", "b", "c")


def _fused_matmul(call: Call) -> Contraction:
    """With the batch moved, an operand is `m ... i` or `i ... o` instead of `... m i`."""
    a, b = call.tensor("input"), call.tensor("other")
    plain = matrix_product(a, b)
    operands = []
    for (value, dims), name in zip(plain.operands, ("A", "B"), strict=True):
        if len(dims) > 1:
            *batch, rows, columns = dims
            if call.get(f"trans{name}") is True:
                rows, columns = columns, rows
            moved = call.get(f"transBatch{name}") is True
            dims = (rows, *batch, columns) if moved else (*batch, rows, columns)
        operands.append((value, dims))
    return scaled(replace(plain, operands=tuple(operands)), call, "product_scale")


def _fused_convolution(call: Call) -> Contraction:
    found = replace(describe_convolution(call), folds=None)
    summand = call.value("summand")
    if summand is None:
        return found
    return replace(found, added=(*found.added, (summand, found.output)))


def _with_activation(describe: Describe) -> Describe:
    def contraction(call: Call) -> Contraction:
        activation = call.get("activation", "")
        return replace(describe(call), also=f"{activation} follows" if activation else "")

    return contraction


_KEEP_ZERO = {"", "Relu", "LeakyRelu", "Tanh", "HardSwish", "Elu", "Selu", "Gelu", "QuickGelu"}
"""Activations that make zero of zero."""


def _activated(describe: Describe, **answers: Any) -> Operator:
    """A product with an activation behind it."""
    operator = contracting(describe, product=_with_activation(describe), **answers)

    def activated(call: Zeroing) -> State:
        state = operator.zero(call)
        return state if call.get("activation", "") in _KEEP_ZERO else max(state, State.CONSTANT)

    return replace(operator, zero=activated)


register("onnx.Gemm", contracting(_gemm))
register("microsoft.FusedGemm", _activated(_gemm))
register("microsoft.FusedMatMul microsoft.TransposeMatMul", contracting(_fused_matmul))
register("microsoft.FusedConv", _activated(_fused_convolution, resize=resize_groups))
