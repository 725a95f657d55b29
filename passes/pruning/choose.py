"""Which units stay: scored by a criterion, then as many of each group as the budget asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from math import lcm
from types import MappingProxyType

import numpy as np

from autoprune.analysis.dead import dead_units
from autoprune.analysis.effective import as_read
from autoprune.analysis.nesting import outer_leaves
from autoprune.errors import BudgetError
from autoprune.ir.axes import Leaf
from autoprune.ir.group import Group
from autoprune.ir.positions import Kept
from autoprune.ir.reason import Reason
from autoprune.passes.pruning.allocation import relative_to_group
from autoprune.passes.pruning.analysed import Analysis
from autoprune.passes.pruning.criteria import Array, Scores, Tensors, score_groups
from autoprune.passes.pruning.obstacles import Obstacles
from autoprune.passes.pruning.problem import SOLVERS, OutOfReach, Problem
from autoprune.passes.pruning.request import Request
from autoprune.passes.pruning.roles import same_roles
from autoprune.passes.pruning.scope import by_group
from autoprune.passes.pruning.steps import Candidate, block_sizes, bundles_of, roomy_block
from autoprune.report.progress import say

PREFERRED_MULTIPLES = (8, 4, 2)
"""Channel multiples tried in turn where none is asked for; vector units want the first."""

NO_LEAVES: Mapping[int, Leaf] = MappingProxyType({})
NO_REASONS: Mapping[int, Reason] = MappingProxyType({})
NO_STEPS: Mapping[int, int] = MappingProxyType({})


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
        AutopruneError: if the criterion needs something else, or returns no scores.
    """
    say("choosing units")
    typed = analysis.typed
    if request.budget[0] == "dead":
        dead = dead_units(typed, allowed, weights, analysis.effective)
        alive = [(~dead[g.leaf.uid]).astype(np.float64) for g in allowed]
        return allocate(analysis, allowed, alive, ties, request, NO_LEAVES, reasons)
    read = as_read(allowed, typed, [n for n in analysis.effective if n in weights])
    free = frozenset(g.leaf.uid for g in allowed)
    outers = outer_leaves(typed, free) if request.options.per_outer else NO_LEAVES
    scores = score_groups(
        request.criterion,
        read,
        {"weights": Tensors(weights, typed.types)},
        np.random.default_rng(request.seed),
        outers,
    )
    if request.options.allocation == "global" and not request.criterion.comparable:
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
    options, (name, asked) = request.options, request.budget
    solver = SOLVERS.find(name)
    if solver.by_name and (isinstance(asked, Mapping) or solver.literal):
        asked = by_group(analysis, asked, name, allowed, reasons)
    tied = [*ties, *(same_roles(allowed) if options.uniform or options.keep_config else ())]
    free = frozenset(g.leaf.uid for g in allowed)
    axes = [
        axis
        for parameter in analysis.graph.parameters
        if parameter.kind == "parameter"
        for axis in analysis.typed.types[parameter.value.name]
    ]

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
        problem = Problem(
            bundles_of(candidates, tied), name, asked, analysis.costs,
            options.allocation or "uniform", request.criterion.per_cost, request.tolerance, exact,
        )  # fmt: skip
        return solver.solve(problem)

    try:
        if request.multiple_of is None and not solver.literal:
            for multiple in PREFERRED_MULTIPLES:
                with suppress(OutOfReach):
                    return attempt(multiple, exact=True)
        return attempt(request.multiple_of or 1, exact=options.exact_budget)
    except OutOfReach as error:
        why = Obstacles(analysis.typed, analysis.found, reasons, name)
        hint = error.hint or why.advice(
            options, reducible=bool(allowed), multiple_of=request.multiple_of
        )
        raise BudgetError(error.what, where=why.largest(), hint=hint) from None
