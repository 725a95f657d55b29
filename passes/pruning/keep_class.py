"""Groups that are left alone, so that a network of the model's own class can follow the cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from autoprune.analysis.cost import CostModel
from autoprune.errors import AutopruneError, BudgetError
from autoprune.frameworks.network import Describable, OwnClass
from autoprune.ir.group import Group, Guarantee
from autoprune.ir.positions import Kept
from autoprune.ir.reason import Reason
from autoprune.passes.pruning.cutting import Cut, Task
from autoprune.passes.pruning.request import Options
from autoprune.passes.pruning.roles import joined, role
from autoprune.passes.pruning.scope import Movable

FAIR_PART = 0.25
"""Share of the reduction that a result of the model's own class has to reach."""


def fit_class(task: Task, movable: Movable) -> Cut:
    """The network cut in the model's own class if possible and wanted; errors as `allocate`."""
    own, options = task.network.own_class, task.request.options
    if own is None:
        return task.cut(task.choose(movable))
    if (options.keep_config or options.uniform) and _is_configured(own, options):
        try:
            return _fit(own, task, movable, configured=True)
        except BudgetError:
            if options.keep_config:
                raise
    return _fit(own, task, movable, configured=False)


def _fit(own: OwnClass, task: Task, movable: Movable, *, configured: bool) -> Cut:
    """See `fit_class`; with `configured`, the model's configuration has to describe it, too."""
    analysis, options = task.analysis, task.request.options
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
    full = task.choose(movable)
    cut = task.cut(full)
    if not options.keep_class or cut.as_wanted(configured=configured):
        return cut
    if task.request.budget[0] == "sizes" and not options.keep_config:
        return cut  # exactly what is asked for, in whatever class
    objections = own.objections(cut.choice, roles, configured=configured)
    while True:
        del cut  # before there is another one
        left = {
            uid: Reason(
                f"left alone, to keep the model's class: {objection}",
                remedy="let the result be of another class with Options(keep_class=False)",
            )
            for uid, objection in objections.items()
        }
        try:
            rest = task.choose(tied(movable.without(left)))
        except BudgetError:
            if options.keep_config:
                raise
            return task.cut(full)
        if not configured and not _worth(analysis.costs, rest.kept, full.kept):
            return task.cut(full)
        cut = task.cut(rest)
        if not configured or cut.as_wanted(configured=True) or not rest.movable.groups:
            break
        # Each size can be stated alone, but not these together.
        last = next(uids for uids in reversed(roles) if not uids <= objections.keys())
        objections |= dict.fromkeys(last, cut.shortcoming)
    if options.keep_config and not cut.as_wanted(configured=True):
        raise AutopruneError(
            "no configuration was found that describes the network when the budget is met: "
            f"{cut.shortcoming}",
            where=own.configuration,
            hint='leave out keep_config and keep the result with result.save("small.safetensors"), '
            "or ask for less",
        )
    return cut if cut.result.plan.rebuildable else task.cut(full)


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


def _worth(costs: CostModel, own: Kept, full: Kept) -> bool:
    """Whether keeping the class leaves a fair part of the reduction."""
    before, in_own, in_full = (
        costs.params({uid: len(units) for uid, units in kept.items()}) for kept in ({}, own, full)
    )
    return before - in_own >= FAIR_PART * (before - in_full)
