"""Pruning a torch module: trace, choose, cut, check, and the model's own class where possible."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from networkx.utils import UnionFind
from torch import fx, nn

from autoprune.analysis.cost import CostModel
from autoprune.analysis.experiments.probing import NOT_PROBED, Probing, probe_calls
from autoprune.analysis.planning import make_plan
from autoprune.analysis.resizing import shrunk_sizes
from autoprune.analysis.typing import nodes_without_rule
from autoprune.errors import AutopruneError, BudgetError, TraceError
from autoprune.frameworks.comparison import HUGE
from autoprune.frameworks.torch.calls import sample_calls
from autoprune.frameworks.torch.carried import carried_plan, carry, was_changed
from autoprune.frameworks.torch.computed import computed_values
from autoprune.frameworks.torch.cut import (
    GraphNetwork,
    owned_tensors,
    with_tensors,
)
from autoprune.frameworks.torch.equality import (
    check_unchanged,
    cut_error,
    difference,
    new_biases,
    probing,
    run,
    tolerance,
)
from autoprune.frameworks.torch.own_class.attributes import Inexpressible, shared_sizes
from autoprune.frameworks.torch.own_class.configuration import (
    follow_configuration,
    has_configuration,
    reads_back,
    refuse_saving,
)
from autoprune.frameworks.torch.own_class.describable import Describable, Draft, describable
from autoprune.frameworks.torch.own_class.modules import (
    architecture_of,
)
from autoprune.frameworks.torch.own_class.rebuild import Cut, in_own_class, inexpressible
from autoprune.frameworks.torch.trace import Traced, check_outputs, copy_of, trace
from autoprune.frameworks.torch.wrappers import network_of
from autoprune.ir.group import Group, Guarantee
from autoprune.ir.plan import Plan
from autoprune.ir.reason import Reason
from autoprune.passes.pruning.analysed import Analysis, analyse
from autoprune.passes.pruning.choose import choose
from autoprune.passes.pruning.criteria import Array
from autoprune.passes.pruning.latency import prune_to_budget
from autoprune.passes.pruning.pipeline import check_finite, make_report
from autoprune.passes.pruning.request import WHOLE, Options, Request, Scope
from autoprune.passes.pruning.roles import role
from autoprune.passes.pruning.scope import allowed_groups, left_by
from autoprune.passes.pruning.torch_result import TorchResult
from autoprune.report import Report
from autoprune.report.progress import say

FAIR_PART = 0.25
"""Share of the reduction that a result of the model's own class has to reach."""

CHANGED = (
    "The network was pruned before, and its layers were changed afterwards: the plan starts from "
    "the network as it was given, and its files load into such a one, not into the original."
)


def prune(model: nn.Module, example_inputs: Any, request: Request) -> TorchResult:
    """See `autoprune.prune`."""
    model = network_of(model)
    traced, analysis = analysed(model, example_inputs, request.options, request.scope)
    return prune_to_budget(
        request, lambda foreseen: best_attempt(model, traced, analysis, foreseen).result
    )


def best_attempt(
    model: nn.Module,
    traced: Traced,
    analysis: Analysis,
    request: Request,
    keep_whole: Callable[[Group], Reason | None] = lambda group: None,
) -> Attempt:
    """Cut a model as a request says, in its own class where that is possible and asked for.

    Args:
        model: the user's model.
        traced: its graph.
        analysis: of that graph.
        request: the budget and how to meet it.
        keep_whole: why a group may not shrink, or None.

    Raises:
        GraphError: if a weight is not finite.
        BudgetError: if the budget cannot be met.
        NotEqualError: if the cut network does not compute what the zeroed one does.
    """
    options = request.options
    if isinstance(model, fx.GraphModule):
        # Its sizes stand in generated code, not in attributes: there is no class to keep.
        options = dataclasses.replace(options, keep_class=False, keep_config=False)
        request = dataclasses.replace(request, options=options)
    if (options.keep_config or options.uniform) and _is_configured(model, options):
        try:
            return _best(model, traced, analysis, request, keep_whole, configured=True)
        except BudgetError:
            if options.keep_config:
                raise
    return _best(model, traced, analysis, request, keep_whole, configured=False)


