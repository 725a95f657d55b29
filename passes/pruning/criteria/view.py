"""The units of a group as criteria see them: sums and matrices over all their slices.

What is looked at is read tensor by tensor, and in parts, so that of a large network no more than
one tensor is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from autoprune.errors import AutopruneError
from autoprune.ir.axes import Axis, Leaf
from autoprune.ir.group import Group, Occurrence
from autoprune.ir.positions import Indices, owners, unit_positions

CHUNK = 2**20
"""Elements of a tensor that are looked at together."""

Array = npt.NDArray[Any]
Scores = npt.NDArray[np.float64]

Need = Literal["weights", "gradients", "inputs", "gram", "statistics"]
"""What a criterion may look at.

By the name of a weight:

- `weights`: trained parameters, and what layers read as their weights that is computed from them;
- `gradients`: the derivatives of the loss by the weights, of their shapes.

By the name of a call that multiplies by a weight, of what it multiplies on calibration data, as the
columns of a `Product` (see `analysis.products`):

- `inputs`: these themselves, shape [groups, samples, columns];
- `gram`: their products with each other, summed over samples, shape [groups, columns, columns];
- `statistics`: their means and variances over samples, shape [groups, 2, columns].
"""

NEEDS: tuple[Need, ...] = get_args(Need)


@dataclass(frozen=True, eq=False)
class Tensors(Mapping[str, Array]):
    """Tensors by name in which units lie; what is taken from here cannot be written to.

    They may be made when they are asked for. The types are of each of their dimensions.
    """

    arrays: Mapping[str, Array]
    types: Mapping[str, tuple[Axis, ...]]

    def __getitem__(self, name: str) -> Array:
        array = self.arrays[name].view()
        array.flags.writeable = False
        return array

    def __contains__(self, name: object) -> bool:
        return name in self.arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)


@dataclass(frozen=True)
class UnitView:
    """The units of one group, with all their slices: in what makes them and in what reads them.

    Attributes:
        group: the group.
        data: the tensors that the criterion needs, by kind.
        rng: seeded generator, for criteria that draw.
        outer: the leaf per whose units the group's units are chosen, or None.
    """

    group: Group
    data: Mapping[Need, Tensors]
    rng: np.random.Generator
    outer: Leaf | None = None

    @property
    def units(self) -> int:
        """Number of units."""
        return self.group.units

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the scores: [units], or [outer units, units] where those may be told apart."""
        return (self.units,) if self.outer is None else (self.outer.size, self.units)

    @property
    def weights(self) -> Tensors:
        """The weights, by name; whole tensors."""
        return self.tensors("weights")

    def tensors(self, need: Need) -> Tensors:
        """Whole tensors of a kind, by name; AutopruneError if the need for them is not declared."""
        if need not in self.data:
            raise AutopruneError(
                f"a criterion reads {need} and does not declare it",
                where=f"group {self.group.name}",
                hint=f"declare needs=({', '.join(repr(n) for n in (*self.data, need))},)",
            )
        return self.data[need]

    def occurrences(self, need: Need = "weights") -> list[Occurrence]:
        """The tensors of a kind, and the dimensions of these, along which the units lie."""
        tensors, uid = self.tensors(need), self.group.leaf.uid
        if need in ("weights", "gradients"):
            return [o for o in self.group.occurrences if o.parameter in tensors]
        return [
            Occurrence(name, dim)
            for name in tensors
            for dim, axis in enumerate(tensors.types[name])
            if uid in axis.uids
        ]

    def positions(self, occurrence: Occurrence, need: Need = "weights") -> Indices:
        """Where each unit lies along a dimension; shape [units, positions of a unit]."""
        axis = self.tensors(need).types[occurrence.parameter][occurrence.dim]
        return unit_positions(axis, self.group.leaf.uid)

    def sums(self, function: Callable[..., Array], *of: Need) -> Scores:
        """Sum of an elementwise function over all slices of each unit, in the shape of scores.

        Args:
            function: of one array for each kind in `of`; it is called with parts of them.
            of: kinds whose tensors have the same shapes; by default `weights`.

        Raises:
            AutopruneError: if one of the kinds lacks a tensor of the first.
        """
        kinds = [self.tensors(need) for need in of or ("weights",)]
        total = np.zeros(prod(self.shape))
        for occurrence in self.occurrences(of[0] if of else "weights"):
            name = occurrence.parameter
            if lacking := [n for n, tensors in zip(of, kinds, strict=False) if name not in tensors]:
                raise AutopruneError(f"there are no {lacking[0]} of {name}")
            arrays = np.broadcast_arrays(*(tensors[name] for tensors in kinds))
            for dims, places in self._places(kinds[0].types[name], occurrence.dim):
                sums = _sums_along(function, arrays, dims)
                owned = places >= 0
                total += np.bincount(places[owned], sums[owned], minlength=total.size)
        return total.reshape(self.shape)

    def _places(
        self, axes: tuple[Axis, ...], dim: int
    ) -> Iterator[tuple[tuple[int, ...], Indices]]:
        """Dimensions, and the place among the scores of the positions along them, -1 for none."""
        inners = owners(axes[dim], self.group.leaf.uid)
        if self.outer is None:
            yield from (((dim,), inner) for inner in inners)
            return
        (inner,), outer = inners, self.outer.uid
        named = [d for d, axis in enumerate(axes) if outer in axis.uids]
        other = dim if dim in named else named[0]
        (rows,) = owners(axes[other], outer)
        if other == dim:
            yield (dim,), np.where(inner < 0, -1, rows * self.units + inner)
        else:
            grid = np.where(inner < 0, -1, rows[:, None] * self.units + inner)
            yield (min(dim, other), max(dim, other)), grid if other < dim else grid.T

    def matrices(self, need: Need = "weights") -> list[Array]:
        """Per occurrence, the slices of each unit as a row; shape [units, elements of a unit].

        Scores made of them choose the same units for every outer unit.
        """
        rows = []
        for occurrence in self.occurrences(need):
            moved = np.moveaxis(self.tensors(need)[occurrence.parameter], occurrence.dim, 0)
            rows.append(moved[self.positions(occurrence, need)].reshape(self.units, -1))
        return rows


