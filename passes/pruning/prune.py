"""Pruning, as a list of steps from a traced network to a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from autoprune.errors import TraceError
from autoprune.frameworks.network import Choice, Network
from autoprune.ir.group import Group
from autoprune.ir.positions import Kept
from autoprune.ir.reason import Reason
from autoprune.passes.pruning.analysed import Analysis, analyse_network
from autoprune.passes.pruning.choose import check_finite, score_units
from autoprune.passes.pruning.keep_class import Attempt, fit_class
from autoprune.passes.pruning.latency import allocate_measured
from autoprune.passes.pruning.law import check_unchanged, prove_choice
from autoprune.passes.pruning.reporting import make_report
from autoprune.passes.pruning.request import Options, Request, Scope
from autoprune.passes.pruning.result import Result
from autoprune.passes.pruning.scope import Movable, movable_groups
from autoprune.report import Report
from autoprune.report.latency import Latency
from autoprune.report.step_trace import cut_text, kept_text, scores_text, show


def prune(network: Network, request: Request) -> Result[Any]:
    """See `autoprune.prune`; the network has been traced."""
    analysis = analyse_network(network, request.options)  # type, group, cost
    return prune_analysed(network, analysis, request).result


def prune_analysed(
    network: Network,
    analysis: Analysis,
    request: Request,
    keep_whole: Callable[[Group], Reason | None] = lambda group: None,
) -> Attempt:
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

    def attempt(movable: Movable) -> Attempt:
        kept, latency = allocate_measured(network, analysis, movable, scored, request)
        found = cut_choice(network, analysis, movable, kept, request.options, latency)
        if request.budget[0] == "dead":
            check_unchanged(network, network.executable(found.result.model))
        return found

    return fit_class(network.own_class, analysis, movable, request, attempt)


def cut_choice(
    network: Network,
    analysis: Analysis,
    movable: Movable,
    kept: Kept,
    options: Options,
    latency: Latency | None = None,
) -> Attempt:
    """Cut, prove, keep the class, report.

    Raises:
        NotEqualError: if the cut network does not compute what the zeroed one does.
    """
    show(options.trace, "kept units", lambda: kept_text(analysis.names, kept))
    show(options.trace, "cut graph", lambda: cut_text(analysis.typed, kept))
    choice = Choice(analysis.typed, analysis.names, kept)
    proof, approximate = prove_choice(network, choice, analysis.groups)
    delivered = proof.network.deliver(
        proof.cut, choice, proof.folded,
        keep_class=options.keep_class, keep_config=options.keep_config,
    )  # fmt: skip
    report = make_report(
        analysis, kept, movable.reasons,
        module=delivered.form, module_reason=delivered.form_reason,
        error=proof.error, approximate_error=approximate, latency=latency,
    )  # fmt: skip
    report = replace(report, notes=(*report.notes, *delivered.notes))
    result = Result(delivered.model, delivered.plan, report, network.files, network.model)
    return Attempt(result, choice, delivered, movable)


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
    return cut_choice(network, analysis, whole, units, options).result


def inspect(network: Network, scope: Scope, options: Options) -> Report:
    """See `autoprune.inspect`."""
    analysis = analyse_network(network, options)
    scoped = scope.only or scope.ignore
    reasons = movable_groups(analysis, scope, options).reasons if scoped else {}
    return make_report(analysis, {}, reasons)
