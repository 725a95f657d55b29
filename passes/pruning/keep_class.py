"""Groups that are left alone, so that a network of the model's own class can follow the cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoprune.analysis.cost import CostModel
from autoprune.errors import AutopruneError, BudgetError
from autoprune.frameworks.network import Choice, Delivered, Describable, OwnClass
from autoprune.ir.group import Group, Guarantee
from autoprune.ir.reason import Reason
from autoprune.passes.pruning.analysed import Analysis
from autoprune.passes.pruning.request import Options, Request
from autoprune.passes.pruning.result import Result
from autoprune.passes.pruning.roles import joined, role
from autoprune.passes.pruning.scope import Movable
from autoprune.report import Report

FAIR_PART = 0.25
"""Share of the reduction that a result of the model's own class has to reach."""


@dataclass(frozen=True)
class Attempt:
    """The pruned network, how it came about, and what could shrink."""

    result: Result[Any]
    choice: Choice
    delivered: Delivered
    movable: Movable

    def as_wanted(self, *, configured: bool) -> bool:
        """Whether it is of the model's class and, if asked for, its configuration describes it."""
        described = not (configured and self.delivered.obstacle)
        return self.result.plan.rebuildable and described

    @property
    def shortcoming(self) -> str:
        """Why it is not as wanted."""
        return self.delivered.obstacle or self.delivered.form_reason


def fit_class(
    own: OwnClass | None,
    analysis: Analysis,
    movable: Movable,
    request: Request,
    attempt: Callable[[Movable], Attempt],
) -> Attempt:
    """The best attempt, of the model's own class if possible and wanted; errors as `allocate`."""
    options = request.options
    if own is None:
        return attempt(movable)
    if (options.keep_config or options.uniform) and _is_configured(own, options):
        try:
            return _fit(own, analysis, movable, request, attempt, configured=True)
        except BudgetError:
            if options.keep_config:
                raise
    return _fit(own, analysis, movable, request, attempt, configured=False)


def _fit(
    own: OwnClass,
    analysis: Analysis,
    movable: Movable,
    request: Request,
    attempt: Callable[[Movable], Attempt],
    *,
    configured: bool,
) -> Attempt:
    """See `fit_class`; with `configured`, the model's configuration has to describe it, too."""
    options = request.options
    stated = Describable()

    def tied(movable: Movable) -> Movable:
        free = movable.free
        shared = own.ties(analysis.typed, free) if options.keep_class else ()
        return replace(
            movable, ties=(*shared, *(uids & free for uids in stated.classes)), steps=stated.steps
        )

    movable = tied(movable)
    roles = _roles(movable.groups, movable.ties, analysis.costs)
    if configured:
        stated = own.describable(analysis.typed, roles)
        left = {uid: Reason(f"left alone: {why}") for uid, why in stated.objections.items()}
        movable = tied(movable.without(left))
        roles = _roles(movable.groups, movable.ties, analysis.costs)
    full = attempt(movable)
    if not options.keep_class or full.as_wanted(configured=configured):
        return full
    if request.budget[0] == "sizes" and not options.keep_config:
        return full  # exactly what is asked for, in whatever class
    objections = own.objections(full.choice, roles, configured=configured)
    while True:
        left = {
            uid: Reason(
                f"left alone, to keep the model's class: {objection}",
                remedy="let the result be of another class with Options(keep_class=False)",
            )
            for uid, objection in objections.items()
        }
        rest = tied(movable.without(left))
        try:
            fitted = attempt(rest)
        except BudgetError:
            if options.keep_config:
                raise
            return full
        if not configured or fitted.as_wanted(configured=True) or not rest.groups:
            break
        # Each size can be stated alone, but not these together.
        last = next(uids for uids in reversed(roles) if not uids <= objections.keys())
        objections |= dict.fromkeys(last, fitted.shortcoming)
    if options.keep_config and not fitted.as_wanted(configured=True):
        raise AutopruneError(
            "no configuration was found that describes the network when the budget is met: "
            f"{fitted.shortcoming}",
            where=own.configuration,
            hint='leave out keep_config and keep the result with result.save("small.safetensors"), '
            "or ask for less",
        )
    worthwhile = configured or _worth(fitted.result.report, full.result.report)
    return fitted if fitted.result.plan.rebuildable and worthwhile else full


def _is_configured(own: OwnClass, options: Options) -> bool:
    """Whether a configuration can follow; AutopruneError if it has to, and cannot."""
    if not own.is_configured(required=options.keep_config and options.keep_class):
        return False
    if options.keep_config and not options.keep_class:
        raise AutopruneError(
            "keep_config=True needs keep_class=True: a configuration describes the model's class"
        )
    return options.keep_class


def _roles(
    groups: Sequence[Group], ties: Iterable[frozenset[int]], costs: CostModel
) -> list[frozenset[int]]:
    """Groups that play the same role in different layers, those with most parameters first.

    Groups whose sizes the model's code states only once share a role.
    """
    by_role: dict[tuple[object, Guarantee], set[int]] = {}
    for group in groups:
        key = (role(group.name, group.units), group.guarantee)
        by_role.setdefault(key, set()).add(group.leaf.uid)
    roles = joined([*map(frozenset, by_role.values()), *ties])
    return sorted(roles, key=lambda uids: costs.params(dict.fromkeys(uids, 1)))


def _worth(own: Report, full: Report) -> bool:
    """Whether keeping the class leaves a fair part of the reduction."""
    reduction = own.before.params - own.after.params
    return reduction >= FAIR_PART * (full.before.params - full.after.params)
