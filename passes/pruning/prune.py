"""Pruning, as a list of steps from a traced network to a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from autoprune.errors import TraceError
from autoprune.frameworks.network import Network
from autoprune.ir.group import Group
from autoprune.ir.positions import Kept
from autoprune.ir.reason import Reason
from autoprune.passes.pruning.analysed import Analysis, analyse_network
from autoprune.passes.pruning.choose import check_finite, score_units
from autoprune.passes.pruning.cutting import Chosen, Cut, Task, cut_chosen
from autoprune.passes.pruning.keep_class import fit_class
from autoprune.passes.pruning.law import check_unchanged
from autoprune.passes.pruning.reporting import make_report
from autoprune.passes.pruning.request import Options, Request, Scope
from autoprune.passes.pruning.result import Result
from autoprune.passes.pruning.scope import Movable, movable_groups
from autoprune.report import Report
from autoprune.report.step_trace import scores_text, show


def prune(network: Network, request: Request) -> Result[Any]:
    """See `autoprune.prune`; the network has been traced."""
    analysis = analyse_network(network, request.options)  # type, group, cost
    return prune_analysed(network, analysis, request).result


def prune_analysed(
    network: Network,
    analysis: Analysis,
    request: Request,
    keep_whole: Callable[[Group], Reason | None] = lambda group: None,
) -> Cut:
    """Choose units, cut them, and bring the network into the form that users get.

    Groups that there is a reason for in `keep_whole` do not shrink.

    Raises:
        GraphError: if a weight is not finite.
        BudgetError: if the budget cannot be met.
        NotEqualError: if the cut network does not compute what the zeroed one does.
    """
    weights = network.weights(analysis.effective)
    check_finite(weights)
    movable = movable_groups(analysis, request.scope, request.options)
    movable = movable.without({g.leaf.uid: why for g in movable.groups if (why := keep_whole(g))})
    scored = score_units(analysis, weights, movable, request)
    show(request.options.trace, "scores", lambda: scores_text(analysis.names, scored.scores))
    cut = fit_class(Task(network, analysis, scored, request), movable)  # allocate, cut, prove
    if request.budget[0] == "dead":
        check_unchanged(network, network.executable(cut.result.model))
    return cut


def cut_trained(
    network: Network,
    digest: str,
    kept: Mapping[str, Sequence[int]],
    reasons: Mapping[str, Reason],
    options: Options,
) -> Result[Any]:
    """Remove units that training has brought to zero.

    By name of a group, `kept` has the units that stay, if it loses some, and `reasons` why it stays
    whole. The digest is of the graph that the units were chosen in.

    Raises:
        TraceError: if the network is not the one that the units were chosen in any more.
        NotEqualError: if the cut network does not compute what the trained one does.
    """
    analysis = analyse_network(network, options)
    if analysis.graph.digest != digest:
        raise TraceError(
            "the model's graph is not the one that the Pruner was made for",
            hint="do not change the model's layers while it trains; load its weights into a fresh "
            "instance if it was wrapped or compiled in place",
        )
    uids = {name: uid for uid, name in analysis.names.items()}
    units: Kept = {uids[name]: np.array(stay, np.intp) for name, stay in kept.items()}
    whole = Movable((), {uids[name]: reason for name, reason in reasons.items()})
    return cut_chosen(network, analysis, Chosen(whole, units), options).result


def inspect(network: Network, scope: Scope, options: Options) -> Report:
    """See `autoprune.inspect`."""
    analysis = analyse_network(network, options)
    scoped = scope.only or scope.ignore
    reasons = movable_groups(analysis, scope, options).reasons if scoped else {}
    return make_report(analysis, {}, reasons)
