"""What happens between a model and a result: analyse, choose, cut, check."""

from __future__ import annotations

import copy
import fnmatch
import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from autoprune.analysis.cost import CostModel
from autoprune.analysis.groups import Groups, find_groups
from autoprune.analysis.typing import TypedGraph, infer, unused_parameters
from autoprune.backends.equality import (
    cut_error,
    difference,
    run,
    tolerance,
)
from autoprune.backends.modules import Inexpressible, in_own_class, make_plan, shared_sizes
from autoprune.backends.sameness import first_deviation
from autoprune.backends.torch import GraphNetwork, Kept, get_tensor, resized_calls, sizes_of
from autoprune.errors import AutopruneError, BudgetError, GraphError, TraceError
from autoprune.frontends.torch import Traced, trace
from autoprune.ir.axes import Indices
from autoprune.ir.group import Group
from autoprune.ir.plan import Plan
from autoprune.passes.allocation import (
    Candidate,
    block_sizes,
    keep_share,
    meet_budget,
    roomy_block,
)
from autoprune.passes.criteria import Array, Criterion, GroupWeights, score
from autoprune.report import GroupRow, PinnedRow, Report
from autoprune.result import Result

PREFERRED_MULTIPLES = (8, 4, 2)
"""Channel multiples tried in turn where none is asked for; vector units want the first."""

LITTLE = 0.5
"""If exact groups leave more than this share of the parameters, the report says why."""


@dataclass(frozen=True)
class Options:
    """Choices that rarely change.

    Attributes:
        approximate: also prune groups whose removal changes the function (units normalized
            together); the report gives the measured error.
        min_units: units of a group that stay at least.
        allocation: `uniform` removes the same share of every group, `global` the lowest scores
            relative to the mean of their group, wherever they are.
        keep_class: keep kept counts such that the result can be of the model's own class, and
            return one where possible; otherwise a GraphModule.
        dynamic_shapes: None, `"batch"`, or what `torch.export.export` takes.
        strict: an operator without a rule is an error instead of pinning what it touches.
    """

    approximate: bool = False
    min_units: int = 1
    allocation: Literal["uniform", "global"] = "uniform"
    keep_class: bool = True
    dynamic_shapes: Any = None
    strict: bool = False


DEFAULTS = Options()


@dataclass(frozen=True)
class Analysis:
    """A traced model with everything that can be said about it.

    Attributes:
        traced: the exported model and its graph.
        typed: the graph's axis types.
        found: groups and pinned axes.
        costs: cost as a function of group sizes.
        seconds: processor time the analysis took, without the export.
    """

    traced: Traced
    typed: TypedGraph
    found: Groups
    costs: CostModel
    seconds: float

    @property
    def groups(self) -> dict[int, Group]:
        """Groups by leaf."""
        return {g.leaf.uid: g for g in self.found.groups}


