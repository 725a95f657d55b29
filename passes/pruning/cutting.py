"""Cutting the units that do not stay: choose, cut, prove, bring into form, report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from autoprune.frameworks.network import Choice, Delivered, Network
from autoprune.ir.positions import Kept
from autoprune.passes.pruning.analysed import Analysis
from autoprune.passes.pruning.choose import UnitScores
from autoprune.passes.pruning.latency import allocate_measured
from autoprune.passes.pruning.law import prove_choice
from autoprune.passes.pruning.reporting import make_report
from autoprune.passes.pruning.request import Options, Request
from autoprune.passes.pruning.result import Result
from autoprune.passes.pruning.scope import Movable
from autoprune.report.latency import Latency
from autoprune.report.step_trace import cut_text, kept_text, show


@dataclass(frozen=True)
class Chosen:
    """The units that stay of groups that may shrink; and the latency, where that is the budget."""

    movable: Movable
    kept: Kept
    latency: Latency | None = None


@dataclass(frozen=True)
class Cut:
    """A pruned network, and how it came about."""

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


@dataclass(frozen=True)
class Task:
    """A network with scored units, of which a request is to be met."""

    network: Network
    analysis: Analysis
    scored: UnitScores
    request: Request

    def choose(self, movable: Movable) -> Chosen:
        """The units that stay; errors as `allocate`."""
        kept, latency = allocate_measured(
            self.network, self.analysis, movable, self.scored, self.request
        )
        return Chosen(movable, kept, latency)

    def cut(self, chosen: Chosen) -> Cut:
        """See `cut_chosen`."""
        return cut_chosen(self.network, self.analysis, chosen, self.request.options)


def cut_chosen(network: Network, analysis: Analysis, chosen: Chosen, options: Options) -> Cut:
    """Cut, prove, keep the class, report.

    Raises:
        NotEqualError: if the cut network does not compute what the zeroed one does.
    """
    kept = chosen.kept
    show(options.trace, "kept units", lambda: kept_text(analysis.names, kept))
    show(options.trace, "cut graph", lambda: cut_text(analysis.typed, kept))
    choice = Choice(analysis.typed, analysis.names, kept)
    proof, approximate = prove_choice(network, choice, analysis.groups)
    delivered = proof.network.deliver(
        proof.cut, choice, proof.folded,
        keep_class=options.keep_class, keep_config=options.keep_config,
    )  # fmt: skip
    report = make_report(
        analysis, kept, chosen.movable.reasons,
        module=delivered.form, module_reason=delivered.form_reason,
        error=proof.error, approximate_error=approximate, latency=chosen.latency,
    )  # fmt: skip
    report = replace(report, notes=(*report.notes, *delivered.notes))
    result = Result(delivered.model, delivered.plan, report, network.files, network.model)
    return Cut(result, choice, delivered, chosen.movable)
