"""Pruning an ONNX model: read, choose, cut, check. Torch is not needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from autoprune.analysis.experiments.probing import NOT_PROBED, Probing, probe_calls
from autoprune.analysis.groups import find_groups
from autoprune.analysis.nesting import outer_leaves
from autoprune.analysis.planning import check_complete, make_plan
from autoprune.analysis.typing import infer, nodes_without_rule
from autoprune.errors import PlanError
from autoprune.frameworks.onnx.calls import sample_calls
from autoprune.frameworks.onnx.carried import carried_plan, carry, was_changed
from autoprune.frameworks.onnx.cut import cut_model
from autoprune.frameworks.onnx.equality import check_unchanged, cut_error
from autoprune.frameworks.onnx.folding import fold
from autoprune.frameworks.onnx.run import reader
from autoprune.frameworks.onnx.tensors import weights
from autoprune.frameworks.onnx.trace import TracedOnnx, trace
from autoprune.ir.plan import Plan
from autoprune.passes.pruning.analysed import Analysis, analyse
from autoprune.passes.pruning.choose import choose
from autoprune.passes.pruning.criteria import Array
from autoprune.passes.pruning.latency import prune_to_budget
from autoprune.passes.pruning.onnx_result import OnnxResult
from autoprune.passes.pruning.pipeline import check_finite, make_report
from autoprune.passes.pruning.request import Options, Request, Scope
from autoprune.passes.pruning.scope import allowed_groups, left_by
from autoprune.report import Report
from autoprune.report.progress import say

CHANGED = (
    "The model was pruned before, and its nodes were changed afterwards: the plan starts from the "
    "model as it was given, and is none for the original."
)

OnnxSource = str | Path | onnx.ModelProto


def prune(source: OnnxSource, example_inputs: Any, request: Request) -> OnnxResult:
    """See `autoprune.prune`."""
    traced, analysis = _analysed(source, example_inputs, request.options, request.scope)
    arrays = weights(traced)
    check_finite(arrays)
    computed = [name for name in analysis.effective if name not in traced.graph.parameter_of]
    read = reader(traced.model, computed)(traced.feed)
    arrays.update((name, read[name]) for name in computed)
    return prune_to_budget(request, lambda foreseen: _attempt(traced, analysis, arrays, foreseen))


def _attempt(
    traced: TracedOnnx, analysis: Analysis, arrays: Mapping[str, Array], request: Request
) -> OnnxResult:
    """The model cut to a cost that the analysis can foresee."""
    allowed, reasons = allowed_groups(analysis, request.scope, request.options)
    kept = choose(analysis, arrays, allowed, (), request, reasons)
    groups = analysis.groups
    exact = {uid: units for uid, units in kept.items() if groups[uid].guarantee.exact}
    say("cutting the network, and comparing it with zeroing")
    error, small = cut_error(traced, analysis.typed, groups, exact)
    approximate: float | None = None
    if len(exact) < len(kept):
        approximate, small = cut_error(traced, analysis.typed, groups, kept)
    if request.budget[0] == "dead":
        check_unchanged(traced, small)
    report = make_report(
        analysis, kept, reasons, module="ONNX", error=error, approximate_error=approximate
    )
    if was_changed(traced.model):
        report = dataclasses.replace(report, notes=(*report.notes, CHANGED))
    plan = make_plan(analysis.typed, analysis.names, kept).sealed()
    plan = plan.after(carried_plan(traced.model))
    carry(small, plan)
    return OnnxResult(small, plan, report, traced.file, traced.feed)


def inspect(source: OnnxSource, example_inputs: Any, scope: Scope, options: Options) -> Report:
    """See `autoprune.inspect`."""
    _, analysis = _analysed(source, example_inputs, options, scope)
    return make_report(analysis, {}, left_by(analysis, scope, options))


def apply_plan(source: OnnxSource, plan: Plan, example_inputs: Any = None) -> onnx.ModelProto:
    """See `autoprune.apply_plan`."""
    plan.check()
    first, *rest = plan.steps
    traced = trace(source, example_inputs)
    small = _apply_step(traced, first)
    for step in rest:
        small = _apply_step(trace(small, example_inputs), step)
    carry(small, plan.after(carried_plan(traced.model)))
    return small


def _apply_step(traced: TracedOnnx, plan: Plan) -> onnx.ModelProto:
    """A model cut as one step of a plan says."""
    if traced.graph.digest != plan.graph:
        raise PlanError(
            "the plan was made for another graph",
            hint="apply it to the model it was made with",
        )
    typed = infer(traced.graph)
    groups = {g.name: g for g in find_groups(typed).groups}
    if not plan.groups.keys() <= groups.keys():
        # It may have been made without some outputs, which pin what it cuts.
        free = dataclasses.replace(traced.graph, loose=traced.graph.outputs)
        traced = dataclasses.replace(traced, graph=free)
        typed = infer(free)
        groups = {g.name: g for g in find_groups(typed).groups}
    if not plan.groups.keys() <= groups.keys():
        # Operators without a rule pin what probed rules had freed.
        typed = infer(traced.graph, rules=_probed(traced).rules)
        groups = {g.name: g for g in find_groups(typed).groups}
    outers = outer_leaves(typed, [g.leaf.uid for g in groups.values()])
    kept = plan.kept(groups, outers)
    check_complete(plan, typed, kept)
    folded = fold(traced, typed, {g.leaf.uid: g for g in groups.values()}, kept)
    return cut_model(folded, typed, kept)


def _analysed(
    source: OnnxSource, example_inputs: Any, options: Options, scope: Scope
) -> tuple[TracedOnnx, Analysis]:
    say("reading the model")
    traced = trace(source, example_inputs, scope.outputs)
    found = _probed(traced) if options.probe else NOT_PROBED
    return traced, analyse(traced.graph, options, found)


def _probed(traced: TracedOnnx) -> Probing:
    """Rules for the calls of operators that have none."""
    names = {node.name for node in nodes_without_rule(traced.graph)}
    return probe_calls(sample_calls(traced, names) if names else {}, traced.graph)
