"""How many units of each group stay, where that is asked for group by group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np

from autoprune.errors import BudgetError
from autoprune.ir.positions import Kept
from autoprune.passes.pruning.problem import OutOfReach, Problem, solver
from autoprune.passes.pruning.steps import Bundle, Candidate, keep_best


@solver("channels", by_name=True)
def keep_share(problem: Problem) -> Kept:
    """Keep the same share of every group, as nearly as blocks and minima allow.

    Asked for is the fraction of the units to keep, or such by leaf, where groups that are not
    listed stay whole.

    Raises:
        BudgetError: if a share is not strictly between 0 and 1, or groups that can only shrink
            alike are asked for different ones.
        OutOfReach: if no group shrinks.
    """
    share = problem.asked
    if isinstance(share, Mapping):
        shares = {uid: check_share(problem.name, part) for uid, part in share.items()}
    else:
        part = check_share(problem.name, share)
        shares = {m.group.leaf.uid: part for bundle in problem.bundles for m in bundle.members}
    levels = []
    for bundle in problem.bundles:
        wanted = _alike(bundle, shares)
        distances = [abs(counts[0] / bundle.levels[0][0] - wanted) for counts in bundle.levels]
        levels.append(int(np.argmin(distances)))
    if not any(levels):
        raise _whole(problem)
    return keep_best(problem.bundles, levels)


def _whole(problem: Problem) -> OutOfReach:
    """No group shrinks, as less is asked for than half a step."""
    shown = "{...}" if isinstance(problem.asked, Mapping) else f"{problem.asked:g}"
    what = f"{problem.name}={shown} leaves every group whole"
    steps = [b.levels[1][0] / b.levels[0][0] for b in problem.bundles if len(b.levels) > 1]
    if not steps:
        return OutOfReach(f"{what}: no group of units may shrink")
    return OutOfReach(
        f"{what}: the first step of any keeps {max(steps):.3g} of its units",
        hint=f"ask for {problem.name}={math.floor(1000 * max(steps)) / 1000:g} or less, or a "
        "smaller multiple_of or min_units",
    )


def _alike(bundle: Bundle, shares: Mapping[int, float]) -> float:
    """The share that all members are asked to keep."""
    asked = {m.group.name: shares.get(m.group.leaf.uid, 1.0) for m in bundle.members}
    if len(set(asked.values())) > 1:
        raise _torn({name: f"{share:g}" for name, share in asked.items()})
    return next(iter(asked.values()))


def _torn(asked: Mapping[str, str]) -> BudgetError:
    """Groups that can only shrink alike are asked to keep different parts."""
    first, what = next(iter(asked.items()))
    other, differs = next((n, w) for n, w in asked.items() if w != what)
    return BudgetError(
        f"{first} is to keep {what} and {other} {differs}, but these groups shrink alike",
        where="an attribute of the model, or an option, states their sizes together",
        hint="ask for the same of both, or allow a network of another class with "
        "Options(keep_class=False)",
    )


@solver("sizes", by_name=True, literal=True)
def keep_counts(problem: Problem) -> Kept:
    """Keep exactly as many units as asked for, by leaf; groups that are not listed stay whole.

    Raises:
        BudgetError: if a count is none, or groups that can only shrink alike are asked for
            different ones.
        OutOfReach: if a group cannot keep as many, or none shrinks.
    """
    counts = problem.asked
    candidates = [member for bundle in problem.bundles for member in bundle.members]
    for candidate in candidates:
        _check_count(candidate, counts.get(candidate.group.leaf.uid, 1), candidates)
    levels = []
    for bundle in problem.bundles:
        whole = bundle.levels[0]
        asked = tuple(
            counts.get(m.group.leaf.uid, n) for m, n in zip(bundle.members, whole, strict=True)
        )
        if asked not in bundle.levels:
            raise _unreachable(bundle, asked)
        levels.append(bundle.levels.index(asked))
    if not any(levels):
        raise OutOfReach(
            "sizes leaves every group whole: it states the sizes that they have",
            hint="give a smaller number of units for one of them",
        )
    return keep_best(problem.bundles, levels)


def _check_count(candidate: Candidate, count: Any, candidates: Iterable[Candidate]) -> None:
    group = candidate.group
    whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
    if not whole or not 1 <= count <= group.units:
        raise BudgetError(
            f"sizes asks for {count!r} units where there are {group.units}",
            where=f"group {group.name}",
            hint=f"give a whole number from 1 to {group.units}"
            + _factors(group.name, {c.group.name: c.group.units for c in candidates}),
        )


def _factors(name: str, units: Mapping[str, int]) -> str:
    """The groups that an axis is made of, if they are several."""
    axis, slash, _ = name.rpartition("/")
    names = [other for other in units if slash and other.startswith(f"{axis}/")]
    if len(names) < 2:
        return ""
    whole = ", ".join(f"{other!r} with {units[other]}" for other in names)
    return f"; along {axis} lie the groups {whole}, so name the one that you mean"


def _unreachable(bundle: Bundle, asked: tuple[int, ...]) -> BudgetError:
    """No level of a bundle has the counts that are asked for."""
    for i, member in enumerate(bundle.members):
        reachable = sorted({counts[i] for counts in bundle.levels})
        if asked[i] not in reachable:
            below = [n for n in reachable if n < asked[i]][-1:]
            above = [n for n in reachable if n > asked[i]][:1]
            return OutOfReach(
                f"{member.group.name} cannot keep {asked[i]} units; nearest are "
                + " and ".join(map(str, below + above)),
                hint="ask for one of these"
                + (", or use a smaller multiple_of" if member.block > 1 else ""),
            )
    groups = [m.group for m in bundle.members]
    return _torn({g.name: f"{n} of {g.units}" for g, n in zip(groups, asked, strict=True)})


@solver("dead", literal=True)
def keep_alive(problem: Problem) -> Kept:
    """Keep as few units as possible, but all whose score is not zero."""
    levels = []
    for bundle in problem.bundles:
        least = [np.count_nonzero(m.scores) for m in bundle.members]
        enough = [all(n >= m for n, m in zip(level, least, strict=True)) for level in bundle.levels]
        levels.append(sum(enough) - 1)
    return keep_best(problem.bundles, levels)


def check_share(name: str, share: Any) -> float:
    """The fraction that a budget is.

    Raises:
        BudgetError: if it is not a number strictly between 0 and 1.
    """
    if isinstance(share, Mapping):
        raise BudgetError(
            f"{name} takes one fraction for the whole network",
            hint='channels={"layer1.*": 0.8, "*": 0.5} keeps a fraction by pattern, and '
            'sizes={"layer1.*": 24} a number of units',
        )
    number = None if isinstance(share, bool) or not isinstance(share, Real) else float(share)
    if number is not None and 0 < number < 1:
        return number
    hint = f"budgets are the fraction to keep: {name}=0.5 keeps half"
    if number == 1:
        hint = "1 keeps everything, so there is nothing to prune; " + hint
    elif number == 0:
        hint = "0 would keep nothing; " + hint
    elif number is not None and 1 < number <= 100:
        hint = f"if percent are meant, give {name}={number / 100:g}; " + hint
    raise BudgetError(f"{name}={share!r} is not a fraction between 0 and 1", hint=hint)
