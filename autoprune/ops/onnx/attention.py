"""Attention in one operator: ONNX's own, and those that ONNX Runtime's optimizer makes.

All of them are the same attention, with queries, keys and values in different layouts:

    n h l d, n k s d, n k s e -> n h l e       h is k, or k times the queries that share a key
    n l (h d), n s (k d), n s (k e) -> n l (h e)
    n k s d                        keys and values that were computed before

`microsoft.Attention` projects first: `n l i, i (h d + h d + h e)`.
"""

from __future__ import annotations

from dataclasses import dataclass

from autoprune.ir import axes as ax
from autoprune.ir.axes import ONE, Axis
from autoprune.ir.graph import Value
from autoprune.ir.group import Guarantee
from autoprune.ops.pinning import pin_tensors
from autoprune.ops.rule import Cost, Operator, register
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Typing, Zeroing

_POSITION = "attention looks at positions of it"


@dataclass(frozen=True)
class _Projected:
    """Where queries, keys or values stand: a tensor, and which of its dimensions holds channels.

    Attributes:
        value: the tensor.
        heads: how many heads it has.
        place: of this one among queries, keys and values.
        pieces: sizes of all three, where the last axis holds one after the other.
    """

    value: Value
    heads: int
    place: int = 0
    pieces: tuple[int, ...] = ()

    def axes(self, call: Typing) -> Shape:
        """Axes of batch, heads, length and width."""
        shape = call.axes_of(self.value)
        if len(shape) == 4:
            return shape
        channels = shape[-1]
        if self.pieces:
            channels = call.axes.pieces(channels, self.pieces)[self.place]
        heads, width = call.axes.factor(channels, (self.heads, channels.size // self.heads))
        batch, length = (ONE, *shape[:-1])[-2:]
        return batch, heads, length, width

    def parts(self, call: Call) -> tuple[Axis, Axis]:
        """Axes of heads and width, once axes are solved.

        Raises:
            ValueError: if they cannot be told apart, in a pinned mixture.
        """
        shape = call.axes_of(self.value)
        if len(shape) == 4:
            return shape[1], shape[3]
        channels = shape[-1]
        if self.pieces:
            start = sum(self.pieces[: self.place])
            _, rest = ax.split_at(channels, start)
            channels, _ = ax.split_at(rest, self.pieces[self.place])
        return ax.outer_and_inner(channels, channels.size // self.heads)


_Sources = tuple[_Projected, _Projected, _Projected]


def _sources(call: Call) -> _Sources:
    """Queries, keys and values."""
    query, key, value = (call.value(n) for n in ("query", "key", "value"))
    weight = call.value("weight")
    heads = call.integer("heads", 0)
    if weight is not None:
        sizes = call.integers("sizes") or (weight.shape[1] // 3,) * 3
        return _packed(weight, (heads, heads, heads), sizes)
    assert query is not None
    heads = heads or query.shape[1]
    shared = call.integer("kv_heads", 0)
    if key is None or value is None:
        width = query.shape[-1] // (heads + 2 * shared)
        sizes = (heads * width, shared * width, shared * width)
        return _packed(query, (heads, shared, shared), sizes)
    shared = shared or (key.shape[1] if len(key.shape) == 4 else heads)
    return _Projected(query, heads), _Projected(key, shared), _Projected(value, shared)


def _packed(value: Value, heads: tuple[int, int, int], sizes: tuple[int, ...]) -> _Sources:
    query, key, values = (_Projected(value, h, i, sizes) for i, h in enumerate(heads))
    return query, key, values


def _axes(call: Typing) -> list[Shape]:
    query, key, value = _sources(call)
    if call.value("weight") is not None:
        call.same(call.axes_of("query")[-1], call.axes_of("weight")[0])
    _add_bias(call, (query, key, value))
    (batch, heads, rows, width), (n, shared, length, d), (m, k, positions, out) = (
        p.axes(call) for p in (query, key, value)
    )
    if call.value("weight") is not None:
        batch, rows = call.axes_of("query")[:2]
        length = positions = rows
        n = m = batch
    for a, b in ((batch, n), (batch, m), (shared, k), (length, positions), (width, d)):
        call.same(a, b)
    if _by_head(call):
        call.same(width, out)
    call.pin(length, "softmax over it")
    if call.get("causal") is True:
        call.pin(rows, _POSITION)
    if call.node.op == "microsoft.GroupQueryAttention" or call.get("rotary") is True:
        for axis in (width, out):
            call.pin(axis, "rotated in pairs, or a multiple of eight")
    if heads.size == shared.size:
        call.same(heads, shared)
    else:
        repeats = call.axes.leaf(heads.size // shared.size)
        call.same(heads, ax.prod(shared, repeats))
    made = tuple(map(call.axes.resolve, (batch, heads, rows, value.axes(call)[-1])))
    _pin_masks(call, (*made[:3], length))
    return _outputs(call, made, call.axes.resolve(shared), call.axes.resolve(width))


def _by_head(call: Call) -> bool:
    """Whether ONNX Runtime is given keys by head, which then are as wide as values."""
    key = call.value("key")
    return "microsoft" in call.node.op and key is not None and len(key.shape) == 4


def _add_bias(call: Typing, sources: _Sources) -> None:
    """A bias of all three, one after the other."""
    bias = call.value("bias")
    if bias is None:
        return
    if call.value("weight") is not None:
        call.same(call.axes_of(bias)[0], call.axes_of("weight")[1])
        return
    for axis in call.axes_of(bias):
        widths = tuple(s.heads * s.axes(call)[-1].size for s in sources)
        parts = call.axes.pieces(axis, widths)
        for source, part in zip(sources, parts, strict=True):
            _, heads, _, width = source.axes(call)
            call.same(part, ax.prod(heads, width))


def _pin_masks(call: Typing, scores: Shape) -> None:
    """Masks are aligned with the scores from the right; what else is read keeps its size."""
    for name in ("mask", "bias_of_scores"):
        value = call.value(name)
        if value is None:
            continue
        shape = call.axes_of(value)
        for axis, score in zip(reversed(shape), reversed(scores), strict=False):
            if axis.size == score.size:
                call.same(axis, score)
            else:
                call.pin(axis, _POSITION)
    sink = call.value("sink")
    if sink is not None:
        call.same(call.axes_of(sink)[0], scores[1])
    read = ("padding", "lengths", "cos", "sin", "positions", "rest")
    pin_tensors(call, _POSITION, *read)
    if any(call.value(name) is not None for name in read):
        call.pin(scores[0], _POSITION)


def _outputs(call: Typing, made: Shape, shared: Axis, width: Axis) -> list[Shape]:
    """The result in the layout of the queries, keys and values for the next call, scores."""
    batch, heads, rows, out = made
    past = [call.value(n) for n in ("past_key", "past_value")]
    for value, last in zip(past, (width, out), strict=True):
        if value is not None:
            shape = call.axes_of(value)
            call.pin(shape[-2], _POSITION)
            call.align((*shape[:-2], shape[-1]), (batch, shared, last))
    shapes: list[Shape] = []
    for value, position in zip(call.node.outputs, call.integers("outputs"), strict=True):
        if position == 0:
            flat = (batch, rows, ax.prod(heads, out))
            shapes.append(made if len(value.shape) == 4 else flat)
        elif position in (1, 2) and len(value.shape) == 4:
            length = call.fixed(value.shape[2], _POSITION)
            shapes.append((batch, shared, length, width if position == 1 else out))
        else:
            for axis in (*made, width):
                call.pin(axis, "attention scores, or keys and values, are an output")
            shapes.append(tuple(call.fixed(n, _POSITION) for n in value.shape))
    return shapes


def _zero(call: Zeroing) -> State:
    try:
        (_, width), (_, _), (shared, out) = (s.parts(call) for s in _sources(call))
    except ValueError:  # a pinned mixture, in which this leaf is not prunable
        return State.ANY
    query, key, value = (_state(call, i) for i in range(3))
    if call.value("weight") is not None and call.carries(call.tensor("query"), -1):
        call.summed([call.tensor("query"), call.tensor("weight")])
    if call.within(width):
        if call.get("scale") is None:
            call.report(Guarantee.COMPENSATED, "attention scale 1/sqrt(width) is kept")
        _summed(call, (query, key))
    return value if call.within(shared) or call.within(out) else State.ANY


def _summed(call: Zeroing, states: tuple[State, State]) -> None:
    """Scores are sums over the width of queries times keys."""
    if State.ZERO not in states:
        call.report(Guarantee.APPROXIMATE, "values that are not zero are summed")
    elif call.value("weight") is None and call.value("bias") is None:
        call.summed([s.value for s in _sources(call)[:2] if call.carries(s.value)])


def _state(call: Zeroing, place: int) -> State:
    """State of queries, keys or values at the removed positions."""
    source = _sources(call)[place].value
    bias = call.value("bias")
    carried = [v for v in (source, bias) if v is not None and call.carries(v)]
    return max((call.state(v) for v in carried), default=State.ANY)


def _cost(call: Call) -> Cost:
    query, key, value = _sources(call)
    try:
        (heads, width), (_, _), (_, out) = (s.parts(call) for s in (query, key, value))
    except ValueError:
        return ()
    x = call.axes_of(call.tensor("query"))
    batch, rows = (x[0], x[2]) if len(x) == 4 else x[:2]
    k = call.axes_of(key.value) if call.value("weight") is None else x
    length = k[2] if len(k) == 4 else k[1]
    scores = (batch, heads, rows, length)
    cost: Cost = ((2, (*scores, width)), (2, (*scores, out)))
    if call.value("weight") is not None:
        cost += ((2, (batch, rows, *call.axes_of("weight"))),)
    return cost


def _resize(call: Sizing) -> Resized:
    try:
        (heads, width), (shared, _), (_, out) = (s.parts(call) for s in _sources(call))
    except ValueError:
        return Resized()
    changed: dict[str, int | float | tuple[int, ...]] = {}
    for name, axis in (("heads", heads), ("kv_heads", shared)):
        if call.get(name) is not None and call.size(axis) != axis.size:
            changed[name] = call.size(axis)
    if call.get("scale") is None and call.size(width) != width.size:
        changed["scale"] = width.size**-0.5
    weight = call.value("weight")
    if weight is not None:
        sizes = tuple(call.size(heads) * call.size(a) for a in (width, width, out))
        if call.size(call.axes_of(weight)[1]) != weight.shape[1]:
            changed["sizes"] = sizes
    return Resized(changed)


register(
    "onnx.Attention microsoft.Attention microsoft.MultiHeadAttention microsoft.GroupQueryAttention",
    Operator(axes=_axes, zero=_zero, cost=_cost, resize=_resize),
)
