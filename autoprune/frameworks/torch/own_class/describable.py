"""Which sizes a model's configuration can state, found by building networks from it.

A configuration may state one number for several groups (the width of all feed-forward layers), a
size only in steps (a multiple of the number of heads), or not at all (a size that follows from one
that stays). Groups that it states together are tied, others are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations, islice
from math import gcd

from torch import nn

from autoprune.analysis.typing import TypedGraph
from autoprune.frameworks.network import Describable
from autoprune.frameworks.torch.own_class.configuration import Blueprint, shapes_of
from autoprune.ir import axes as ax

STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128)
"""Steps in which a size is tried to shrink."""

UNIONS = 40
"""Most unions of classes that are tried for one that is not stated alone."""

OBJECTION = "no values of its configuration state this size alone"

Class = frozenset[int]


class Draft:
    """Answers whether a configuration can state sizes, without cutting anything.

    Args:
        model: with a configuration.
        typed: its graph.
    """

    def __init__(self, model: nn.Module, typed: TypedGraph) -> None:
        self._blueprint = Blueprint(model)
        self._shapes = shapes_of(model)
        self._axes = {axis for shape in typed.types.values() for axis in shape}
        self._owned = {
            name: typed.types[p.value.name]
            for p in typed.graph.parameters
            for name in p.names
            if name in self._shapes
        }
        leaves = {leaf for axis in self._axes for leaf in ax.leaves(axis)}
        self.units = {leaf.uid: leaf.size for leaf in leaves}

    def states(self, sizes: Mapping[int, int]) -> bool:
        """Whether some values of the configuration give every parameter its shape.

        Args:
            sizes: new sizes by leaf; others stay.
        """
        changes: dict[float, set[float]] = {}
        for axis in self._axes:
            new = ax.size(axis, sizes)
            if new != axis.size:
                changes.setdefault(axis.size, set()).add(new)
        shapes = {
            name: tuple(ax.size(axis, sizes) for axis in axes) for name, axes in self._owned.items()
        }
        return self._blueprint.numbers(changes, {**self._shapes, **shapes}) is not None


def describable(draft: Draft, classes: Sequence[Class]) -> Describable:
    """Tie classes of leaves, and find their steps, until a configuration can state all of them.

    Args:
        draft: of the model.
        classes: leaves that shrink alike anyway, most parameters first.
    """
    alone = [uids for uids in classes if _level(draft, uids)]
    left = [uids for uids in classes if uids not in alone]
    found = list(alone)
    while left:
        uids = left.pop(0)
        peers = [other for other in left if _whole(draft, other) == _whole(draft, uids)]
        for union in _unions(uids, peers):
            if _level(draft, union):
                found.append(union)
                left = [other for other in left if not other <= union]
                break
    together: list[Class] = []
    for uids in sorted(found, key=lambda uids: min(i for i, c in enumerate(classes) if c <= uids)):
        trial = [*together, uids]
        if any(draft.states(_sizes(draft, trial, share)) for share in (0.5, 0.75, 0.25)):
            together = trial
    described = frozenset[int]().union(*together)
    steps: dict[int, int] = {}
    for uids in together:
        steps |= _at(draft, uids, _step(draft, uids))
    return Describable(
        tuple(together),
        steps,
        {uid: OBJECTION for uids in classes for uid in uids if uid not in described},
    )


def _whole(draft: Draft, uids: Class) -> int:
    """The largest number of equal steps that all leaves of a class can be taken in."""
    return gcd(*(draft.units[uid] for uid in uids))


def _at(draft: Draft, uids: Class, count: int) -> dict[int, int]:
    """Sizes of the leaves of a class of which `count` of all steps stay."""
    units = _whole(draft, uids)
    return {uid: draft.units[uid] // units * count for uid in uids}


def _sizes(draft: Draft, classes: Iterable[Class], share: float) -> dict[int, int]:
    return {
        uid: size
        for uids in classes
        for uid, size in _at(draft, uids, max(1, int(_whole(draft, uids) * share))).items()
    }


def _level(draft: Draft, uids: Class) -> int:
    """A count to which a class can shrink alone; 0 if there is none."""
    units = _whole(draft, uids)
    tried = dict.fromkeys((units // 2, 3 * units // 4, units // 4, units - 1))
    counts = (count for count in tried if 0 < count < units)
    return next((n for n in counts if draft.states(_at(draft, uids, n))), 0)


def _step(draft: Draft, uids: Class) -> int:
    """The smallest step in which a class can shrink alone."""
    units = _whole(draft, uids)
    for step in STEPS:
        first = (units - 1) // step * step
        counts = [count for count in (first, first - step) if count > 0]
        if counts and all(draft.states(_at(draft, uids, count)) for count in counts):
            return step
    return _level(draft, uids)


def _unions(uids: Class, peers: Sequence[Class]) -> Iterator[Class]:
    """Unions with other classes, small ones first."""
    chosen = chain.from_iterable(combinations(peers, n + 1) for n in range(len(peers)))
    yield from (uids.union(*others) for others in islice(chosen, UNIONS))
    if next(chosen, None):
        yield uids.union(*peers)
