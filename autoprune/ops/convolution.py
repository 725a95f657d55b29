"""Convolutions of any rank: plain, grouped, depthwise, with depth multiplier, transposed.

With `g` groups the channels are products, and the letters say it all:

    conv             n (g i) h w, (g o) i k l -> n (g o) h' w'
    transposed conv  n (g i) h w, (g i) o k l -> n (g o) h' w'

Letters of size one are left out of products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from autoprune.ir import axes as ax
from autoprune.ir.contraction import Contraction, Dim, Window
from autoprune.ir.graph import Argument
from autoprune.ops.letters import contracting
from autoprune.ops.rule import register
from autoprune.ops.views import Call, Resized, Sizing


def _is_transposed(call: Call) -> bool:
    return "transpose" in call.node.op or call.get("transposed", False) is True


def _is_padded(call: Call) -> bool:
    """Whether windows at the border see zeros beside the input."""
    name = _padding(call)
    padding = call.get(name, 0)
    if isinstance(padding, str):
        return padding != "valid" and any(n > 1 for n in call.tensor("weight").shape[2:])
    return any(call.integers(name, (0,)))


def _padding(call: Call) -> str:
    return "padding" if call.get("window_padding") is None else "window_padding"


def windows(call: Call) -> tuple[Window, ...]:
    """The kernel's places along each dimension of `s0 s1`, with taps `k0 k1`, to make `t0 t1`.

    `padding` is one number, one for each dimension, all before and then all after, or a word:
    `valid`, torch's `same`, or of ONNX.
    """
    kernel = call.tensor("weight").shape[2:]
    rank, transposed = len(kernel), _is_transposed(call)
    stride = _each(call, "stride", "window_strides", rank, 1)
    dilation = _each(call, "dilation", "window_dilations", rank, 1)
    beyond = _each(call, "output_padding", "output_padding", rank, 0)
    name = _padding(call)
    padding = call.get(name, 0)
    sides = [0] if isinstance(padding, str) else list(call.integers(name, (0,)))
    sides = sides * (2 * rank if len(sides) == 1 else 1)
    before, after = sides[:rank], sides[-rank:]
    found = []
    for d in range(rank):
        read, made = f"s{d}", f"t{d}"
        window = Window(
            *((made, read) if transposed else (read, made)), f"k{d}", stride[d], dilation[d],
            before[d], after[d] - beyond[d], _SAME.get(padding, "") if padding in _SAME else "",
        )  # fmt: skip
        if window.same:
            fine = call.tensor("input").shape[-rank:][d]
            sides_of = window.padding(fine, kernel[d])
            window = replace(window, before=sides_of[0], after=sides_of[1])
        found.append(window)
    return tuple(found)


_SAME: Mapping[Argument, Literal["before", "after"]] = {
    "same": "after", "SAME_UPPER": "after", "SAME_LOWER": "before"
}  # fmt: skip
"""Words for padding that keeps as many places as there are strides, and where the odd zero goes."""


def _each(call: Call, name: str, other: str, rank: int, default: int) -> tuple[int, ...]:
    """An argument of either name with a number for each dimension."""
    name = name if call.get(name) is not None else other
    given = call.integers(name, (default,)) or (default,)
    return given * (rank if len(given) == 1 else 1)


def describe(call: Call) -> Contraction:
    """The letters of a convolution; spatial axes are windows."""
    x, weight, bias = call.tensor("input"), call.tensor("weight"), call.value("bias")
    groups = call.integer("groups", 1)
    rank = len(weight.shape) - 2
    batch = (("n",),) if len(x.shape) == rank + 2 else ()
    space = tuple((f"s{i}",) for i in range(rank))
    kernel = tuple((f"k{i}",) for i in range(rank))
    moved = tuple((f"t{i}",) for i in range(rank))
    if _is_transposed(call):
        inputs, outputs = weight.shape[0] // groups, weight.shape[1]
    else:
        inputs, outputs = weight.shape[1], weight.shape[0] // groups
    read, made = _grouped(groups, "i", inputs), _grouped(groups, "o", outputs)
    weight_dims = (read, ("o",)) if _is_transposed(call) else (made, ("i",))
    channels = (made,)
    return Contraction(
        operands=((x, (*batch, read, *space)), (weight, (*weight_dims, *kernel))),
        output=(*batch, *channels, *moved),
        sizes={"g": groups, "i": inputs, "o": outputs},
        windows=windows(call),
        added=((bias, channels),) if bias is not None else (),
        folds=None if _is_transposed(call) or _is_padded(call) else bias,
    )


def _grouped(groups: int, letter: str, size: int) -> Dim:
    """The letters of `groups` times `size` channels."""
    return ("g", letter) if groups > 1 and size > 1 else ("g",) if groups > 1 else (letter,)


def resize_groups(call: Sizing) -> Resized:
    """As many groups as are left of the outer factor of the output channels."""
    groups = call.integer("groups", 1)
    if groups == 1:
        return Resized()
    channels = call.axes_of("weight")[0]
    if call.size(channels) == channels.size:
        return Resized()
    outer, _ = ax.outer_and_inner(channels, channels.size // groups)
    return Resized({"groups": call.size(outer)})


register(
    "aten.conv1d aten.conv2d aten.conv3d aten.convolution aten.conv_transpose1d "
    "aten.conv_transpose2d aten.conv_transpose3d",
    contracting(describe, resize=resize_groups),
)
