"""Scaled dot-product attention: `n h l d, n h s d, n h s e -> n h l e`."""

from __future__ import annotations

from collections.abc import Mapping

from autoprune.ir import axes as ax
from autoprune.ir.axes import Axis
from autoprune.ir.contraction import Contraction
from autoprune.ir.group import Guarantee
from autoprune.ops.elementwise import broadcast, drawn
from autoprune.ops.pinning import fixed_shape
from autoprune.ops.rule import Cost, Operator, Terms, register
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Typing, Zeroing


def _heads(call: Typing, query: Shape, other: Shape) -> tuple[Axis, ...]:
    """Leading axes of the output; with `enable_gqa` query heads are kv heads x queries each."""
    if call.get("enable_gqa") is True and query[-3].size != other[-3].size:
        shared = other[-3]
        repeats = call.axes.leaf(query[-3].size // shared.size)
        call.same(query[-3], ax.prod(shared, repeats))
        return (*broadcast(call, [query[:-3], other[:-3]]), call.axes.resolve(query[-3]))
    return broadcast(call, [query[:-2], other[:-2]])


def _axes(call: Typing) -> list[Shape]:
    query, key, value = (call.axes_of(n) for n in ("query", "key", "value"))
    call.same(query[-1], key[-1])
    call.same(key[-2], value[-2])
    if "flash" in call.node.op:
        call.same(query[-1], value[-1])
    call.pin(key[-2], "softmax over it")
    broadcast(call, [key[:-2], value[:-2]])
    batch = _heads(call, query, key)
    mask = call.value("attn_mask") or call.value("attn_bias")
    if mask is not None:
        broadcast(call, [(*batch, query[-2], key[-2]), call.axes_of(mask)])
    return [(*batch, query[-2], value[-1]), *_further(call, (*batch, query[-2]))]


def _further(call: Typing, rows: Shape) -> list[Shape]:
    """Sums of the softmax and states of chance, which variants of the operator return as well."""
    sizes = tuple(axis.size for axis in rows)
    return [
        rows if v.shape == sizes else fixed_shape(call, v.shape, "made for the backward pass")
        for v in call.node.outputs[1:]
    ]


def _zero(call: Zeroing) -> State:
    query, key, value = (call.tensor(n) for n in ("query", "key", "value"))
    if call.get("dropout_p", 0.0) != 0.0:
        drawn(call)
    if call.carries(query, -1) and call.get("scale") is None:
        call.report(Guarantee.COMPENSATED, "attention scale 1/sqrt(width) is kept")
    if call.carries(query, -1) or call.carries(key, -1):
        call.summed([v for v in (query, key) if call.carries(v, -1)])
    return call.state(value) if call.carries(value) else State.ANY


def _scores(call: Call) -> Contraction:
    """`l d, s d -> l s` for each head."""
    operands = []
    for name, rows in (("query", "l"), ("key", "s")):
        value = call.tensor(name)
        batch = tuple((f"{name}{i}",) for i in range(len(value.shape) - 2))
        operands.append((value, (*batch, (rows,), ("d",))))
    return Contraction(tuple(operands), (*operands[0][1][:-1], ("s",)))


def _terms(call: Call) -> Terms:
    return ({call.tensor("value"): 1.0},)


def _implied(call: Call) -> Mapping[str, float]:
    return {"scale": call.tensor("query").shape[-1] ** -0.5}


def _cost(call: Call) -> Cost:
    query, value = call.axes_of("query"), call.axes_of("value")
    scores = (*query[:-1], value[-2])
    return ((2, (*scores, query[-1])), (2, (*scores, value[-1])))


def _resize(call: Sizing) -> Resized:
    width = call.axes_of("query")[-1]
    if call.get("scale") is not None or call.size(width) == width.size:
        return Resized()
    return Resized({"scale": width.size**-0.5})


register(
    "aten.scaled_dot_product_attention aten._scaled_dot_product_attention_math "
    "aten._scaled_dot_product_flash_attention_for_cpu",
    Operator(
        axes=_axes,
        zero=_zero,
        cost=_cost,
        resize=_resize,
        homogeneous=_terms,
        implied=_implied,
        inner=_scores,
    ),
)
