"""How many units of each group stay, so that a budget is met.

Every group can only shrink step by step: by units, by blocks where a channel multiple is asked
for, in step with other groups where counts must agree. All steps of all groups are put into one
order; a budget is then a prefix of that order, found by bisection, because costs only fall.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import gcd, lcm, prod
from typing import Literal

import numpy as np

from autoprune.errors import BudgetError
from autoprune.ir.axes import Axis, Leaf, Sum
from autoprune.ir.group import Group
from autoprune.ir.positions import Indices, Kept, PerOuter
from autoprune.passes.criteria import Scores

TOLERANCE = 0.01
"""A budget is met when the cost is at most this share of the full cost away from it."""


@dataclass(frozen=True)
class Candidate:
    """A group that may shrink.

    Attributes:
        group: the group.
        scores: importance of each unit; shape [units], or [outer units, units] to choose units
            anew for each outer unit.
        block: kept counts are multiples of this (or all units).
        least: units that stay at least.
        outer: the leaf that the outer units belong to, if there are any.
    """

    group: Group
    scores: Scores
    block: int = 1
    least: int = 1
    outer: Leaf | None = None


@dataclass(frozen=True)
class _Bundle:
    """Candidates whose kept shares must be equal, with the counts they can take."""

    members: tuple[Candidate, ...]
    levels: tuple[tuple[int, ...], ...]
    """Kept counts of the members, from all units downwards."""


def block_sizes(axes: Iterable[Axis], free: frozenset[int], multiple_of: int) -> dict[int, int]:
    """Blocks to keep units in, so that every axis stays a multiple (or whole).

    Args:
        axes: axes of parameters.
        free: leaves that may shrink.
        multiple_of: what the sizes of `axes` are to be multiples of.

    Returns:
        Units to a block by leaf. Of several free factors the innermost is put in blocks; a unit
        that owns many positions (a head of fixed width, a flattened channel) may need none.
    """
    blocks = dict.fromkeys(free, 1)

    def require(axis: Axis, multiple: int) -> None:
        if isinstance(axis, Leaf):
            if axis.uid in free:
                blocks[axis.uid] = lcm(blocks[axis.uid], multiple)
        elif isinstance(axis, Sum):
            for term, times in Counter(axis.terms).items():
                require(term, multiple // gcd(multiple, times))
        else:
            fixed = prod(f.size for f in axis.factors if f.uids.isdisjoint(free))
            multiple //= gcd(multiple, fixed)
            for factor in reversed(axis.factors):
                if not factor.uids.isdisjoint(free):
                    require(factor, multiple)
                    multiple //= gcd(multiple, factor.size)

    for axis in axes:
        require(axis, multiple_of)
    return blocks


def roomy_block(units: int, block: int) -> int:
    """The largest divisor of `block` by powers of two that leaves a group four steps to shrink."""
    while block % 2 == 0 and units < 4 * block:
        block //= 2
    return block


def _bundles(candidates: Sequence[Candidate], ties: Iterable[frozenset[int]]) -> list[_Bundle]:
    """Join tied candidates; ties that share a leaf join up."""
    by_leaf = {c.group.leaf.uid: c for c in candidates}
    parent = {uid: uid for uid in by_leaf}

    def root(uid: int) -> int:
        while parent[uid] != uid:
            uid = parent[uid]
        return uid

    for tie in ties:
        uids = [uid for uid in tie if uid in parent]
        for uid in uids[1:]:
            parent[root(uid)] = root(uids[0])
    joined: dict[int, list[Candidate]] = {}
    for uid, candidate in by_leaf.items():
        joined.setdefault(root(uid), []).append(candidate)
    return [_Bundle(tuple(m), tuple(_levels(m))) for m in joined.values()]


def _levels(members: Sequence[Candidate]) -> list[tuple[int, ...]]:
    steps = gcd(*(c.group.units for c in members))
    per_step = [c.group.units // steps for c in members]
    # Between all units and the least, every member has to be left with whole blocks.
    block = lcm(*(c.block // gcd(c.block, n) for c, n in zip(members, per_step, strict=True)))
    least = max(1, *(-(-c.least // n) for c, n in zip(members, per_step, strict=True)))
    allowed = (steps, *range((steps - 1) // block * block, least - 1, -block))
    return list(zip(*([n * step for step in allowed] for n in per_step), strict=True))


def _order(
    bundles: Sequence[_Bundle], strategy: Literal["uniform", "global"]
) -> list[tuple[int, int]]:
    """All steps as (bundle, level reached), cheapest loss first."""
    keyed = []
    for b, bundle in enumerate(bundles):
        if strategy == "uniform":
            keys = [1 - counts[0] / bundle.levels[0][0] for counts in bundle.levels[1:]]
        else:
            keys = list(accumulate(_step_scores(bundle), max))
        keyed += [(key, level, b) for level, key in enumerate(keys, 1)]
    return [(b, level) for _, level, b in sorted(keyed)]


def _step_scores(bundle: _Bundle) -> list[float]:
    """Mean score of the units that each step removes."""
    ranked = [np.sort(member.scores, axis=-1) for member in bundle.members]

    def removed(scores: Scores, before: int, after: int) -> float:
        units = scores.shape[-1]
        return float(scores[..., units - before : units - after].mean())

    return [
        float(np.mean([removed(*step) for step in zip(ranked, *counts, strict=True)]))
        for counts in pairwise(bundle.levels)
    ]


def relative_to_group(scores: Scores) -> Scores:
    """Scores divided by their mean, so that those of different groups compare."""
    return scores / max(float(scores.mean()), 1e-30)


def _counts(bundles: Sequence[_Bundle], levels: Sequence[int]) -> dict[int, int]:
    return {
        member.group.leaf.uid: bundle.levels[level][i]
        for bundle, level in zip(bundles, levels, strict=True)
        for i, member in enumerate(bundle.members)
    }


def _keep_best(bundles: Sequence[_Bundle], levels: Sequence[int]) -> Kept:
    """The best-scored units of each group; ties go to the lower index."""
    kept: dict[int, Indices | PerOuter] = {}
    for bundle, level in zip(bundles, levels, strict=True):
        for i, member in enumerate(bundle.members):
            count = bundle.levels[level][i]
            if count < member.group.units:
                ranked = np.argsort(-member.scores, kind="stable", axis=-1)
                best = np.sort(ranked[..., :count], axis=-1).astype(np.intp)
                kept[member.group.leaf.uid] = (
                    best
                    if member.outer is None or best.ndim == 1
                    else PerOuter(member.outer.uid, best)
                )
    return kept


def keep_share(
    candidates: Sequence[Candidate], share: float, ties: Iterable[frozenset[int]] = ()
) -> Kept:
    """Keep the same share of every group, as nearly as blocks and minima allow.

    Returns kept units by leaf; groups that stay whole are left out.

    Raises:
        BudgetError: if the share is not strictly between 0 and 1.
    """
    check_share("channels", share)
    bundles = _bundles(candidates, ties)
    levels = []
    for bundle in bundles:
        wanted = share * bundle.levels[0][0]
        distances = [abs(counts[0] - wanted) for counts in bundle.levels]
        levels.append(int(np.argmin(distances)))
    return _keep_best(bundles, levels)


def meet_budget(
    candidates: Sequence[Candidate],
    cost: Callable[[Mapping[int, int]], int],
    name: str,
    share: float,
    *,
    ties: Iterable[frozenset[int]] = (),
    strategy: Literal["uniform", "global"] = "uniform",
    tolerance: float = TOLERANCE,
) -> Kept:
    """Remove units until `cost` is `share` of the full cost.

    Args:
        candidates: groups that may shrink.
        cost: cost at given kept counts by leaf; leaves not listed are whole.
        name: what the cost is called in messages: `flops`, `params`.
        share: fraction of the cost to keep, between 0 and 1.
        ties: sets of leaves whose kept shares must be equal.
        strategy: `uniform` removes the same share of every group, `global` the units with the
            lowest scores, wherever they are.
        tolerance: share of the full cost that the result may be away from the budget.

    Returns:
        Kept units by leaf; groups that stay whole are left out.

    Raises:
        BudgetError: if the share is out of range, or cannot be met within the tolerance; the
            message names the nearest reachable one.
    """
    check_share(name, share)
    if strategy not in ("uniform", "global"):
        raise BudgetError(f"there is no allocation {strategy!r}", hint="use 'uniform' or 'global'")
    bundles = _bundles(candidates, ties)
    order = _order(bundles, strategy)
    full = cost({})
    if not full:
        raise BudgetError(f"the model has no {name} to reduce")
    target = share * full

    def levels_after(steps: int) -> list[int]:
        levels = [0] * len(bundles)
        for b, level in order[:steps]:
            levels[b] = level
        return levels

    low, high = 0, len(order)
    least = cost(_counts(bundles, levels_after(high)))
    if least > target + tolerance * full:
        raise BudgetError(
            f"{name}={share:g} cannot be reached: the prunable groups allow {name}="
            f"{np.ceil(least / full * 1000) / 1000:g} or more",
            hint="ask for more, ignore less, or allow groups whose removal changes the function "
            "with Options(approximate=True) (--approximate on the command line)",
        )
    while low < high:
        middle = (low + high) // 2
        if cost(_counts(bundles, levels_after(middle))) <= target:
            high = middle
        else:
            low = middle + 1
    levels = levels_after(low)
    reached = cost(_counts(bundles, levels))
    if reached < target - tolerance * full and low > 0:
        levels, reached = _approach(
            bundles, order, levels_after(low - 1), low - 1, cost, target, tolerance * full
        )
    if abs(reached - target) > tolerance * full:
        raise BudgetError(
            f"{name}={share:g} cannot be met within {100 * tolerance:.2g} %: the nearest reachable "
            f"is {name}={reached / full:.4f}",
            hint="groups shrink in steps too large for this; ask for the nearest reachable "
            "share, or use a smaller multiple_of",
        )
    return _keep_best(bundles, levels)


def _approach(
    bundles: Sequence[_Bundle],
    order: Sequence[tuple[int, int]],
    levels: list[int],
    start: int,
    cost: Callable[[Mapping[int, int]], int],
    target: float,
    slack: float,
) -> tuple[list[int], int]:
    """Where the next step in order is too large, take later and smaller ones instead."""
    reached = cost(_counts(bundles, levels))
    stuck: set[int] = set()
    for b, level in order[start:]:
        if reached <= target:
            break
        if b in stuck:
            continue
        attempt = [*levels[:b], level, *levels[b + 1 :]]
        cheaper = cost(_counts(bundles, attempt))
        if cheaper == reached:
            continue  # a step that saves nothing: the most memory is in use elsewhere
        if abs(cheaper - target) <= max(slack, abs(reached - target)) and (
            cheaper >= target - slack
        ):
            levels, reached = attempt, cheaper
        else:
            stuck.add(b)
    return levels, reached


def check_share(name: str, share: float) -> None:
    """Check that a budget is a fraction.

    Raises:
        BudgetError: if it is not strictly between 0 and 1.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise BudgetError(
            f"{name}={share!r} is not a fraction between 0 and 1",
            hint="budgets are the fraction to keep: flops=0.5 keeps half",
        )
