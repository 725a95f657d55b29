"""Linear layers, matrix products and einsum."""

from __future__ import annotations

import re

from autoprune.ir.contraction import Contraction
from autoprune.ir.graph import Value
from autoprune.ops.letters import contracting, in_letters, scaled
from autoprune.ops.rule import register
from autoprune.ops.views import Call


def _linear(call: Call) -> Contraction:
    x, weight, bias = call.tensor("input"), call.tensor("weight"), call.value("bias")
    out = "o" if len(weight.shape) == 2 else ""
    return in_letters(f"... i, {out} i -> ... {out}", x, weight, plus=bias, folds=bias)


def matrix_product(a: Value, b: Value, added: Value | None = None) -> Contraction:
    """The letters of a product of vectors, matrices or batches of them, as of `matmul`."""
    left, rows = ("i", "") if len(a.shape) == 1 else ("... m i", "m")
    right, columns = ("i", "") if len(b.shape) == 1 else ("... i o", "o")
    return in_letters(f"{left}, {right} -> ... {rows} {columns}", a, b, plus=added)


def _matmul(call: Call) -> Contraction:
    second = next(n for n in ("other", "mat2", "vec", "tensor") if n in call.node.arguments)
    return matrix_product(call.tensor("input"), call.tensor(second))


def _addmm(call: Call) -> Contraction:
    a, b = (
        ("batch1", "batch2")
        if "batch1" in call.node.arguments
        else ("mat1", "mat2")
        if "mat1" in call.node.arguments
        else ("mat", "vec")
    )
    found = matrix_product(call.tensor(a), call.tensor(b), call.tensor("input"))
    return scaled(found, call, "alpha", "beta")


def _einsum(call: Call) -> Contraction:
    equation = str(call.get("equation")).replace(" ", "")
    left, arrow, right = equation.partition("->")
    if not arrow:
        once = sorted(c for c in set(left) - {",", "."} if left.count(c) == 1)
        right = ("..." if "..." in left else "") + "".join(once)
    return in_letters(re.sub(r"\.\.\.|\w", r"\g<0> ", f"{left}->{right}"), *call.tensors)


register("aten.linear", contracting(_linear))
register("aten.matmul aten.mm aten.bmm aten.mv aten.dot aten.linalg_matmul", contracting(_matmul))
register("aten.addmm aten.baddbmm aten.addmv", contracting(_addmm))
register("aten.einsum", contracting(_einsum))
