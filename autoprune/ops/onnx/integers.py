"""Arithmetic on integers that stand for fractions: products, sums and functions with zero points.

A removed position holds the zero point, which stands for zero: what is multiplied with it adds
nothing, and a function of zero gives the zero point of the result. So these operators follow the
rules of those on fractions; scales and zero points go with the axis they belong to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from autoprune.ir.axes import Axis
from autoprune.ir.contraction import Contraction
from autoprune.ir.group import Guarantee
from autoprune.ops.convolution import describe as convolution
from autoprune.ops.convolution import resize_groups
from autoprune.ops.letters import Describe, contracting
from autoprune.ops.linear import matrix_product
from autoprune.ops.onnx.linear import describe_gemm
from autoprune.ops.rule import Cost, Operator, no_resize, register
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Typing, Zeroing

_OF_WEIGHT = ("weight_scale", "weight_zero")
_OF_INPUT = ("input_scale", "input_zero")


def _of_integers(describe: Describe) -> Describe:
    """No bias of integers takes up a constant."""

    def contraction(call: Call) -> Contraction:
        return replace(describe(call), folds=None, also="integers stand for fractions")

    return contraction


@_of_integers
def _matmul(call: Call) -> Contraction:
    return matrix_product(call.tensor("input"), call.tensor("weight"), call.value("bias"))


def _columns(call: Call) -> Axis:
    weight = call.axes_of("weight")
    return weight[0] if call.get("transB") is True or len(weight) == 1 else weight[-1]


def _filters(call: Call) -> Axis:
    return call.axes_of("weight")[0]


def _scaled_axes(
    product: Operator, made: Callable[[Call], Axis]
) -> Callable[[Typing], list[Shape]]:
    """The axes of a product; a scale and a zero point for each output go with the outputs."""

    def axes(call: Typing) -> list[Shape]:
        shapes = product.axes(call)
        for name in (*_OF_WEIGHT, *_OF_INPUT):
            value = call.value(name)
            if value is None:
                continue
            of_weight = name in _OF_WEIGHT and len(value.shape) == 1
            for axis in call.axes_of(value):
                outputs = made(call)
                if of_weight and axis.size == outputs.size:
                    call.same(axis, outputs)
                elif axis.size != 1:
                    for other in (axis, *call.axes_of("input"), *call.axes_of("weight")):
                        call.pin(other, "a scale for each row")
        return [call.axes.resolve_all(shape) for shape in shapes]

    return axes


def _ranged(zero: Callable[[Zeroing], State]) -> Callable[[Zeroing], State]:
    """For operators that derive the scale of their input from the range of its values and zero."""

    def ranged(call: Zeroing) -> State:
        x = call.tensor("input")
        if call.carries(x) and call.state(x) is not State.ZERO:
            call.report(Guarantee.APPROXIMATE, "the range of integers depends on it")
        return zero(call)

    return ranged


def _everything(call: Call) -> Shape:
    """The range is that of the whole input."""
    return call.axes_of("input")


def _register(
    names: str,
    describe: Describe,
    made: Callable[[Call], Axis],
    *,
    resize: Callable[[Sizing], Resized] = no_resize,
    ranged: bool = False,
) -> None:
    product = contracting(describe, resize=resize)
    if ranged:
        product = replace(product, zero=_ranged(product.zero), normalizes=_everything)
    register(names, replace(product, axes=_scaled_axes(product, made)))


_gemm = _of_integers(lambda call: describe_gemm(call, "input", "weight", "bias"))
_register("onnx.QLinearConv onnx.ConvInteger microsoft.QLinearConv", _of_integers(convolution),
          _filters, resize=resize_groups)  # fmt: skip
_register("onnx.QLinearMatMul onnx.MatMulInteger microsoft.MatMulIntegerToFloat "
          "microsoft.MatMulInteger16", _matmul, _columns)  # fmt: skip
_register("microsoft.QGemm", _gemm, _columns)
_register("microsoft.DynamicQuantizeMatMul", _matmul, _columns, ranged=True)


def _dynamic_axes(call: Typing) -> list[Shape]:
    """The integers, and one scale and zero point for all of them."""
    return [call.axes_of("input"), *(() for _ in call.node.outputs[1:])]


register(
    "onnx.DynamicQuantizeLinear",
    Operator(
        axes=_dynamic_axes,
        zero=_ranged(lambda call: call.state(call.tensor("input"))),
        normalizes=_everything,
    ),
)


def _blocks_axes(call: Typing) -> list[Shape]:
    """`... i, o (blocks of i) -> ... o`: MatMulNBits, quantized in blocks of the inputs."""
    x, weight = call.axes_of("input"), call.axes_of("weight")
    for axis in (x[-1], *weight[1:]):
        call.pin(axis, "quantized in blocks along it")
    outputs = weight[0]
    for name in ("scale", "zero"):
        value = call.value(name)
        if value is None:
            continue
        first, *rest = call.axes_of(value)
        if not rest:
            size = outputs.size
            first, block = call.axes.factor(first, (size, first.size // size))
            rest = [block]
        call.same(first, outputs)
        for axis in rest:
            call.pin(axis, "quantized in blocks along it")
    if call.value("order") is not None:
        call.pin(call.axes_of("order")[0], "quantized in blocks along it")
    if call.value("bias") is not None:
        call.same(call.axes_of("bias")[0], outputs)
    return [(*call.axes_of("input")[:-1], call.axes.resolve(outputs))]


def _blocks_cost(call: Call) -> Cost:
    return ((2, (*call.axes_of(call.output), call.axes_of("input")[-1])),)


def _blocks_zero(call: Zeroing) -> State:
    bias = call.value("bias")
    of = "scale" if call.carries(call.tensor("scale")) else "input"
    state = call.state(call.tensor(of))
    return state if bias is None else max(state, call.state(bias))


def _blocks_resize(call: Sizing) -> Resized:
    outputs = call.axes_of("weight")[0]
    return (
        Resized({"outputs": call.size(outputs)})
        if call.size(outputs) != outputs.size
        else Resized()
    )


register(
    "microsoft.MatMulNBits",
    Operator(axes=_blocks_axes, zero=_blocks_zero, cost=_blocks_cost, resize=_blocks_resize),
)
