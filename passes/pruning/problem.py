"""A budget to be met, and what meets it: solvers, known by the name of the budget.

    @solver("energy", of="the energy of an inference")
    def meet_energy(problem):
        return meet(problem, energy_at)

    ap.prune(model, x, energy=0.5)

That is all it takes. In the package it stands with its fellows (`shares.py` where counts of units
are asked for, `allocation.py` for costs), and `request.py` tells type checkers of the keyword.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autoprune.errors import BudgetError
from autoprune.ir.positions import Kept
from autoprune.passes.pruning.steps import Bundle
from autoprune.passes.registry import Registry

TOLERANCE = 0.01
"""A budget is met when the cost is at most this share of the full cost away from it."""


class OutOfReach(BudgetError):
    """A budget that the groups which may shrink cannot meet."""


@dataclass(frozen=True)
class Problem:
    """What a budget is met for.

    Attributes:
        bundles: the groups that may shrink, with the scores of their units.
        name: of the budget.
        asked: how much of it to keep; where groups are named, by leaf.
        costs: has the cost of each name, as a function of kept counts by leaf, where leaves that
            are not listed are whole.
        ranking: in which order groups give up units, `uniform` or `global`.
        per_cost: whether scores count per cost that units save.
        tolerance: share of the full cost that the result may be away from the budget.
        exact: a budget between two steps is an error; otherwise the nearest step is taken.
    """

    bundles: tuple[Bundle, ...]
    name: str
    asked: Any
    costs: Any = None
    ranking: str = "uniform"
    per_cost: bool = False
    tolerance: float = TOLERANCE
    exact: bool = True


@dataclass(frozen=True)
class Solver:
    """How a budget is met.

    Attributes:
        solve: from a problem to the kept units by leaf; groups that stay whole are left out.
        by_name: whether it may be asked for group by group, as a dict from patterns.
        literal: whether it says itself how many units stay, so that multiples count only where
            they are asked for.
        of: what it keeps a fraction of, which makes it a flag of the command line.
    """

    solve: Callable[[Problem], Kept]
    by_name: bool = False
    literal: bool = False
    of: str = ""


SOLVERS: Registry[Solver] = Registry("budget", BudgetError)

Solve = Callable[[Problem], Kept]


def solver(
    name: str, *, by_name: bool = False, literal: bool = False, of: str = ""
) -> Callable[[Solve], Solve]:
    """Make a function the one that meets a budget; see `Solver`."""

    def register(solve: Solve) -> Solve:
        SOLVERS.add(name, Solver(solve, by_name, literal, of))
        return solve

    return register
