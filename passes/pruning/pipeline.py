"""What happens to an analysed graph, whatever it was read from: choose, and report.

Reading a model, cutting it and checking the result differ between frameworks; each has a module
of its own above this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from math import lcm
from types import MappingProxyType
from typing import Any

import numpy as np

from autoprune.analysis.dead import dead_units
from autoprune.analysis.effective import as_read
from autoprune.analysis.nesting import outer_leaves
from autoprune.analysis.resizing import sizes_of
from autoprune.analysis.typing import unused_parameters
from autoprune.errors import BudgetError, GraphError
from autoprune.ir.axes import Leaf
from autoprune.ir.graph import spelled
from autoprune.ir.group import Group
from autoprune.ir.positions import Kept
from autoprune.ir.reason import Reason
from autoprune.passes.pruning.allocation import meet_budget, relative_to_group
from autoprune.passes.pruning.analysed import Analysis
from autoprune.passes.pruning.criteria import Array, GroupWeights, Scores, score
from autoprune.passes.pruning.obstacles import Obstacles
from autoprune.passes.pruning.request import Request
from autoprune.passes.pruning.roles import same_roles
from autoprune.passes.pruning.scope import by_group
from autoprune.passes.pruning.shares import keep_at_least, keep_counts, keep_share
from autoprune.passes.pruning.steps import Candidate, OutOfReach, block_sizes, roomy_block
from autoprune.report import Report, Subject
from autoprune.report.explain import group_rows, pinned_rows, unknown_operators
from autoprune.report.progress import say

PREFERRED_MULTIPLES = (8, 4, 2)
"""Channel multiples tried in turn where none is asked for; vector units want the first."""

COSTS = ("flops", "params", "memory")
"""Budgets that are shares of a cost."""

NO_LEAVES: Mapping[int, Leaf] = MappingProxyType({})
NO_REASONS: Mapping[int, Reason] = MappingProxyType({})
NO_STEPS: Mapping[int, int] = MappingProxyType({})


LITTLE = 0.5
"""If exact groups leave more than this share of the parameters, the report says why."""


def check_finite(weights: Mapping[str, Array]) -> None:
    """Refuse weights that no criterion can compare.

    Raises:
        GraphError: naming the first parameter with a NaN or an infinity.
    """
    for name, array in weights.items():
        if array.dtype.kind in "fc":
            bad = int(array.size - np.isfinite(array).sum())
            if bad:
                raise GraphError(
                    f"{bad} of {array.size} weights are NaN or infinite",
                    where=f"parameter {name}",
                    hint="repair or retrain the model before pruning it",
                )


def choose(
    analysis: Analysis,
    weights: Mapping[str, Array],
    allowed: Sequence[Group],
    ties: Iterable[frozenset[int]],
    request: Request,
    reasons: Mapping[int, Reason] = NO_REASONS,
    steps: Mapping[int, int] = NO_STEPS,
) -> Kept:
    """Kept units by leaf, chosen by a criterion, such that the budget is met.

    Args:
        analysis: of the model.
        weights: trained parameters by value name, and what is computed from them alone.
        allowed: the groups that may shrink.
        ties: leaves that have to shrink alike.
        request: the budget and how to meet it.
        reasons: by leaf, why other groups may not shrink.
        steps: by leaf, what its kept units have to be multiples of.

    Raises:
        BudgetError: if it cannot be met.
    """
    say("choosing units")
    if request.budget[0] == "dead":
        dead = dead_units(analysis.typed, allowed, weights, analysis.effective)
        alive = [(~dead[g.leaf.uid]).astype(np.float64) for g in allowed]
        return allocate(analysis, allowed, alive, ties, request, NO_LEAVES, reasons)
    types = analysis.typed.types
    rng = np.random.default_rng(request.seed)
    read = as_read(allowed, analysis.typed, [n for n in analysis.effective if n in weights])
    free = frozenset(g.leaf.uid for g in allowed)
    outers = outer_leaves(analysis.typed, free) if request.options.per_outer else {}
    scores = [
        score(
            request.criterion,
            GroupWeights(group, weights, types, rng, outers.get(group.leaf.uid)),
        )
        for group in read
    ]
    if request.options.allocation == "global":
        scores = [relative_to_group(of_group) for of_group in scores]
    return allocate(analysis, allowed, scores, ties, request, outers, reasons, steps)


def allocate(
    analysis: Analysis,
    allowed: Sequence[Group],
    scores: Sequence[Scores],
    ties: Iterable[frozenset[int]],
    request: Request,
    outers: Mapping[int, Leaf] = NO_LEAVES,
    reasons: Mapping[int, Reason] = NO_REASONS,
    steps: Mapping[int, int] = NO_STEPS,
) -> Kept:
    """Kept units by leaf, those with the highest scores, such that the budget is met.

    Args:
        analysis: of the model.
        allowed: the groups that may shrink.
        scores: of the units of each of them; those with a score of minus infinity go first.
        ties: leaves that have to shrink alike.
        request: the budget and how to meet it.
        outers: by leaf, the leaf per whose units its units are chosen.
        reasons: by leaf, why other groups may not shrink.
        steps: by leaf, what its kept units have to be multiples of.

    Raises:
        BudgetError: if it cannot be met; the message names what is kept whole, and why.
    """
    options = request.options
    ties = list(ties)
    if options.uniform or options.keep_config:
        ties.extend(same_roles(allowed))
    free = frozenset(g.leaf.uid for g in allowed)
    axes = [
        axis
        for parameter in analysis.graph.parameters
        if parameter.kind == "parameter"
        for axis in analysis.typed.types[parameter.value.name]
    ]
    meet = _meeting(analysis, allowed, ties, request, reasons)

    def attempt(multiple: int, *, exact: bool) -> Kept:
        blocks = block_sizes(axes, free, multiple)
        if request.multiple_of is None:
            blocks = {g.leaf.uid: roomy_block(g.units, blocks[g.leaf.uid]) for g in allowed}
        candidates = [
            Candidate(
                group,
                scored,
                lcm(blocks[group.leaf.uid], steps.get(group.leaf.uid, 1)),
                options.min_units,
                outers.get(group.leaf.uid),
            )
            for group, scored in zip(allowed, scores, strict=True)
        ]
        return meet(candidates, exact)

    try:
        if request.multiple_of is None and request.budget[0] not in ("sizes", "dead"):
            for multiple in PREFERRED_MULTIPLES:
                with suppress(OutOfReach):
                    return attempt(multiple, exact=True)
        return attempt(request.multiple_of or 1, exact=options.exact_budget)
    except OutOfReach as error:
        why = Obstacles(analysis.typed, analysis.found, reasons, request.budget[0])
        hint = error.hint or why.advice(
            options, reducible=bool(allowed), multiple_of=request.multiple_of
        )
        raise BudgetError(error.what, where=why.largest(), hint=hint) from None


def _meeting(
    analysis: Analysis,
    allowed: Sequence[Group],
    ties: Sequence[frozenset[int]],
    request: Request,
    reasons: Mapping[int, Reason],
) -> Callable[[Sequence[Candidate], bool], Kept]:
    """What meets the budget with candidates; the flag says whether only exactly."""
    name, asked = request.budget
    strategy = request.options.allocation or "uniform"
    if name == "channels":
        share = (
            by_group(analysis, asked, name, allowed, reasons)
            if isinstance(asked, Mapping)
            else asked
        )
        return lambda candidates, exact: keep_share(candidates, share, ties)
    if name == "sizes":
        counts = by_group(analysis, asked, name, allowed, reasons)
        return lambda candidates, exact: keep_counts(candidates, counts, ties)
    if name == "dead":
        return lambda candidates, exact: keep_at_least(
            candidates, {c.group.leaf.uid: int(c.scores.sum()) for c in candidates}, ties
        )
    if name == "groups":
        whole = {g.leaf.uid: g.units for g in allowed}
        half_a_unit = 0.5 / max(1, sum(whole.values()))
        return lambda candidates, exact: meet_budget(
            candidates, lambda sizes: sum({**whole, **sizes}.values()), name, asked,
            ties=ties, strategy=strategy, tolerance=half_a_unit,
        )  # fmt: skip
    cost = getattr(analysis.costs, name)
    return lambda candidates, exact: meet_budget(
        candidates, cost, name, asked,
        ties=ties, strategy=strategy, tolerance=request.tolerance, exact=exact,
    )  # fmt: skip


def shortfall(request: Request, report: Report) -> str:
    """How far a result is from what was asked for, if it is further than the tolerance."""
    name, asked = request.budget
    if name == "dead" and not report.pruned:
        return (
            "Nothing is dead: every unit that may go has weights or a bias that are not zero where "
            "it is made, and weights that are not zero where it is read. (Without weights, a unit "
            "still puts out its bias, or what a norm adds.)"
        )
    if name not in COSTS:
        return ""
    reached = getattr(report.after, name) / getattr(report.before, name)
    if abs(reached - asked) <= request.tolerance:
        return ""
    return (
        f"{name}={asked:g} cannot be met within {request.tolerance:.0%}, as groups shrink in steps "
        f"too large for this; the network has {reached:.4f}, the nearest reachable."
    )


def make_report(
    analysis: Analysis, kept: Kept, reasons: Mapping[int, Reason], **fields: Any
) -> Report:
    """The report on a choice; an empty choice gives the report on what could be chosen."""
    typed, found, costs = analysis.typed, analysis.found, analysis.costs
    exact = [g for g in found.groups if g.guarantee.exact]
    return Report(
        before=costs.at({}),
        after=costs.at(sizes_of(kept)),
        least=costs.at({g.leaf.uid: 1 for g in exact}),
        groups=group_rows(typed, found, costs, kept, reasons),
        pinned=pinned_rows(found),
        unknown_operators=unknown_operators(typed),
        analysis_seconds=analysis.seconds,
        notes=(*analysis.probing.notes(), *_notes(analysis)),
        inputs=tuple(spelled(v.name, v.dtype, v.shape) for v in analysis.graph.inputs),
        subject=Subject(typed, {g.name: g.leaf.uid for g in found.groups}, kept),
        **fields,
    )


def _notes(analysis: Analysis) -> list[str]:
    """Why little or nothing can be pruned, if so."""
    found, full = analysis.found, analysis.costs.params({})
    exact = [g for g in found.groups if g.guarantee.exact]
    least = analysis.costs.params({g.leaf.uid: 1 for g in exact})
    notes = []
    unused = unused_parameters(analysis.graph)
    if unused:
        notes.append(
            f"{len(unused)} parameters are not used in evaluation mode and stay as they are, "
            f"such as {unused[0].name}; code that uses them in training may not fit any more."
        )
    if not full:
        return [*notes, "The model has no parameters."]
    if least < LITTLE * full:
        return notes
    largest = sorted(found.pinned, key=lambda p: -p.size)[:3]
    because = "; ".join(f"{p.where[0]} ({p.size}): {p.reason}" for p in largest)
    notes.append(
        f"Exact groups cover only {1 - least / full:.0%} of the parameters. "
        f"The largest pinned axes are {because}."
        if exact
        else f"Nothing can be pruned exactly. The largest pinned axes are {because}."
    )
    if len(exact) < len(found.groups):
        notes.append(
            f"{len(found.groups) - len(exact)} more groups change the function when they are "
            "pruned; allow them with Options(approximate=True)."
        )
    return notes
