"""Operators of detectors: regions of a map, deformed convolutions, suppression of boxes."""

from __future__ import annotations

from dataclasses import replace

from autoprune.ir.contraction import Contraction, Window
from autoprune.ops.convolution import resize_groups
from autoprune.ops.letters import contracting, in_letters, letters
from autoprune.ops.pinning import pin_dims, pin_tensors
from autoprune.ops.rule import Operator, first_state, of_first, register
from autoprune.ops.views import Call, Shape, Typing


def _region_axes(call: Typing) -> list[Shape]:
    """`n c h w, rois 5 -> rois c h' w'`."""
    x, boxes = (call.axes_of(v) for v in call.tensors[:2])
    pin_dims(call, x, (0, 2, 3), "regions are cut out of it")
    for value in call.tensors[1:]:
        shape_of = call.axes_of(value)
        pin_dims(call, shape_of, range(len(shape_of)), "regions to cut out")
    size = call.output.shape
    space = (call.fixed(n, "pixels of a region") for n in size[2:])
    shape = (boxes[0], x[1], *space)
    return [shape] * len(call.node.outputs)


register(
    "torchvision.roi_align torchvision.roi_pool",
    Operator(axes=_region_axes, zero=first_state, homogeneous=of_first),
)


def _window(call: Call, d: int) -> Window:
    stride, dilation, pad = (
        call.integer(f"{name}_{'hw'[d]}", default)
        for name, default in (("stride", 1), ("dilation", 1), ("pad", 0))
    )
    return Window(f"s{d}", f"t{d}", f"k{d}", stride, dilation, pad, pad)


def _deformed(call: Call) -> Contraction:
    """`n (g i) h w, (g o) i k l -> n (g o) h' w'`, each product taken where offsets say."""
    x, weight, bias = call.tensor("input"), call.tensor("weight"), call.value("bias")
    groups = call.integer("groups", 1)
    return in_letters(
        "n (g i) s0 s1, (g o) i k0 k1 -> n (g o) t0 t1",
        x,
        weight,
        sizes={"g": groups, "i": weight.shape[1], "o": weight.shape[0] // groups},
        windows=tuple(_window(call, d) for d in range(2)),
        also="offsets say where to look",
        added=() if bias is None else ((bias, letters("(g o)")),),
    )


def _deformed_axes(call: Typing) -> list[Shape]:
    pin_tensors(call, "where to look", "offset", "mask")
    if call.integer("offset_groups", 1) > 1:
        call.pin(call.axes_of("input")[1], "groups of channels look elsewhere")
    return list(_DEFORMED.axes(call))


_DEFORMED = contracting(_deformed, resize=resize_groups)
register("torchvision.deform_conv2d", replace(_DEFORMED, axes=_deformed_axes))
