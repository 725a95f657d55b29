"""How many units of each group stay, so that a cost comes down to a share of itself.

All steps of all groups are put into one order; a budget is then a prefix of that order, found by
bisection, because costs only fall.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np

from autoprune.errors import BudgetError
from autoprune.ir.positions import Kept
from autoprune.passes.pruning.problem import OutOfReach, Problem, solver
from autoprune.passes.pruning.shares import check_share
from autoprune.passes.pruning.steps import Bundle, counts_at, keep_best
from autoprune.passes.registry import Registry

COUNTED = {
    "flops": "no operator of the model counts FLOPs; convolutions, matrix products, attention and "
    "recurrent layers do",
    "params": "the model has no parameters",
    "memory": "the model computes no tensors",
}
"""What it means that a cost is nothing."""


LEAST = 1e-30
"""What stands for nothing where one divides by it."""

Cost = Callable[[Mapping[int, int]], int]
"""From kept counts by leaf, where leaves that are not listed are whole."""

Ranking = Callable[[Bundle, Cost | None], list[float]]
"""From a bundle to a number for each of its steps: those with the lowest are taken first. The cost
is given where scores count per cost that is saved."""


def by_share(bundle: Bundle, cost: Cost | None) -> list[float]:
    """The same share of every group."""
    return [1 - counts[0] / bundle.levels[0][0] for counts in bundle.levels[1:]]


def by_score(bundle: Bundle, cost: Cost | None) -> list[float]:
    """The units with the lowest scores, wherever they are: their mean in each step."""
    ranked = [np.sort(member.scores, axis=-1) for member in bundle.members]
    keys = []
    for before, after in pairwise(range(len(bundle.levels))):
        counts = list(zip(bundle.levels[before], bundle.levels[after], strict=True))
        removed = [
            scores[..., scores.shape[-1] - most : scores.shape[-1] - least]
            for scores, (most, least) in zip(ranked, counts, strict=True)
        ]
        key = float(np.mean([float(scores.mean()) for scores in removed]))
        if cost is not None:
            units = sum(most - least for most, least in counts)
            saved = cost(counts_at([bundle], [before])) - cost(counts_at([bundle], [after]))
            key *= units / max(saved, LEAST)
        keys.append(key)
    return list(accumulate(keys, max))


RANKINGS: Registry[Ranking] = Registry("allocation", BudgetError)
RANKINGS.add("uniform", by_share)
RANKINGS.add("global", by_score)


@solver("memory", of="the memory for activations")
@solver("params", of="the parameters")
@solver("flops", of="the FLOPs (a multiply-add counts two, so of the MACs)")
def meet_cost(problem: Problem) -> Kept:
    """Remove units until the cost of the problem's name is a share of all; errors as `meet`."""
    return meet(problem, getattr(problem.costs, problem.name))


@solver("groups", of="the units of all groups together")
def keep_units(problem: Problem) -> Kept:
    """Keep a share of the units of all groups together, exactly; errors as `meet`."""
    whole = counts_at(problem.bundles, [0] * len(problem.bundles))
    half_a_unit = 0.5 / max(1, sum(whole.values()))
    return meet(
        replace(problem, tolerance=half_a_unit, exact=True),
        lambda sizes: sum({**whole, **sizes}.values()),
    )


def meet(problem: Problem, cost_at: Cost) -> Kept:
    """Remove units until a cost is a share of the full cost.

    Raises:
        OutOfReach: if it cannot be met within the tolerance, where the message names the nearest
            reachable share, or if there is nothing of that cost.
        BudgetError: if the share is out of range, or there is no such ranking.
    """
    name, bundles, exact = problem.name, problem.bundles, problem.exact
    share = check_share(name, problem.asked)
    rank = RANKINGS.find(problem.ranking)
    if not bundles:
        raise OutOfReach(f"{name}={share:g} cannot be reached: no group of units may shrink")
    full = cost_at({})
    if not full:
        others = " or ".join(f"{other}=" for other in ("params", "channels") if other != name)
        raise OutOfReach(
            f"{name}={share:g} means nothing: {COUNTED.get(name, 'there is none to begin with')}",
            hint=f"give {others} instead",
        )
    target, slack = share * full, problem.tolerance * full

    keyed = [
        (key, level, b)
        for b, bundle in enumerate(bundles)
        for level, key in enumerate(rank(bundle, cost_at if problem.per_cost else None), 1)
    ]
    order = [(b, level) for _, level, b in sorted(keyed)]

    def cost(levels: Sequence[int]) -> int:
        return cost_at(counts_at(bundles, levels))

    def levels_after(steps: int) -> list[int]:
        levels = [0] * len(bundles)
        for b, level in order[:steps]:
            levels[b] = level
        return levels

    least = cost(levels_after(len(order)))
    if least > target + slack:
        raise OutOfReach(
            f"{name}={share:g} cannot be reached: the prunable groups allow {name}="
            f"{np.ceil(least / full * 1000) / 1000:g} or more"
        )
    low = bisect_left(range(len(order)), True, key=lambda n: cost(levels_after(n)) <= target)
    levels = levels_after(low)
    reached = cost(levels)
    if reached < target - slack and low > 0:
        above, approached = _approach(cost, order[low - 1 :], levels_after(low - 1), target, slack)
        if abs(approached - target) <= abs(reached - target):
            levels, reached = above, approached
    if abs(reached - target) > slack and (exact or not any(levels)):
        in_blocks = any(member.block > 1 for bundle in bundles for member in bundle.members)
        raise OutOfReach(
            f"{name}={share:g} cannot be met within {100 * problem.tolerance:.2g} %: the nearest "
            f"reachable is {name}={reached / full:.4f}, as groups shrink in steps too large for "
            "this",
            hint="ask for what is reachable"
            + (", or use a smaller multiple_of" if in_blocks else "")
            + (", or leave out Options(exact_budget=True)" if exact else ""),
        )
    return keep_best(bundles, levels)


def _approach(
    cost: Callable[[Sequence[int]], int],
    steps: Sequence[tuple[int, int]],
    levels: list[int],
    target: float,
    slack: float,
) -> tuple[list[int], int]:
    """Where the next step in order is too large, take later and smaller ones instead."""
    reached = cost(levels)
    stuck: set[int] = set()
    for b, level in steps:
        if reached <= target:
            break
        if b in stuck:
            continue
        attempt = [*levels[:b], level, *levels[b + 1 :]]
        cheaper = cost(attempt)
        if cheaper == reached:
            continue  # a step that saves nothing: the most memory is in use elsewhere
        if abs(cheaper - target) <= max(slack, abs(reached - target)) and (
            cheaper >= target - slack
        ):
            levels, reached = attempt, cheaper
        else:
            stuck.add(b)
    return levels, reached
