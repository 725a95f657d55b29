"""How many units of each group stay, so that a cost comes down to a share of itself.

All steps of all groups are put into one order; a budget is then a prefix of that order, found by
bisection, because costs only fall.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np

from autoprune.errors import BudgetError
from autoprune.ir.positions import Kept
from autoprune.passes.pruning.criteria import Scores
from autoprune.passes.pruning.shares import check_share
from autoprune.passes.pruning.steps import (
    Bundle,
    Candidate,
    OutOfReach,
    bundles_of,
    counts_at,
    keep_best,
)

TOLERANCE = 0.01
"""A budget is met when the cost is at most this share of the full cost away from it."""

COUNTED = {
    "flops": "no operator of the model counts FLOPs; convolutions, matrix products, attention and "
    "recurrent layers do",
    "params": "the model has no parameters",
    "memory": "the model computes no tensors",
}
"""What it means that a cost is nothing."""


def _order(
    bundles: Sequence[Bundle], strategy: Literal["uniform", "global"]
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


def _step_scores(bundle: Bundle) -> list[float]:
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


def meet_budget(
    candidates: Sequence[Candidate],
    cost: Callable[[Mapping[int, int]], int],
    name: str,
    share: float,
    *,
    ties: Iterable[frozenset[int]] = (),
    strategy: Literal["uniform", "global"] = "uniform",
    tolerance: float = TOLERANCE,
    exact: bool = True,
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
        exact: a budget between two steps is an error; otherwise the nearest step is taken.

    Returns:
        Kept units by leaf; groups that stay whole are left out.

    Raises:
        OutOfReach: if it cannot be met within the tolerance, where the message names the nearest
            reachable share, or if there is nothing of that cost.
        BudgetError: if the share is out of range, or there is no such strategy.
    """
    share = check_share(name, share)
    if strategy not in ("uniform", "global"):
        raise BudgetError(f"there is no allocation {strategy!r}", hint="use 'uniform' or 'global'")
    bundles = bundles_of(candidates, ties)
    if not bundles:
        raise OutOfReach(f"{name}={share:g} cannot be reached: no group of units may shrink")
    order = _order(bundles, strategy)
    full = cost({})
    if not full:
        others = " or ".join(f"{other}=" for other in ("params", "channels") if other != name)
        raise OutOfReach(
            f"{name}={share:g} means nothing: {COUNTED[name]}", hint=f"give {others} instead"
        )
    target = share * full

    def levels_after(steps: int) -> list[int]:
        levels = [0] * len(bundles)
        for b, level in order[:steps]:
            levels[b] = level
        return levels

    low, high = 0, len(order)
    least = cost(counts_at(bundles, levels_after(high)))
    if least > target + tolerance * full:
        raise OutOfReach(
            f"{name}={share:g} cannot be reached: the prunable groups allow {name}="
            f"{np.ceil(least / full * 1000) / 1000:g} or more"
        )
    while low < high:
        middle = (low + high) // 2
        if cost(counts_at(bundles, levels_after(middle))) <= target:
            high = middle
        else:
            low = middle + 1
    levels = levels_after(low)
    reached = cost(counts_at(bundles, levels))
    if reached < target - tolerance * full and low > 0:
        above, approached = _approach(
            bundles, order, levels_after(low - 1), low - 1, cost, target, tolerance * full
        )
        if abs(approached - target) <= abs(reached - target):
            levels, reached = above, approached
    if abs(reached - target) > tolerance * full and (exact or not any(levels)):
        raise OutOfReach(
            f"{name}={share:g} cannot be met within {100 * tolerance:.2g} %: the nearest reachable "
            f"is {name}={reached / full:.4f}, as groups shrink in steps too large for this",
            hint="ask for what is reachable"
            + (", or use a smaller multiple_of" if any(c.block > 1 for c in candidates) else "")
            + (", or leave out Options(exact_budget=True)" if exact else ""),
        )
    return keep_best(bundles, levels)


def _approach(
    bundles: Sequence[Bundle],
    order: Sequence[tuple[int, int]],
    levels: list[int],
    start: int,
    cost: Callable[[Mapping[int, int]], int],
    target: float,
    slack: float,
) -> tuple[list[int], int]:
    """Where the next step in order is too large, take later and smaller ones instead."""
    reached = cost(counts_at(bundles, levels))
    stuck: set[int] = set()
    for b, level in order[start:]:
        if reached <= target:
            break
        if b in stuck:
            continue
        attempt = [*levels[:b], level, *levels[b + 1 :]]
        cheaper = cost(counts_at(bundles, attempt))
        if cheaper == reached:
            continue  # a step that saves nothing: the most memory is in use elsewhere
        if abs(cheaper - target) <= max(slack, abs(reached - target)) and (
            cheaper >= target - slack
        ):
            levels, reached = attempt, cheaper
        else:
            stuck.add(b)
    return levels, reached
