"""Criteria, by name or as functions, and what they declare.

The units with the lowest scores go first:

    @ap.criterion("largest")
    def largest(units):
        return np.max([abs(rows).max(axis=1) for rows in units.matrices()], axis=0)

    @ap.criterion("taylor", needs=("weights", "gradients"), comparable=True)
    def taylor(units):
        return np.abs(units.sums(np.multiply, "weights", "gradients"))
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from autoprune.errors import AutopruneError
from autoprune.ir.axes import Leaf
from autoprune.ir.group import Group
from autoprune.passes.pruning.criteria.view import NEEDS, Need, Scores, Tensors, UnitView
from autoprune.passes.registry import Registry

Score = Callable[[UnitView], Any]
"""From the units of a group to one number for each."""

WEIGHTS: frozenset[Need] = frozenset(("weights",))


@dataclass(frozen=True)
class Criterion:
    """How units are scored.

    Attributes:
        function: from the units of a group to their scores: one finite number for each, shape
            [units], or where they may be chosen anew for each outer unit [outer units, units].
        needs: what it looks at; the view holds nothing else.
        comparable: whether scores of different groups compare as they are. Otherwise, where groups
            compete, the scores of each are divided by their mean.
        per_cost: whether, where groups compete, scores count per cost that the units save, as those
            that estimate by how much the loss rises.
    """

    function: Score
    needs: frozenset[Need] = WEIGHTS
    comparable: bool = False
    per_cost: bool = False

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.needs) - set(NEEDS)):
            raise AutopruneError(
                f"criteria cannot need {unknown[0]!r}", hint=f"needs are {', '.join(NEEDS)}"
            )

    def __call__(self, units: UnitView) -> Any:
        return self.function(units)


CRITERIA: Registry[Criterion] = Registry(
    "criterion", otherwise="a function from UnitView to one score per unit"
)


def criterion(
    name: str,
    *,
    needs: Iterable[Need] = WEIGHTS,
    comparable: bool = False,
    per_cost: bool = False,
) -> Callable[[Score], Criterion]:
    """Make a function a criterion that is known by name; its declarations are those of `Criterion`.

    Raises:
        AutopruneError: if the name is taken, or there is no such need.
    """

    def register(function: Score) -> Criterion:
        made = Criterion(function, frozenset(needs), comparable, per_cost)
        CRITERIA.add(name, made)
        return made

    return register


def forget_criterion(name: str) -> None:
    """Undo `criterion`; AutopruneError if there is no criterion of that name."""
    CRITERIA.forget(name)


def find_criterion(criterion: str | Score, given: Collection[Need] = WEIGHTS) -> Criterion:
    """A criterion by name, or of a function, that may look at what is `given`.

    A function that says nothing else needs weights; what it may say are attributes of the names
    that `Criterion` has.

    Raises:
        AutopruneError: if the name is unknown, or it needs something else.
    """
    if isinstance(criterion, Criterion) or not callable(criterion):
        found = criterion if isinstance(criterion, Criterion) else CRITERIA.find(criterion)
    else:
        declared = {n: getattr(criterion, n) for n in _DECLARED if hasattr(criterion, n)}
        declared["needs"] = frozenset(declared.get("needs", WEIGHTS))
        found = Criterion(criterion, **declared)
    if missing := [need for need in NEEDS if need in found.needs and need not in given]:
        raise AutopruneError(
            f"the criterion {criterion!r} needs {' and '.join(missing)}, of which there is nothing",
            hint=f"pass {' and '.join(missing)} with the weights, or take a criterion of "
            f"{' and '.join(given) or 'nothing'}: "
            + ", ".join(sorted(n for n, c in CRITERIA.items() if c.needs <= set(given))),
        )
    return found


_DECLARED = ("needs", "comparable", "per_cost")


def score_groups(
    criterion: Criterion,
    groups: Sequence[Group],
    data: Mapping[Need, Tensors],
    rng: np.random.Generator,
    outers: Mapping[int, Leaf] = MappingProxyType({}),
) -> list[Scores]:
    """The scores of the units of groups, one group after the other; errors as `score`.

    The groups name the places of their units in weights; by leaf, `outers` has the leaf per whose
    units its units are chosen.
    """
    criterion = find_criterion(criterion, data.keys())
    seen = {need: data[need] for need in criterion.needs}
    return [
        score(criterion, UnitView(group, seen, rng, outers.get(group.leaf.uid))) for group in groups
    ]


def score(criterion: Score, units: UnitView) -> Scores:
    """Apply a criterion; AutopruneError if it does not return one finite number for each unit."""
    what = f"a criterion must return {units.units} finite scores"
    where = f"group {units.group.name}"
    try:
        scores = np.asarray(criterion(units), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise AutopruneError(f"{what}: {error}", where=where) from error
    if scores.shape not in ((units.units,), units.shape) or not np.isfinite(scores).all():
        raise AutopruneError(f"{what}, got shape {scores.shape}", where=where)
    return scores