def _best(
    model: nn.Module,
    traced: Traced,
    analysis: Analysis,
    request: Request,
    keep_whole: Callable[[Group], Reason | None],
    *,
    configured: bool,
) -> Attempt:
    """See `best_attempt`; with `configured`, the model's configuration has to describe it, too."""
    options = request.options
    weights = trained_weights(traced, analysis.effective)
    check_finite(weights)
    allowed, reasons = allowed_groups(analysis, request.scope, options)
    whole = {g.leaf.uid: reason for g in allowed if (reason := keep_whole(g))}
    allowed = [g for g in allowed if g.leaf.uid not in whole]

    def ties(groups: Sequence[Group]) -> tuple[frozenset[int], ...]:
        free = frozenset(g.leaf.uid for g in groups)
        shared = tuple(shared_sizes(model, analysis.typed, free)) if options.keep_class else ()
        return (*shared, *(uids & free for uids in stated.classes))

    def attempt(groups: Sequence[Group], left: Mapping[int, Reason]) -> Attempt:
        tied = ties(groups)
        kept = choose(analysis, weights, groups, tied, request, left, stated.steps)
        cut = Cut(traced, analysis.typed, analysis.names, kept)
        result, obstacle = _cut(model, cut, analysis, left, options)
        if request.budget[0] == "dead":
            check_unchanged(traced, result.model)
        return Attempt(result, cut, obstacle, tuple(groups), tied, left)

    stated = Describable()
    reasons = {**reasons, **whole}
    if configured:
        stated = describable(
            Draft(model, analysis.typed), _roles(allowed, ties(allowed), analysis.costs)
        )
        reasons |= {uid: Reason(f"left alone: {why}") for uid, why in stated.objections.items()}
        allowed = [g for g in allowed if g.leaf.uid not in stated.objections]
    full = attempt(allowed, reasons)
    if not options.keep_class or full.as_wanted(configured=configured):
        return full
    roles = _roles(allowed, ties(allowed), analysis.costs)
    if request.budget[0] == "sizes" and not options.keep_config:
        return full  # exactly what is asked for, in whatever class
    objections = inexpressible(model, full.cut, roles, configured=configured)
    while True:
        left_alone = {
            uid: Reason(
                f"left alone, to keep the model's class: {objection}",
                remedy="let the result be of another class with Options(keep_class=False)",
            )
            for uid, objection in objections.items()
        }
        rest = [g for g in allowed if g.leaf.uid not in objections]
        try:
            own = attempt(rest, {**reasons, **left_alone})
        except BudgetError:
            if options.keep_config:
                raise
            return full
        if not configured or own.as_wanted(configured=True) or not rest:
            break
        # Each size can be stated alone, but not these together.
        last = next(uids for uids in reversed(roles) if not uids <= objections.keys())
        objections |= dict.fromkeys(last, own.obstacle or own.result.report.module_reason)
    if options.keep_config and not own.as_wanted(configured=True):
        raise AutopruneError(
            "no configuration was found that describes the network when the budget is met: "
            f"{own.obstacle or own.result.report.module_reason}",
            where=f"configuration {type(model.config).__name__} of {type(model).__name__}",
            hint='leave out keep_config and keep the result with result.save("small.safetensors"), '
            "or ask for less",
        )
    worthwhile = configured or _worth(own.result.report, full.result.report)
    return own if own.result.plan.rebuildable and worthwhile else full


@dataclass(frozen=True)
class Attempt:
    """A result, and how it came about.

    Attributes:
        result: the pruned network.
        cut: what was cut for it.
        obstacle: why its configuration cannot describe it, or empty.
        groups: the groups that could shrink.
        ties: leaves that had to shrink alike.
        reasons: by leaf, why the others could not.
    """

    result: TorchResult
    cut: Cut
    obstacle: str
    groups: tuple[Group, ...]
    ties: tuple[frozenset[int], ...]
    reasons: Mapping[int, Reason]

    def as_wanted(self, *, configured: bool) -> bool:
        """Whether it is of the model's class and, if asked for, its configuration describes it."""
        described = not (configured and self.obstacle)
        return self.result.plan.rebuildable and described