def magnitudes(array: Array) -> Array:
    """Absolute values, also of integers, of which the least has none."""
    found: Array = np.abs(array.astype(np.float64) if array.dtype.kind in "iub" else array)
    return found


def squares(array: Array) -> Array:
    """Squared magnitudes, also of complex numbers and of integers, which would overflow."""
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    return np.square(array) if array.dtype.kind != "c" else array.real**2 + array.imag**2


def _sums_along(
    function: Callable[..., Array], arrays: tuple[Array, ...], dims: tuple[int, ...]
) -> Scores:
    """Sum of an elementwise function over all but some dimensions, which are in order.

    Of large arrays a few rows at a time, which then need no memory that is not in the caches.
    """
    length, size = len(arrays[0]), arrays[0].size
    rows = max(1, CHUNK * length // max(1, size))
    parts = [
        _summed(function(*(array[i : i + rows] for array in arrays)), dims)
        for i in range(0, max(1, length), rows)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts) if 0 in dims else np.sum(parts, 0)


def _summed(array: Array, dims: tuple[int, ...]) -> Scores:
    """Sum over all but some dimensions; leading ones go first, as whole rows are added fast."""
    total: Scores
    if len(dims) > 1:
        others = tuple(d for d in range(array.ndim) if d not in dims)
        total = array.sum(axis=others, dtype=np.float64)
        return total
    (dim,) = dims
    before, kept, after = prod(array.shape[:dim]), array.shape[dim], prod(array.shape[dim + 1 :])
    if dim:
        array = array.reshape(before, kept * after).sum(axis=0, dtype=np.float64)
    total = array.reshape(kept, after).sum(axis=1, dtype=np.float64)
    return total