def analyse(model: nn.Module, example_inputs: Any, options: Options) -> Analysis:
    """Trace a model and find its groups.

    Raises:
        TraceError: if the model does not run on the inputs or cannot be exported.
        GraphError: with `strict`, if an operator has no rule.
    """
    traced = trace(model, example_inputs, dynamic_shapes=options.dynamic_shapes)
    start = time.thread_time()
    with _no_garbage_collection():
        typed = infer(traced.graph, strict=options.strict)
        found = find_groups(typed)
        costs = CostModel(typed, frozenset(g.leaf.uid for g in found.groups))
    return Analysis(traced, typed, found, costs, time.thread_time() - start)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """The analysis makes no cycles, and one pass over all of torch takes longer than it does."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def check_finite(analysis: Analysis) -> None:
    """Refuse weights that no criterion can compare.

    Raises:
        GraphError: naming the first parameter with a NaN or an infinity.
    """
    for parameter in analysis.traced.graph.parameters:
        tensor = get_tensor(analysis.traced.module, parameter.names[0])
        if tensor.is_floating_point() and parameter.kind == "parameter":
            bad = int((~torch.isfinite(tensor)).sum())
            if bad:
                raise GraphError(
                    f"{bad} of {tensor.numel()} weights are NaN or infinite",
                    where=f"parameter {parameter.names[0]}",
                    hint="repair or retrain the model before pruning it",
                )


def allowed_groups(
    analysis: Analysis, ignore: str | Sequence[str], options: Options
) -> tuple[list[Group], dict[int, str]]:
    """The groups that may shrink, and by leaf why the others may not.

    Raises:
        AutopruneError: if a name to ignore matches nothing.
    """
    patterns = [ignore] if isinstance(ignore, str) else list(ignore)
    names = [n for p in analysis.traced.graph.parameters for n in p.names]
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in names):
            raise AutopruneError(
                f"ignore={pattern!r} matches no module or parameter",
                hint="names look like " + ", ".join(f"{n!r}" for n in names[:3]),
            )
    aliases = {p.value.name: p.names for p in analysis.traced.graph.parameters}
    allowed: list[Group] = []
    reasons: dict[int, str] = {}
    for group in analysis.found.groups:
        owned = {n for o in group.occurrences for n in aliases[o.parameter]}
        ignored = next((p for p in patterns for n in owned if _matches(n, p)), None)
        if ignored is not None:
            reasons[group.leaf.uid] = f"left alone: ignore={ignored!r}"
        elif not group.guarantee.exact and not options.approximate:
            reasons[group.leaf.uid] = f"left alone: {group.reason}"
        else:
            allowed.append(group)
    return allowed, reasons


def _matches(name: str, pattern: str) -> bool:
    """Whether a parameter is, or lies in a module, called `pattern`."""
    parts = name.split(".")
    prefixes = (".".join(parts[: i + 1]) for i in range(len(parts)))
    return any(fnmatch.fnmatchcase(prefix, pattern) for prefix in prefixes)


def _weights(traced: Traced) -> dict[str, Array]:
    """Trained parameters as arrays, by value name."""
    arrays: dict[str, Array] = {}
    for parameter in traced.graph.parameters:
        if parameter.kind == "parameter":
            tensor = get_tensor(traced.module, parameter.names[0]).detach().cpu()
            if tensor.dtype in (torch.bfloat16, torch.float16):
                tensor = tensor.float()
            arrays[parameter.value.name] = tensor.numpy()
    return arrays


def choose(
    model: nn.Module,
    analysis: Analysis,
    allowed: Sequence[Group],
    budget: tuple[str, float],
    criterion: Criterion,
    multiple_of: int | None,
    seed: int,
    options: Options,
) -> dict[int, Indices]:
    """Kept units by leaf, such that the budget (a name and a share) is met.

    Raises:
        BudgetError: if it cannot be met.
    """
    name, share = budget
    weights, types = _weights(analysis.traced), analysis.typed.types
    rng = np.random.default_rng(seed)
    scores = [score(criterion, GroupWeights(group, weights, types, rng)) for group in allowed]
    free = frozenset(g.leaf.uid for g in allowed)
    ties = list(shared_sizes(model, analysis.typed, free)) if options.keep_class else []
    cost = analysis.costs.flops if name == "flops" else analysis.costs.params
    axes = [axis for parameter in weights for axis in types[parameter]]

    def meet(multiple: int) -> dict[int, Indices]:
        blocks = block_sizes(axes, free, multiple)
        if multiple_of is None:
            blocks = {g.leaf.uid: roomy_block(g.units, blocks[g.leaf.uid]) for g in allowed}
        candidates = [
            Candidate(group, scored, blocks[group.leaf.uid], options.min_units)
            for group, scored in zip(allowed, scores, strict=True)
        ]
        if name == "channels":
            return keep_share(candidates, share, ties)
        return meet_budget(candidates, cost, name, share, ties=ties, strategy=options.allocation)

    if multiple_of is not None:
        return meet(multiple_of)
    for multiple in PREFERRED_MULTIPLES:
        try:
            return meet(multiple)
        except BudgetError:
            continue
    return meet(1)


def cut(
    model: nn.Module,
    analysis: Analysis,
    kept: Kept,
    reasons: Mapping[int, str],
    options: Options,
) -> Result:
    """Cut the units that are not kept, check the law, and put the result together.

    Args:
        model: the user's model.
        analysis: its analysis.
        kept: kept units by leaf.
        reasons: by leaf, why a group was left alone.
        options: the user's options.

    Raises:
        NotEqualError: if the cut network does not compute what the zeroed one does.
    """
    traced, typed, groups = analysis.traced, analysis.typed, analysis.groups
    exact = {uid: units for uid, units in kept.items() if groups[uid].guarantee.exact}
    error, small = cut_error(traced, typed, groups, exact)
    approximate: float | None = None
    if len(exact) < len(kept):
        approximate, small = cut_error(traced, typed, groups, kept)
    network, plan, reason = _network(model, analysis, kept, small, options)
    report = make_report(
        analysis, kept, reasons,
        module="GraphModule" if reason else "same class", module_reason=reason,
        error=error, approximate_error=approximate,
    )  # fmt: skip
    return Result(network, plan, report, model, traced.inputs, traced.dynamic_shapes)


def _network(
    model: nn.Module, analysis: Analysis, kept: Kept, small: GraphNetwork, options: Options
) -> tuple[nn.Module, Plan, str]:
    """The pruned network as the model's own class, or the cut graph and why it has to be that."""
    names = {g.leaf.uid: g.name for g in analysis.found.groups}
    traced = analysis.traced
    expected = run(small, traced.inputs)
    calls = resized_calls(analysis.typed, kept)

    def objection(candidate: nn.Module) -> str:
        # Copies run: a forward may write to buffers and attributes, and the candidate is returned.
        try:
            gap = difference(expected, run(copy.deepcopy(candidate).eval(), traced.inputs))
        except Exception as problem:
            text = str(problem).strip().splitlines() or [type(problem).__name__]
            return f"its forward does not follow: {text[0]}"
        if gap > tolerance(expected):
            return f"its forward computes something else (relative difference {gap:.1e})"
        try:
            graph = trace(candidate, traced.inputs, dynamic_shapes=traced.dynamic_shapes).graph
        except TraceError as problem:
            return f"it cannot be exported again: {problem.what}"
        deviation = first_deviation(analysis.typed, sizes_of(kept), calls, graph)
        return f"its forward is not the cut graph: {deviation}" if deviation else ""

    reason = "keep_class=False"
    if options.keep_class:
        try:
            return *in_own_class(model, analysis.typed, names, kept, objection), ""
        except Inexpressible as inexpressible:
            reason = str(inexpressible)
    _check_export(model, analysis.traced)
    plan = make_plan(analysis.typed, names, kept, None)
    return small.train(model.training), plan, reason