def cut_trained(
    model: nn.Module,
    example_inputs: Any,
    digest: str,
    kept: Mapping[str, Sequence[int]],
    reasons: Mapping[str, Reason],
    options: Options,
    scope: Scope = WHOLE,
) -> TorchResult:
    """Remove units that training has brought to zero.

    Args:
        model: the trained network.
        example_inputs: as for `prune`.
        digest: of the graph the units were chosen in.
        kept: the units that stay of the groups that lose some, by name.
        reasons: why groups stay whole, by name.
        options: the user's options.
        scope: the part of the network that it is about.

    Raises:
        TraceError: if the model is not the one that the units were chosen in any more.
        NotEqualError: if the cut network does not compute what the trained one does.
    """
    if isinstance(model, fx.GraphModule):
        options = dataclasses.replace(options, keep_class=False, keep_config=False)
    traced, analysis = analysed(model, example_inputs, options, scope)
    if analysis.graph.digest != digest:
        raise TraceError(
            "the model's graph is not the one that the Pruner was made for",
            hint="do not change the model's layers while it trains; load its weights into a fresh "
            "instance if it was wrapped or compiled in place",
        )
    uids = {name: uid for uid, name in analysis.names.items()}
    cut = Cut(
        traced,
        analysis.typed,
        analysis.names,
        {uids[name]: np.array(units, np.intp) for name, units in kept.items()},
    )
    left = {uids[name]: reason for name, reason in reasons.items()}
    return _cut(model, cut, analysis, left, options)[0]


def _is_configured(model: nn.Module, options: Options) -> bool:
    """Whether there is a configuration that can follow.

    Raises:
        AutopruneError: if it is asked to, but cannot, or the class is not to be kept.
    """
    if not has_configuration(model):
        return False
    if options.keep_config and not options.keep_class:
        raise AutopruneError(
            "keep_config=True needs keep_class=True: a configuration describes the model's class"
        )
    has_numbers = hasattr(model.config, "__dict__")
    if options.keep_config and not has_numbers:
        raise AutopruneError(
            f"keep_config=True: the configuration is a {type(model.config).__name__}, which is "
            "left as it is",
            hint='leave keep_config out and keep the result with result.save("small.safetensors")',
        )
    return options.keep_class and has_numbers


def _roles(
    groups: Sequence[Group], ties: Iterable[frozenset[int]], costs: CostModel
) -> list[frozenset[int]]:
    """Groups that play the same role in different layers, those with most parameters first.

    Groups whose sizes the model's code states only once share a role.
    """
    roles = UnionFind(g.leaf.uid for g in groups)
    by_role: dict[tuple[object, Guarantee], int] = {}
    for group in groups:
        uid = group.leaf.uid
        key = (role(group.name, group.units), group.guarantee)
        roles.union(by_role.setdefault(key, uid), uid)
    for tie in ties:
        roles.union(*tie)
    return sorted(
        map(frozenset, roles.to_sets()),
        key=lambda uids: costs.params(dict.fromkeys(uids, 1)),
    )


def _worth(own: Report, full: Report) -> bool:
    """Whether keeping the class leaves a fair part of the reduction."""
    reduction = own.before.params - own.after.params
    return reduction >= FAIR_PART * (full.before.params - full.after.params)


def inspect(model: nn.Module, example_inputs: Any, scope: Scope, options: Options) -> Report:
    """See `autoprune.inspect`."""
    _, analysis = analysed(network_of(model), example_inputs, options, scope)
    return make_report(analysis, {}, left_by(analysis, scope, options))


def analysed(
    model: nn.Module, example_inputs: Any, options: Options, scope: Scope = WHOLE
) -> tuple[Traced, Analysis]:
    """A model's graph, and what can be said about it."""
    say("tracing the network")
    traced = trace(
        model, example_inputs, dynamic_shapes=options.dynamic_shapes, outputs=scope.outputs
    )
    check_outputs(traced, model)
    found = probed_rules(traced) if options.probe else NOT_PROBED
    return traced, analyse(traced.graph, options, found)


def probed_rules(traced: Traced) -> Probing:
    """Rules for the calls of operators that have none."""
    names = {node.name for node in nodes_without_rule(traced.graph)}
    samples = sample_calls(traced, names, probing(traced.inputs)) if names else {}
    return probe_calls(samples, traced.graph)


def trained_weights(traced: Traced, effective: Iterable[str]) -> dict[str, Array]:
    """Trained parameters, and effective weights that are computed from them, by value name."""
    tensors = owned_tensors(traced)
    trained = [p.value.name for p in traced.graph.parameters if p.kind == "parameter"]
    computed = computed_values(traced.module, [name for name in effective if name not in tensors])
    weights = {name: _as_array(tensors[name]) for name in trained}
    for name, tensor in computed.items():
        array = _as_array(tensor)  # a table with a mask in it has numbers that stand for infinity
        weights[name] = np.where(np.abs(array) > HUGE, 0, array)
    return weights


def _as_array(tensor: torch.Tensor) -> Array:
    half = tensor.dtype in (torch.bfloat16, torch.float16)
    array: Array = (tensor.float() if half else tensor).numpy(force=True)
    return array


