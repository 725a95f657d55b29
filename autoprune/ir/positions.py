"""Positions of tensors: which of them belong to which units, and which stay after a cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from autoprune.ir.axes import Axis, Leaf, Prod, Sum, uids_of

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class PerOuter:
    """Units of a leaf that stay, chosen anew under each unit of another leaf, equally many each.

    Attributes:
        outer: the leaf whose units the choices belong to.
        units: increasing unit numbers; shape [units of the outer leaf, units that stay].
    """

    outer: int
    units: Indices

    def __len__(self) -> int:
        return int(self.units.shape[1])


Kept = Mapping[int, Indices | PerOuter]
"""The units that stay, by leaf; leaves that are not listed stay whole."""


def kept_index(axes: Sequence[Axis], kept: Kept) -> tuple[Indices, ...]:
    """Positions of a tensor that stay, as an open mesh: `array[kept_index(axes, kept)]` is the cut.

    One index array a dimension, all of `len(axes)` dimensions. Each is of size one but along its
    own dimension and along those that name the outer leaf of units chosen per outer unit.

    Raises:
        ValueError: if units are chosen per unit of a leaf, and it is not clear which unit of that
            leaf a position belongs to.
    """
    return tuple(_kept_along(axes, kept, range(len(axes))))


def _kept_along(axes: Sequence[Axis], kept: Kept, dims: Iterable[int]) -> list[Indices]:
    """The index arrays of `kept_index` for some of the dimensions."""
    chosen = [kept[uid] for uid in uids_of(axes) & kept.keys()]
    outers = frozenset(c.outer for c in chosen if isinstance(c, PerOuter))
    done: dict[int, _Positions | None] = {}

    def expand(dim: int) -> _Positions:
        if dim not in done:
            done[dim] = None
            context = {uid: outside(uid, dim) for uid in _exposed(axes[dim], kept)}
            done[dim] = _positions(axes[dim], kept, outers, context)
        found = done[dim]
        if found is None:
            raise ValueError(f"units of {axes[dim]} are chosen per unit of each other")
        return found

    def outside(uid: int, dim: int) -> Indices:
        dims = [d for d, axis in enumerate(axes) if d != dim and uid in axis.uids]
        if len(dims) != 1:
            raise ValueError(f"units of {axes[dim]} are chosen per unit of a leaf it lacks")
        return along(expand(dims[0]).units[uid], dims[0])[..., None]

    def along(indices: Indices, dim: int) -> Indices:
        """Move the last axis, which runs along `dim`, to where that is."""
        full = indices.reshape((1,) * (len(axes) + 1 - indices.ndim) + indices.shape)
        return np.swapaxes(full, dim, -1)[..., 0]

    return [along(expand(dim).positions, dim) for dim in dims]


def cut_steps(axes: Sequence[Axis], kept: Kept) -> list[tuple[int, Indices]]:
    """Dimensions to cut one after the other, with what to take along each.

    The index arrays broadcast against the tensor as those of `numpy.take_along_axis` do; those
    that vary along their own dimension alone come first.
    """
    dims = [d for d, axis in enumerate(axes) if not axis.uids.isdisjoint(kept)]
    steps = list(zip(dims, _kept_along(axes, kept, dims), strict=True))
    # Whatever an index array varies along has to be cut before, and itself varies along less.
    return sorted(steps, key=lambda step: _outer_dims(*step))


def _outer_dims(dim: int, index: Indices) -> int:
    return sum(n != 1 for d, n in enumerate(index.shape) if d != dim)


def cut_array(array: npt.NDArray[Any], axes: Sequence[Axis], kept: Kept) -> npt.NDArray[Any]:
    """The positions of an array that stay; a view of it where all do."""
    for dim, index in cut_steps(axes, kept):
        if index.size == index.shape[dim]:
            array = np.take(array, index.ravel(), dim)
        else:
            array = np.take_along_axis(array, index, dim)
    return array


def kept_masks(axes: Sequence[Axis], kept: Kept) -> Iterator[npt.NDArray[np.bool_]]:
    """Masks that broadcast against a tensor; a position stays where all of them are true."""
    index = kept_index(axes, kept)
    for dim, axis in enumerate(axes):
        if not axis.uids.isdisjoint(kept):
            along = [d == dim or n != 1 for d, n in enumerate(index[dim].shape)]
            mask = np.zeros(
                [a.size if yes else 1 for a, yes in zip(axes, along, strict=True)], bool
            )
            mask[tuple(i if yes else 0 for i, yes in zip(index, along, strict=True))] = True
            yield mask


def owners(axis: Axis, uid: int) -> Iterator[Indices]:
    """The unit of leaf `uid` that each position of `axis` belongs to, -1 where to none.

    Yields one array; another where positions belong to two units, in a product of the leaf with
    itself; none if the leaf is absent.
    """
    positions = unit_positions(axis, uid)
    units = np.repeat(np.arange(len(positions)), positions.shape[1])
    positions = positions.ravel()
    while positions.size:
        now, first = np.unique(positions, return_index=True)
        owner = np.full(axis.size, -1)
        owner[now] = units[first]
        yield owner
        positions, units = np.delete(positions, first), np.delete(units, first)


@dataclass(frozen=True, slots=True)
class _Positions:
    """Positions along an axis, for every choice of outer units made elsewhere.

    Attributes:
        positions: shape [..., positions], where the leading dimensions are those of the context.
        units: by leaf, the unit each of them belongs to, or -1; broadcasts against `positions`.
    """

    positions: Indices
    units: Mapping[int, Indices]


def _positions(
    axis: Axis, kept: Kept, outers: frozenset[int], context: Mapping[int, Indices]
) -> _Positions:
    """Positions of `axis` that stay, and which units of `outers` they belong to.

    The context has units of leaves named outside of `axis`; shape [..., 1].
    """
    if isinstance(axis, Leaf):
        chosen = kept.get(axis.uid)
        if isinstance(chosen, PerOuter):
            rows = context.get(chosen.outer)
            if rows is None or (rows < 0).any():
                raise ValueError(f"units of {axis} are chosen per unit of a leaf it occurs without")
            positions = chosen.units[rows[..., 0]]
        else:
            positions = np.arange(axis.size) if chosen is None else np.asarray(chosen, np.intp)
        return _Positions(positions, {axis.uid: positions} if axis.uid in outers else {})
    if isinstance(axis, Prod):
        return _product_positions(axis, kept, outers, context)
    offset, parts = 0, []
    for term in axis.terms:
        part = _positions(term, kept, outers, context)
        parts.append(_Positions(part.positions + offset, part.units))
        offset += term.size
    named = {uid for part in parts for uid in part.units}
    none = np.full(1, -1)
    units = {
        uid: _joined([(part.units.get(uid, none), part.positions) for part in parts])
        for uid in named
    }
    return _Positions(_joined([(part.positions, part.positions) for part in parts]), units)


def _joined(pieces: Sequence[tuple[Indices, Indices]]) -> Indices:
    """Concatenate arrays, each broadcast to the length of another, along the last axis."""
    if not pieces:
        return np.zeros(0, dtype=np.intp)
    leading = np.broadcast_shapes(*(a.shape[:-1] for piece in pieces for a in piece))
    return np.concatenate(
        [np.broadcast_to(values, (*leading, like.shape[-1])) for values, like in pieces], axis=-1
    )


def _product_positions(
    axis: Prod, kept: Kept, outers: frozenset[int], context: Mapping[int, Indices]
) -> _Positions:
    positions, units = np.zeros(1, dtype=np.intp), dict[int, Indices]()
    for factor in axis.factors:
        known = {uid: array[..., None] for uid, array in (*context.items(), *units.items())}
        inner = _positions(factor, kept, outers, known)
        grid = positions[..., None] * factor.size + inner.positions
        named = {uid: array[..., None] for uid, array in units.items()} | dict(inner.units)
        units = {uid: _flat(np.broadcast_to(array, grid.shape)) for uid, array in named.items()}
        positions = _flat(grid)
    return _Positions(positions, units)


def _flat(grid: Indices) -> Indices:
    return grid.reshape((*grid.shape[:-2], -1))


def _exposed(axis: Axis, kept: Kept) -> frozenset[int]:
    """Leaves per whose units something in `axis` is chosen, unless `axis` names them before it."""
    if isinstance(axis, Leaf):
        chosen = kept.get(axis.uid)
        return frozenset((chosen.outer,)) if isinstance(chosen, PerOuter) else frozenset()
    found, before = frozenset[int](), frozenset[int]()
    for part in axis.factors if isinstance(axis, Prod) else axis.terms:
        found |= _exposed(part, kept) - before
        if isinstance(axis, Prod):
            before |= part.uids
    return found


def unit_positions(axis: Axis, uid: int) -> Indices:
    """Positions of `axis` that belong to each unit of leaf `uid`.

    Returns an index array of shape [units, positions per unit]; removing unit `u` removes row `u`.
    With the leaf absent the shape is [0, 0].
    """
    if uid not in axis.uids:
        return np.zeros((0, 0), dtype=np.intp)
    if isinstance(axis, Leaf):
        return np.arange(axis.size)[:, None]
    pieces: list[Indices] = []
    if isinstance(axis, Sum):
        offset = 0
        for term in axis.terms:
            if uid in term.uids:
                pieces.append(unit_positions(term, uid) + offset)
            offset += term.size
    else:
        outer, inner = 1, axis.size
        for factor in axis.factors:
            inner //= factor.size
            if uid in factor.uids:
                found = unit_positions(factor, uid)
                before = np.arange(outer)[:, None, None] * (factor.size * inner)
                within = found[:, None, :, None] * inner + before + np.arange(inner)
                pieces.append(within.reshape(len(found), -1))
            outer *= factor.size
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)