def _check_export(model: nn.Module, traced: Traced) -> None:
    """A result that only exists as a graph is worth what the exported graph is worth."""
    expected = run(copy.deepcopy(model).eval(), traced.inputs)
    gap = difference(expected, run(traced.module, traced.inputs))
    if gap > tolerance(expected):
        raise TraceError(
            f"the exported graph computes something else than the model (relative difference "
            f"{gap:.1e})",
            hint="the forward may draw random numbers or depend on state that the export froze",
        )


def make_report(
    analysis: Analysis, kept: Kept, reasons: Mapping[int, str], **fields: Any
) -> Report:
    """The report on a choice; an empty choice gives the report on what could be chosen."""
    rows = tuple(
        GroupRow(
            group.name,
            group.units,
            len(kept[group.leaf.uid]) if group.leaf.uid in kept else group.units,
            str(group.guarantee),
            tuple(f"{o.parameter}:{o.dim}" for o in group.occurrences),
            reasons.get(group.leaf.uid, group.reason),
        )
        for group in analysis.found.groups
    )
    pinned = tuple(PinnedRow(p.name, p.size, p.where, p.reason) for p in analysis.found.pinned)
    return Report(
        before=analysis.costs.at({}),
        after=analysis.costs.at(sizes_of(kept)),
        groups=rows,
        pinned=pinned,
        unknown_operators=tuple(sorted({n.op for n in analysis.typed.unknown})),
        analysis_seconds=analysis.seconds,
        notes=tuple(_notes(analysis)),
        **fields,
    )


def _notes(analysis: Analysis) -> list[str]:
    """Why little or nothing can be pruned, if so."""
    found, full = analysis.found, analysis.costs.params({})
    exact = [g for g in found.groups if g.guarantee.exact]
    least = analysis.costs.params({g.leaf.uid: 1 for g in exact})
    notes = []
    unused = unused_parameters(analysis.traced.graph)
    if unused:
        notes.append(
            f"{len(unused)} parameters are not used in evaluation mode and stay as they are, "
            f"such as {unused[0].name}; code that uses them in training may not fit any more."
        )
    if not full:
        return [*notes, "The model has no parameters."]
    if least < LITTLE * full:
        return notes
    largest = sorted(found.pinned, key=lambda p: -p.size)[:3]
    because = "; ".join(f"{p.where[0]} ({p.size}): {p.reason}" for p in largest)
    notes.append(
        f"Exact groups cover only {1 - least / full:.0%} of the parameters. "
        f"The largest pinned axes are {because}."
        if exact
        else f"Nothing can be pruned exactly. The largest pinned axes are {because}."
    )
    if len(exact) < len(found.groups):
        notes.append(
            f"{len(found.groups) - len(exact)} more groups change the function when they are "
            "pruned; allow them with Options(approximate=True)."
        )
    return notes
