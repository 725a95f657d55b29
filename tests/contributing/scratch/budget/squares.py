"""A budget of what grows with the square of the units."""

from __future__ import annotations

from autoprune.ir.positions import Kept
from autoprune.passes.pruning.allocation import meet
from autoprune.passes.pruning.problem import Problem, solver
from autoprune.passes.pruning.steps import counts_at


@solver("squares", of="the squares of the units of all groups")
def meet_squares(problem: Problem) -> Kept:
    whole = counts_at(problem.bundles, [0] * len(problem.bundles))
    return meet(problem, lambda sizes: sum(n * n for n in {**whole, **sizes}.values()))
