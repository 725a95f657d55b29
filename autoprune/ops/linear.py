"""Linear layers, matrix products and einsum."""

from __future__ import annotations

from autoprune.ir.contraction import Contraction, Dim
from autoprune.ir.graph import Value
from autoprune.ops.letters import contracting, letters, scaled
from autoprune.ops.rule import register
from autoprune.ops.views import Call


def _batch(count: int) -> tuple[Dim, ...]:
    """Letters of leading dimensions, counted from the last so that they align when broadcast."""
    return tuple((f"n{i}",) for i in range(count, 0, -1))


def _linear(call: Call) -> Contraction:
    x, weight, bias = call.tensor("input"), call.tensor("weight"), call.value("bias")
    batch = _batch(len(x.shape) - 1)
    out = letters("o") if len(weight.shape) == 2 else ()
    return Contraction(
        operands=((x, (*batch, ("i",))), (weight, (*out, ("i",)))),
        output=(*batch, *out),
        added=((bias, out),) if bias is not None else (),
        folds=bias,
    )


def matrix_product(a: Value, b: Value, added: Value | None = None) -> Contraction:
    """The letters of a product of vectors, matrices or batches of them, as of `matmul`."""
    left = letters("i") if len(a.shape) == 1 else (*_batch(len(a.shape) - 2), *letters("m i"))
    right = letters("i") if len(b.shape) == 1 else (*_batch(len(b.shape) - 2), *letters("i o"))
    rows = () if len(a.shape) == 1 else letters("m")
    columns = () if len(b.shape) == 1 else letters("o")
    rank = max(len(a.shape), len(b.shape), 2) - 2
    output = (*_batch(rank), *rows, *columns)
    return Contraction(
        operands=((a, left), (b, right)),
        output=output,
        added=() if added is None else ((added, output[len(output) - len(added.shape) :]),),
    )


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
    terms = left.split(",")
    if not arrow:
        once = sorted(c for c in set(left) - {",", "."} if left.count(c) == 1)
        right = ("..." if "..." in left else "") + "".join(once)
    tensors = call.tensors
    ranks = [
        len(v.shape) - len(term.replace("...", "")) if "..." in term else 0
        for term, v in zip(terms, tensors, strict=True)
    ]

    def dims(term: str, stretched: int) -> tuple[Dim, ...]:
        before, dots, after = term.partition("...")
        batch = _batch(stretched) if dots else ()
        return (*((c,) for c in before), *batch, *((c,) for c in after))

    operands = tuple(
        (v, dims(term, rank)) for term, v, rank in zip(terms, tensors, ranks, strict=True)
    )
    return Contraction(operands=operands, output=dims(right, max(ranks)))


register("aten.linear", contracting(_linear))
register("aten.matmul aten.mm aten.bmm aten.mv aten.dot aten.linalg_matmul", contracting(_matmul))
register("aten.addmm aten.baddbmm aten.addmv", contracting(_addmm))
register("aten.einsum", contracting(_einsum))
