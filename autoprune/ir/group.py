"""Groups: parameter slices that must be removed together, and what removing them does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from autoprune.ir.axes import Leaf
from autoprune.ir.graph import quoted
from autoprune.ir.reason import NO_REASON, Reason


class Guarantee(IntEnum):
    """What removing a unit does to the outputs, from the strongest guarantee to the weakest."""

    ZERO_INVARIANT = 0
    """Zero the slices that produce the unit and all of it is zero: cutting equals zeroing."""
    FOLDED = 1
    """What becomes of the unit is a constant, which goes into the bias of the layer that reads it:
    cutting equals zeroing the slices that produce the unit."""
    MASKED = 2
    """The unit's activations do not become zero, but the slices that read them go with it, so
    cutting equals zeroing the unit's slices in producers and consumers."""
    COMPENSATED = 3
    """A statistic over the cut axis is rescaled so that cutting still equals zeroing."""
    APPROXIMATE = 4
    """The function changes; the error is measured."""

    def __str__(self) -> str:
        return self.name.lower().replace("_", "-")

    @property
    def exact(self) -> bool:
        """Whether cutting equals zeroing up to rounding."""
        return self is not Guarantee.APPROXIMATE


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A place of a leaf: a parameter, by value name, and the dimension whose type mentions it."""

    parameter: str
    dim: int

    def __str__(self) -> str:
        return f"{self.parameter}:{self.dim}"


@dataclass(frozen=True, slots=True)
class Group:
    """A prunable leaf axis and all its occurrences in parameters.

    Attributes:
        name: stable across traces, e.g. `layer1.0.conv1.weight:0`.
        leaf: the leaf axis; its size is the number of units.
        occurrences: the parameter slices that go when a unit goes.
        guarantee: what removing a unit does to the outputs.
        reason: why the guarantee is not `zero-invariant`, or an empty one.
        spared: parameters in which the unit need not be zero: it is in what they are multiplied by.
        folds: calls whose bias takes up the constant that a folded unit leaves.
    """

    name: str
    leaf: Leaf
    occurrences: tuple[Occurrence, ...]
    guarantee: Guarantee
    reason: Reason = NO_REASON
    spared: tuple[str, ...] = ()
    folds: tuple[str, ...] = ()

    @property
    def units(self) -> int:
        """Number of units, each of which may be removed."""
        return self.leaf.size

    def __str__(self) -> str:
        parts = [f"{self.leaf} {self.guarantee}: {_places(self.name, self.occurrences)}"]
        parts += _because(self.reason)
        for word, names in (("spares", self.spared), ("folds", self.folds)):
            parts += [f"{word} {', '.join(map(quoted, names))}"] if names else []
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Pinned:
    """A leaf axis that occurs in parameters, at so many positions, and cannot be pruned.

    It is named as groups are.
    """

    name: str
    size: int
    where: tuple[Occurrence, ...]
    reason: Reason

    def __str__(self) -> str:
        pinned = f"{self.size} pinned: {_places(self.name, self.where)}"
        return "; ".join((pinned, *_because(self.reason)))


def _places(name: str, places: Sequence[Occurrence]) -> str:
    """Parameter dimensions, the first with the number of the leaf if `name` has that."""
    number = name.removeprefix(str(places[0]))
    texts = [f"{quoted(place.parameter)}:{place.dim}" for place in places]
    return ", ".join((texts[0] + number, *texts[1:]))


def _because(reason: Reason) -> list[str]:
    if reason == NO_REASON:
        return []
    call = f" ({quoted(reason.node.name)})" if reason.node else ""
    return [f"because {json.dumps(reason.text, ensure_ascii=False)}{call}"]
