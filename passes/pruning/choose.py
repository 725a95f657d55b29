"""Which units stay: scored by a criterion, then as many of each group as the budget asks for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import lcm

import numpy as np

from autoprune.analysis.dead import dead_units
from autoprune.analysis.dependence import as_read
from autoprune.analysis.nesting import outer_leaves
from autoprune.errors import BudgetError, GraphError
from autoprune.ir.axes import Leaf
from autoprune.ir.positions import Kept
from autoprune.passes.pruning.allocation import LEAST
from autoprune.passes.pruning.analysed import Analysis
from autoprune.passes.pruning.criteria import Array, Scores, Tensors, score_groups
from autoprune.passes.pruning.obstacles import Obstacles
from autoprune.passes.pruning.problem import SOLVERS, OutOfReach, Problem
from autoprune.passes.pruning.request import Request
from autoprune.passes.pruning.roles import same_roles
from autoprune.passes.pruning.scope import Movable, by_group
from autoprune.passes.pruning.steps import Candidate, block_sizes, bundles_of, roomy_block
from autoprune.report.progress import say

PREFERRED_MULTIPLES = (8, 4, 2)
"""Channel multiples tried in turn where none is asked for; vector units want the first."""


def check_finite(weights: Mapping[str, Array]) -> None:
    """Refuse weights that no criterion can compare: GraphError for a NaN or an infinity."""
    for name, array in weights.items():
        if array.dtype.kind in "fc":
            bad = int(array.size - np.isfinite(array).sum())
            if bad:
                raise GraphError(
                    f"{bad} of {array.size} weights are NaN or infinite",
                    where=f"parameter {name}",
                    hint="repair or retrain the model before pruning it",
                )


@dataclass(frozen=True)
class UnitScores:
    """How much units matter; those with minus infinity go first.

    Attributes:
        scores: by leaf.
        outers: by leaf, the leaf per whose units its units are chosen.
    """

    scores: Mapping[int, Scores]
    outers: Mapping[int, Leaf] = field(default_factory=dict)


def score_units(
    analysis: Analysis, weights: Mapping[str, Array], movable: Movable, request: Request
) -> UnitScores:
    """Score the units of groups that may shrink; for the budget `dead`, what is alive with one.

    The weights are trained parameters by value name, and what is computed from them alone. Errors
    as `score_groups`.
    """
    say("choosing units")
    typed, groups = analysis.typed, movable.groups
    if request.budget[0] == "dead":
        dead = dead_units(typed, groups, weights, analysis.effective)
        return UnitScores({uid: (~units).astype(np.float64) for uid, units in dead.items()})
    read = as_read(groups, typed, [n for n in analysis.effective if n in weights])
    outers = outer_leaves(typed, movable.free) if request.options.per_outer else {}
    scores = score_groups(
        request.criterion,
        read,
        {"weights": Tensors(weights, typed.types)},
        np.random.default_rng(request.seed),
        outers,
    )
    if request.options.allocation == "global" and not request.criterion.comparable:
        scores = [of_group / max(float(of_group.mean()), LEAST) for of_group in scores]
    by_leaf = zip((group.leaf.uid for group in groups), scores, strict=True)
    return UnitScores(dict(by_leaf), outers)


def allocate(analysis: Analysis, movable: Movable, scored: UnitScores, request: Request) -> Kept:
    """The units with the highest scores, such that the budget is met; BudgetError says why not."""
    options, (name, asked) = request.options, request.budget
    solver = SOLVERS.find(name)
    if solver.by_name and (isinstance(asked, Mapping) or solver.literal):
        asked = by_group(analysis, asked, name, movable)
    groups, alike = movable.groups, options.uniform or options.keep_config
    tied = [*movable.ties, *(same_roles(groups) if alike else ())]
    axes = [
        axis
        for parameter in analysis.graph.parameters
        if parameter.kind == "parameter"
        for axis in analysis.typed.types[parameter.value.name]
    ]

    def attempt(multiple: int, *, exact: bool) -> Kept:
        blocks = block_sizes(axes, movable.free, multiple)
        if request.multiple_of is None:
            blocks = {g.leaf.uid: roomy_block(g.units, blocks[g.leaf.uid]) for g in groups}
        candidates = [
            Candidate(
                group,
                scored.scores[group.leaf.uid],
                lcm(blocks[group.leaf.uid], movable.steps.get(group.leaf.uid, 1)),
                options.min_units,
                scored.outers.get(group.leaf.uid),
            )
            for group in groups
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
        why = Obstacles(analysis.typed, analysis.found, movable.reasons, name)
        hint = error.hint or why.advice(
            options, reducible=bool(groups), multiple_of=request.multiple_of
        )
        raise BudgetError(error.what, where=why.largest(), hint=hint) from None
