"""Units that take no part: removing them changes nothing, as weights are zero.

Either what makes the unit is zero, and stays zero until it is read; or all that reads it is zero;
or the one for one reader and the other for the next. So zeros are followed through the graph from
those weights that are zero for the unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from autoprune.analysis.dependence import as_read
from autoprune.analysis.guarantees import guarantee_with, spared_parameters
from autoprune.analysis.typing import TypedGraph
from autoprune.ir.group import Group
from autoprune.ir.positions import Indices, unit_positions

Arrays = Mapping[str, npt.NDArray[Any]]
Mask = npt.NDArray[np.bool_]


def dead_units(
    typed: TypedGraph, groups: Sequence[Group], weights: Arrays, effective: Sequence[str]
) -> dict[int, Mask]:
    """By leaf, a mask of the units of groups that take no part; shape [units].

    `weights` has, by value name, trained parameters and what layers read as their weights;
    `effective` names the latter.
    """
    values = {name: weights[name] for name in effective if name in weights}
    read = as_read(groups, typed, list(values))
    dead = {g.leaf.uid: np.zeros(g.units, dtype=bool) for g in groups}
    found = True
    while found:  # what dead units read or make may be dead without them
        found = False
        for group, places in zip(groups, read, strict=True):
            new = _dead(typed, group, places, values) & ~dead[group.leaf.uid]
            if new.any():
                found = True
                dead[group.leaf.uid] |= new
                values = {n: _without(typed, n, a, group.leaf.uid, new) for n, a in values.items()}
    return dead


def _dead(typed: TypedGraph, group: Group, places: Group, values: Arrays) -> Mask:
    """Units that take no part as long as all others do."""
    uid = group.leaf.uid
    names = list(dict.fromkeys(o.parameter for o in places.occurrences))
    zero = np.array([_zero_units(typed, name, values.get(name), uid) for name in names])
    if not zero.size:
        return np.zeros(group.units, dtype=bool)
    spared = spared_parameters(typed, [group])
    patterns, which = np.unique(zero, axis=1, return_inverse=True)
    harmless = []
    for pattern in patterns.T:
        are_zero = frozenset(name for name, is_zero in zip(names, pattern, strict=True) if is_zero)
        made_of_zeros = all(n in are_zero for n in names if uid not in spared.get(n, ()))
        harmless.append(
            bool(are_zero) and (made_of_zeros or guarantee_with(typed, uid, are_zero).exact)
        )
    return np.array(harmless)[which.reshape(-1)]


def _along(typed: TypedGraph, name: str, uid: int) -> list[tuple[int, Indices]]:
    """Dimensions of a weight that a leaf is in, and where each unit lies along them."""
    axes = enumerate(typed.types[name])
    return [(dim, unit_positions(axis, uid)) for dim, axis in axes if uid in axis.uids]


def _zero_units(typed: TypedGraph, name: str, array: npt.NDArray[Any] | None, uid: int) -> Mask:
    """The units of which all of a weight is zero."""
    along = _along(typed, name, uid)
    zero: Mask = np.full(len(along[0][1]), array is not None)
    if array is not None:
        for dim, positions in along:
            others = tuple(d for d in range(array.ndim) if d != dim)
            zero &= ~(array != 0).any(axis=others)[positions].any(axis=1)
    return zero


def _without(
    typed: TypedGraph, name: str, array: npt.NDArray[Any], uid: int, units: Mask
) -> npt.NDArray[Any]:
    for dim, positions in _along(typed, name, uid):
        array = array.copy()
        np.moveaxis(array, dim, 0)[positions[units].reshape(-1)] = 0
    return array