def _cut(
    model: nn.Module, cut: Cut, analysis: Analysis, reasons: Mapping[int, Reason], options: Options
) -> tuple[TorchResult, str]:
    """Cut the units that are not kept, check the law, and put the result together.

    Returns the result, and why the model's configuration cannot describe it, if so.

    Args:
        model: the user's model.
        cut: the model as a graph, and what to keep of it.
        analysis: of that graph.
        reasons: by leaf, why a group was left alone.
        options: the user's options.

    Raises:
        NotEqualError: if the cut network does not compute what the zeroed one does.
    """
    traced, typed, kept, groups = cut.traced, cut.typed, cut.kept, analysis.groups
    exact = {uid: units for uid, units in kept.items() if groups[uid].guarantee.exact}
    say("cutting the network, and comparing it with zeroing")
    error, small = cut_error(traced, typed, groups, exact)
    approximate: float | None = None
    if len(exact) < len(kept):
        approximate, small = cut_error(traced, typed, groups, kept)
    biases = new_biases(traced, typed, groups, kept)
    network, plan, reason = _network(model, biases, cut, small, options)
    plan = dataclasses.replace(
        plan,
        folded=tuple(biases),
        architecture=architecture_of(model),
        alike=_alike(model, cut) if plan.rebuildable else (),
    )
    plan = plan.sealed().after(carried_plan(model))
    carry(network, plan)
    report = make_report(
        analysis, kept, reasons,
        module="GraphModule" if reason else "same class", module_reason=reason,
        error=error, approximate_error=approximate,
    )  # fmt: skip
    if traced.outputs is not None and traced.outputs.state:
        report = dataclasses.replace(report, notes=(*report.notes, _state(traced.outputs.state)))
    obstacle = ""
    if not reason:
        changes = shrunk_sizes(typed, kept)
        obstacle = follow_configuration(network, plan, changes, traced.inputs)
        if options.keep_config and has_configuration(network):
            obstacle = obstacle or reads_back(network, traced.inputs)
    if obstacle:
        refuse_saving(network, obstacle)
        note = (
            f"Its configuration cannot describe it ({obstacle}): keep it with its plan, "
            'result.save("small.safetensors").'
        )
        report = dataclasses.replace(report, notes=(*report.notes, note))
    if was_changed(model):
        report = dataclasses.replace(report, notes=(*report.notes, CHANGED))
    result = TorchResult(network, plan, report, model, traced.inputs, traced.dynamic_shapes)
    return result, obstacle


def _state(names: Sequence[str]) -> str:
    """What is no output although the forward returns it."""
    return (
        f"The forward also returns state, which it takes again in its next call, and whose tensors "
        f"may shrink with the layers that fill it: {', '.join(names)}."
    )


def _alike(model: nn.Module, cut: Cut) -> tuple[tuple[str, ...], ...]:
    """Names of groups of which equally many units stay because the model states one size."""
    found = []
    for tie in shared_sizes(model, cut.typed, frozenset(cut.kept)):
        if len(tie) > 1 and len({len(cut.kept[uid]) for uid in tie}) == 1:
            found.append(tuple(sorted(cut.names[uid] for uid in tie)))
    return tuple(sorted(set(found)))


def _network(
    model: nn.Module,
    biases: Mapping[str, torch.Tensor],
    cut: Cut,
    small: GraphNetwork,
    options: Options,
) -> tuple[nn.Module, Plan, str]:
    """The pruned network as the model's own class, or the cut graph and why it has to be that."""
    reason = "keep_class=False"
    if isinstance(model, fx.GraphModule):
        reason = "so was the network that was given"
    if options.keep_class:
        say("cutting it in the model's own class")
        try:
            return *in_own_class(with_tensors(model, biases), cut, small), ""
        except Inexpressible as inexpressible:
            reason = str(inexpressible)
    _check_export(model, cut.traced)
    plan = make_plan(cut.typed, cut.names, cut.kept, None)
    return small.train(model.training), plan, reason


def _check_export(model: nn.Module, traced: Traced) -> None:
    """A result that only exists as a graph is worth what the exported graph is worth."""
    expected = traced.wanted.of(run(copy_of(model).eval(), traced.inputs))
    gap = difference(expected, traced.wanted.of(run(traced.module, traced.inputs)))
    if gap > tolerance(expected):
        raise TraceError(
            f"the exported graph computes something else than the model (relative difference "
            f"{gap:.1e})",
            hint="the forward may draw random numbers or depend on state that the export froze",
        )
