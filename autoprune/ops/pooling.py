"""Pooling, resampling and unfolding: spatial axes are pinned, channels pass."""

from __future__ import annotations

from autoprune.ir import axes as ax
from autoprune.ops.pinning import line_up, mixing
from autoprune.ops.rule import Operator, any_state, first_state, of_first, register
from autoprune.ops.views import Call, Resized, Shape, Sizing, Typing


def _spatial_rank(call: Call) -> int:
    """`max_pool2d` works on the last two dimensions; vectors are resampled on the last one."""
    packet = call.node.op.split(".")[1]
    for rank in (1, 2, 3):
        if f"{rank}d" in packet:
            return rank
    return len(call.tensors[0].shape) - 2


def _space(call: Call) -> range:
    return range(-_spatial_rank(call), 0)


register(
    "aten.max_pool1d aten.max_pool2d aten.max_pool3d aten.max_pool2d_with_indices "
    "aten.max_pool1d_with_indices aten.max_pool3d_with_indices aten.avg_pool1d aten.avg_pool2d "
    "aten.avg_pool3d aten.adaptive_avg_pool1d aten.adaptive_avg_pool2d aten.adaptive_avg_pool3d "
    "aten.adaptive_max_pool1d aten.adaptive_max_pool2d aten.adaptive_max_pool3d aten.lp_pool1d "
    "aten.upsample_nearest1d aten.upsample_nearest2d aten.upsample_nearest3d "
    "aten._upsample_nearest_exact1d aten._upsample_nearest_exact2d "
    "aten._upsample_nearest_exact3d aten.upsample_linear1d aten.upsample_bilinear2d "
    "aten.upsample_trilinear3d aten.upsample_bicubic2d aten._upsample_bilinear2d_aa "
    "aten._upsample_bicubic2d_aa aten._adaptive_avg_pool2d "
    "aten._adaptive_avg_pool3d aten.reflection_pad1d aten.reflection_pad2d aten.reflection_pad3d "
    "aten.replication_pad1d aten.replication_pad2d aten.replication_pad3d",
    mixing(
        _space,
        "a window slides over it",
        first_state,
        "positions of a sliding window",
        homogeneous=of_first,
    ),
)


def _sampler_axes(call: Typing) -> list[Shape]:
    x, grid = (call.axes_of(v) for v in call.tensors[:2])
    call.same(x[0], grid[0])
    for axis in (*x[2:], *grid[1:]):
        call.pin(axis, "positions are sampled")
    shape = call.output.shape
    return [(*x[:2], *(call.fixed(n, "sampled positions") for n in shape[2:]))]


register(
    "aten.grid_sampler aten.grid_sampler_2d aten.grid_sampler_3d",
    Operator(axes=_sampler_axes, zero=first_state, homogeneous=of_first),
)


def _unpool_axes(call: Typing) -> list[Shape]:
    """What a window's largest element becomes, at the place its index names."""
    rank = _spatial_rank(call)
    x, indices = (call.axes_of(v) for v in call.tensors[:2])
    call.align(x, indices)
    for axis in x[-rank:]:
        call.pin(axis, "a window slides over it")
    space = (call.fixed(n, "places that indices name") for n in call.output.shape[-rank:])
    return [(*call.axes_of("input")[:-rank], *space)]


register(
    "aten.max_unpool2d aten.max_unpool3d",
    Operator(axes=_unpool_axes, zero=first_state, homogeneous=of_first),
)


def _grid_axes(call: Typing) -> list[Shape]:
    """`n 2 3 -> n h w 2`."""
    batch, *matrix = call.axes_of("theta")
    for axis in matrix:
        call.pin(axis, "an affine map")
    return [(batch, *(call.fixed(n, "sampled positions") for n in call.output.shape[1:]))]


def _grid_resize(call: Sizing) -> Resized:
    sizes = call.node.arguments["size"]
    assert isinstance(sizes, tuple)
    return Resized({"size": (call.scaled(sizes[0], call.axes_of("theta")[0]), *sizes[1:])})


register(
    "aten.affine_grid_generator",
    Operator(axes=_grid_axes, zero=any_state, resize=_grid_resize),
)


def _im2col_axes(call: Typing) -> list[Shape]:
    """`(n, c, h, w) -> (n, c x k x l, positions)`."""
    *batch, channels, height, width = call.axes_of(call.tensors[0])
    for axis in (height, width):
        call.pin(axis, "a window slides over it")
    rows, columns = call.integers("kernel_size")
    kernel = call.fixed(rows * columns, "positions inside a window")
    positions = call.fixed(call.output.shape[-1], "positions of a sliding window")
    return [(*batch, ax.prod(channels, kernel), positions)]


def _col2im_axes(call: Typing) -> list[Shape]:
    *batch, columns, positions = call.axes_of(call.tensors[0])
    rows, width = call.integers("kernel_size")
    channels, kernel = call.axes.factor(columns, (columns.size // (rows * width), rows * width))
    for axis in (kernel, positions):
        call.pin(axis, "becomes pixels")
    space = (call.fixed(n, "pixels put together") for n in call.output.shape[-2:])
    return [(*batch, channels, *space)]


register("aten.im2col", Operator(axes=_im2col_axes, zero=first_state, homogeneous=of_first))
register("aten.col2im", Operator(axes=_col2im_axes, zero=first_state, homogeneous=of_first))


def _max_pool_backward_axes(call: Typing) -> list[Shape]:
    """Gradients go back to where the maxima were."""
    shape = call.axes_of("input")
    for name in ("grad_output", "indices"):
        line_up(call, shape, call.axes_of(name), (-2, -1), "a window slides over it")
    return [shape]


register(
    "aten.max_pool2d_with_indices_backward",
    Operator(
        axes=_max_pool_backward_axes, zero=lambda call: call.state(call.tensor("grad_output"))
    ),
)
