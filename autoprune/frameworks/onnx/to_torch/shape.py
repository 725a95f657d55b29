"""Operators that move elements: reshapes, slices, gathers, scatters, fills."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx

from autoprune.frameworks.onnx.attributes import fill_of
from autoprune.frameworks.onnx.to_torch.sizes import list_of
from autoprune.frameworks.onnx.to_torch.writer import OnnxCall, torch_dtype, writes, writes_as


def reshape(x: torch.Tensor, shape: Any, allow_zero: bool) -> torch.Tensor:
    """The elements in another shape; a zero stands for the size that `x` has there."""
    wanted = list_of(shape)
    if not allow_zero:
        # Symbolic sizes are never zero, and comparing them would fix them.
        wanted = [x.shape[i] if type(n) is int and n == 0 else n for i, n in enumerate(wanted)]
    return x.reshape(wanted)


writes_as("Reshape", reshape, "x shape! | allowzero:allow_zero=False")


def flatten(x: torch.Tensor, axis: int) -> torch.Tensor:
    """The elements in two dimensions: what comes before the axis, and the rest."""
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


writes_as("Flatten", flatten, "x | axis=1")


@writes("Transpose")
def _transpose(call: OnnxCall) -> fx.Node:
    order = call.attribute("perm", tuple(reversed(range(call.rank))))
    return call.emit(torch.permute, call.tensor(0), order)


def squeeze(x: torch.Tensor, axes: Any) -> torch.Tensor:
    """`x` without some dimensions of size one, or without all of them."""
    return x.squeeze() if axes is None else x.squeeze(list_of(axes))


def unsqueeze(x: torch.Tensor, axes: Any) -> torch.Tensor:
    """`x` with dimensions of size one at some axes of the result."""
    rank = x.ndim + len(list_of(axes))
    for axis in sorted(a % rank for a in list_of(axes)):
        x = x.unsqueeze(axis)
    return x


writes_as("Squeeze", squeeze, "x axes!")
writes_as("Unsqueeze", unsqueeze, "x axes!")


def expand(x: torch.Tensor, shape: Any) -> torch.Tensor:
    """Broadcast to a shape, in which a size of one leaves that of `x`."""
    wanted = list_of(shape)
    full = max(len(wanted), x.ndim)
    own = [1] * (full - x.ndim) + list(x.shape)
    other = [1] * (full - len(wanted)) + wanted
    # Only a plain 1 is broadcast: comparing symbolic sizes would fix them.
    return x.expand(
        [a if type(b) is int and b == 1 else b for a, b in zip(own, other, strict=True)]
    )


writes_as("Expand", expand, "x shape!")


def tile(x: torch.Tensor, repeats: Any) -> torch.Tensor:
    """`x` several times in each dimension."""
    return x.repeat(list_of(repeats))


writes_as("Tile", tile, "x repeats!")


@writes("Concat")
def _concat(call: OnnxCall) -> fx.Node:
    return call.emit(torch.cat, call.tensors, call.attribute("axis", 0))


def split(x: torch.Tensor, parts: Any, axis: int) -> tuple[torch.Tensor, ...]:
    """Parts of given sizes."""
    return torch.split(x, list_of(parts), axis)


@writes("Split")
def _split(call: OnnxCall) -> list[fx.Node]:
    axis, parts = call.attribute("axis", 0), call.given(1, "split")
    if parts is None:
        return call.emit_parts(torch.chunk, call.tensor(0), len(call.node.output), axis)
    return call.emit_parts(split, call.tensor(0), parts, axis)


def slices(x: torch.Tensor, starts: Any, ends: Any, axes: Any, steps: Any) -> torch.Tensor:
    """A slice along several axes; steps may be negative."""
    begin = list_of(starts)
    where = range(len(begin)) if axes is None else list_of(axes)
    by = [1] * len(begin) if steps is None else list_of(steps)
    for start, end, axis, step in zip(begin, list_of(ends), where, by, strict=True):
        if step > 0:
            # Whole dimensions are written in several ways, none of them worth a slice.
            if step != 1 or type(start) is not int or start or end < x.shape[axis]:
                x = x[(slice(None),) * (axis % x.ndim) + (slice(start, end, step),)]
        else:
            places = range(*slice(start, end, step).indices(x.shape[axis]))
            x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64, device=x.device))
    return x


writes_as("Slice", slices, "x starts! ends! axes! steps!")


def wrapped(index: torch.Tensor, size: int) -> torch.Tensor:
    """Positions from the front; negative ones count from the end."""
    return torch.where(index < 0, index + size, index)


def gather(x: torch.Tensor, index: torch.Tensor, axis: int) -> torch.Tensor:
    """Positions of an axis; the shape of `index` takes its place."""
    if axis == 0 and x.ndim == 2 and x.is_floating_point():
        return F.embedding(wrapped(index, x.shape[0]), x)
    places = wrapped(index, x.shape[axis]).flatten().long()
    picked = x.index_select(axis, places)
    return picked.reshape((*x.shape[:axis], *index.shape, *x.shape[axis:][1:]))


@writes("Gather")
def _gather(call: OnnxCall) -> fx.Node:
    axis = call.attribute("axis", 0) % call.rank
    known = call.known(1)
    if known is not None and known.ndim == 0:
        return call.emit(torch.select, call.tensor(0), axis, int(known))
    run = None if known is None or known.ndim > 1 or (known < 0).any() else _run(known)
    if run is not None:
        return call.emit(torch.narrow, call.tensor(0), axis, *run)
    return call.emit(gather, call.tensor(0), call.tensor(1), axis)


def _run(index: np.ndarray[Any, Any]) -> tuple[int, int] | None:
    """First position and length, if the positions follow each other."""
    following = index.size and bool((np.diff(index) == 1).all())
    return (int(index[0]), index.size) if following else None


def gather_elements(x: torch.Tensor, index: torch.Tensor, axis: int) -> torch.Tensor:
    """For every position of `index` the element at that position of the axis."""
    return torch.gather(x, axis, wrapped(index, x.shape[axis]).long())


writes_as("GatherElements", gather_elements, "x index | axis=0")


def _places(x: torch.Tensor, index: torch.Tensor, batch_dims: int = 0) -> tuple[torch.Tensor, ...]:
    """Index tensors, one for each leading dimension of `x` that the last one of `index` names."""
    inner = index.unbind(-1)
    found = [wrapped(part.long(), x.shape[batch_dims + i]) for i, part in enumerate(inner)]
    outer = []
    for dim in range(batch_dims):
        shape = [1] * (index.ndim - 1)
        shape[dim] = x.shape[dim]
        outer.append(torch.arange(x.shape[dim], device=x.device).reshape(shape))
    return (*outer, *found)


def gather_nd(x: torch.Tensor, index: torch.Tensor, batch_dims: int) -> torch.Tensor:
    """Slices of `x` at the positions that the last dimension of `index` holds."""
    return x[_places(x, index, batch_dims)]


writes_as("GatherND", gather_nd, "x index | batch_dims=0")


def scatter_nd(
    x: torch.Tensor, index: torch.Tensor, source: torch.Tensor, accumulate: bool
) -> torch.Tensor:
    """A copy of `x` with slices put in place, or added."""
    return x.index_put(_places(x, index), source, accumulate)


@writes("ScatterND")
def _scatter_nd(call: OnnxCall) -> fx.Node:
    how = call.attribute("reduction", "none")
    if how not in ("none", "add"):
        raise call.unsupported(f"reduction={how!r}")
    return call.emit(scatter_nd, *call.tensors, how == "add")


_REDUCTIONS = {"add": "sum", "mul": "prod", "min": "amin", "max": "amax"}


def scatter_elements(
    x: torch.Tensor, index: torch.Tensor, source: torch.Tensor, axis: int, reduction: str
) -> torch.Tensor:
    """A copy of `x` with single elements put in place, or combined with those there."""
    places = wrapped(index, x.shape[axis]).long()
    if reduction == "none":
        return torch.scatter(x, axis, places, source)
    return torch.scatter_reduce(x, axis, places, source, _REDUCTIONS[reduction])


writes_as("ScatterElements Scatter", scatter_elements, "x index source | axis=0 reduction='none'")


def pad(x: torch.Tensor, pads: Any, value: Any, axes: Any, mode: str) -> torch.Tensor:
    """Elements before and after; `pads` counts those before each of the axes, then after."""
    sizes = list_of(pads)
    where = [a % x.ndim for a in (range(x.ndim) if axes is None else list_of(axes))]
    ends = dict(zip(where, zip(sizes[: len(where)], sizes[len(where) :], strict=True), strict=True))
    if mode == "constant":
        flat = [n for axis in reversed(range(x.ndim)) for n in ends.get(axis, (0, 0))]
        return F.pad(x, flat, value=0.0 if value is None else list_of(value)[0])
    for axis, (before, after) in ends.items():
        if before or after:
            positions = np.arange(x.shape[axis])
            places = np.pad(positions, (before, after), mode=mode)  # type: ignore[call-overload]
            x = x.index_select(axis, torch.from_numpy(places).to(x.device))
    return x


writes_as("Pad", pad, "x pads! value! axes! | mode='constant'")


def filled(shape: Any, value: float, dtype: torch.dtype, like: Any) -> torch.Tensor:
    """A tensor of one number."""
    device = None if like is None else like.device
    return torch.full(list_of(shape), value, dtype=dtype, device=device)


@writes("ConstantOfShape")
def _filled(call: OnnxCall) -> fx.Node:
    fill = fill_of(call.node)
    dtype = torch_dtype(fill.dtype.name)
    return call.emit(filled, call.number(0), fill.item(), dtype, call.writer.like())


def arange(start: Any, end: Any, step: Any, dtype: torch.dtype, like: Any) -> torch.Tensor:
    """Numbers from `start`, shape [n]."""
    bounds = [list_of(n)[0] for n in (start, end, step)]
    return torch.arange(*bounds, dtype=dtype, device=None if like is None else like.device)


@writes("Range")
def _range(call: OnnxCall) -> fx.Node:
    dtype = getattr(torch, call.dtype(0))
    numbers = [call.number(i) for i in range(3)]
    return call.emit(arange, *numbers, dtype, call.writer.like())


def triangle(x: torch.Tensor, diagonal: Any, upper: bool) -> torch.Tensor:
    """`x` with zeros below a diagonal, or above it."""
    first = 0 if diagonal is None else list_of(diagonal)[0]
    return x.triu(first) if upper else x.tril(first)


writes_as("Trilu", triangle, "x diagonal! | upper=True")


def one_hot(index: torch.Tensor, depth: Any, values: torch.Tensor, axis: int) -> torch.Tensor:
    """`values[1]` at the positions that `index` names along a new axis, `values[0]` elsewhere."""
    size = list_of(depth)[0]
    new = wrapped(index.long(), size).unsqueeze(axis)
    shape = [1] * new.ndim
    shape[axis] = size
    places = torch.arange(size, device=index.device).reshape(shape)
    return torch.where(new == places, values[1], values[0])


writes_as("OneHot", one_hot, "index depth! values | axis=-1")


def depth_to_space(x: torch.Tensor, block: int, mode: str) -> torch.Tensor:
    """Channels `[block, block, c]`, or in mode CRD `[c, block, block]`, become pixels of `c`."""
    if mode == "CRD":
        return F.pixel_shuffle(x, block)
    n, c, h, w = x.shape
    y = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return y.reshape(n, c // block**2, h * block, w * block)


writes_as("DepthToSpace", depth_to_space, "x | blocksize:block mode='DCR'")


def space_to_depth(x: torch.Tensor, block: int) -> torch.Tensor:
    """Pixels of `c` channels become channels `[block, block, c]`."""
    n, c, h, w = x.shape
    y = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return y.reshape(n, c * block**2, h // block, w // block)


writes_as("SpaceToDepth", space_to_depth, "x | blocksize:block")


@writes("NonZero")
def _non_zero(call: OnnxCall) -> fx.Node:
    return call.emit(torch.t, call.emit(torch.nonzero, call.tensor(0)))
