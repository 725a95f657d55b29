"""The functions people call: prune, inspect, apply_plan, load."""

from __future__ import annotations

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
from autoprune.analysis.typing import TypedGraph, infer
from autoprune.backends.equality import (
    cut_error,
    difference,
    run,
    run_in_evaluation,
    tolerance,
)
from autoprune.backends.modules import (
    Inexpressible,
    in_own_class,
    make_plan,
    rebuild,
    shared_sizes,
)
from autoprune.backends.torch import GraphNetwork, Kept, cut_graph, get_tensor, sizes_of
from autoprune.errors import AutopruneError, BudgetError, GraphError, PlanError
from autoprune.frontends.torch import Traced, trace
from autoprune.ir.group import Group
from autoprune.ir.plan import Plan
from autoprune.passes.allocation import Candidate, block_size, keep_share, meet_budget
from autoprune.passes.criteria import Criterion, GroupWeights, find_criterion, score
from autoprune.report import GroupRow, PinnedRow, Report
from autoprune.result import Result, read_safetensors


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


@dataclass(frozen=True)
class _Analysis:
    """A traced model with everything that can be said about it."""

    traced: Traced
    typed: TypedGraph
    found: Groups
    costs: CostModel
    seconds: float

    @property
    def groups(self) -> dict[int, Group]:
        return {g.leaf.uid: g for g in self.found.groups}


def prune(
    model: nn.Module,
    example_inputs: Any,
    *,
    flops: float | None = None,
    params: float | None = None,
    channels: float | None = None,
    criterion: str | Criterion = "l2",
    ignore: str | Sequence[str] = (),
    multiple_of: int = 1,
    seed: int = 0,
    options: Options = Options(),
) -> Result:
    """Return a smaller network that computes what the zeroed original computes.

    The model is traced on the example inputs, the groups of parameter slices that must go
    together are found, scored and chosen, and the model without them is checked against the
    model with them set to zero. The model passed in is not changed.

    Args:
        model: any module that `torch.export` can trace; training or evaluation mode.
        example_inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments.
        flops: fraction of the FLOPs to keep, met within 1 %.
        params: fraction of the parameters to keep, met within 1 %.
        channels: fraction of the units to keep in every group. Exactly one budget is given.
        criterion: `"l2"`, `"random"`, or a function from `GroupWeights` to one score per unit.
        ignore: names or patterns (`"head"`, `"layer4.*"`) of modules or parameters to leave as
            they are.
        multiple_of: channel counts stay multiples of this.
        seed: for criteria that draw.
        options: everything else.

    Raises:
        TraceError: if the model does not run on the inputs or cannot be exported.
        BudgetError: if the budget is out of range or cannot be met.
        GraphError: if a weight is not finite, or `strict` meets an unknown operator.
        NotEqualError: if the cut network does not compute what the zeroed one does.

    Example:
        >>> net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
        >>> result = prune(net, torch.zeros(1, 8), flops=0.5)
        >>> result.model[0].out_features
        32
    """
    budget = _budget(flops=flops, params=params, channels=channels)
    criterion = find_criterion(criterion)
    if multiple_of < 1 or options.min_units < 1:
        raise BudgetError("multiple_of and min_units are whole numbers from 1")
    analysis = _analyse(model, example_inputs, options)
    _check_finite(analysis)
    allowed, reasons = _allowed(analysis, ignore, options)
    kept = _choose(model, analysis, allowed, budget, criterion, multiple_of, seed, options)
    return _cut(model, analysis, kept, reasons, options)


def inspect(
    model: nn.Module,
    example_inputs: Any,
    *,
    options: Options = Options(),
) -> Report:
    """What could be pruned: groups, guarantees, pinned axes and why, costs.

    Raises:
        TraceError: if the model does not run on the inputs or cannot be exported.
    """
    analysis = _analyse(model, example_inputs, options)
    return _report(analysis, {}, {})


def apply_plan(model: nn.Module, plan: Plan, example_inputs: Any = None) -> nn.Module:
    """A copy of `model` cut as a plan says, ready to load a pruned checkpoint into.

    Args:
        model: a fresh instance of the architecture the plan was made for, uncut.
        plan: a `Plan`.
        example_inputs: needed only if the pruned network is a GraphModule.

    Raises:
        PlanError: if the plan was made for another architecture, or needs example inputs.
    """
    plan.check()
    if plan.rebuildable:
        return rebuild(model, plan)
    if example_inputs is None:
        raise PlanError(
            "this plan's network is not of the model's own class and has to be traced",
            hint="pass example_inputs",
        )
    traced = trace(model, example_inputs)
    if traced.graph.digest != plan.graph:
        raise PlanError(
            "the plan was made for another graph",
            hint="apply it to the architecture, and the library versions, it was made with",
        )
    typed = infer(traced.graph)
    kept = plan.kept({g.name: g for g in find_groups(typed).groups})
    return cut_graph(traced, typed, kept).train(model.training)


def load(model: nn.Module, path: Any, example_inputs: Any = None) -> nn.Module:
    """A copy of `model` cut and filled from a `.safetensors` file that `Result.save` wrote.

    Args:
        model: a fresh instance of the architecture, uncut; its weights do not matter.
        path: the file.
        example_inputs: needed only if the pruned network is a GraphModule.

    Raises:
        PlanError: if the file holds no plan, or does not fit the model.
    """
    plan, tensors = read_safetensors(path)
    small = apply_plan(model, plan, example_inputs)
    try:
        missing, unexpected = small.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise PlanError(
            f"the weights do not fit: {str(error).splitlines()[-1].strip()}", where=str(path)
        ) from error
    loaded = {small.state_dict()[name].data_ptr() for name in tensors if name not in unexpected}
    lost = [name for name in missing if small.state_dict()[name].data_ptr() not in loaded]
    if lost or unexpected:
        raise PlanError(
            f"the file and the model do not hold the same tensors: {(lost + unexpected)[0]}",
            where=str(path),
        )
    return small


def _budget(**budgets: float | None) -> tuple[str, float]:
    given = [(name, share) for name, share in budgets.items() if share is not None]
    if len(given) != 1:
        raise BudgetError(
            f"give one budget, not {len(given)}",
            hint="flops=0.5, params=0.5 or channels=0.5: the fraction to keep",
        )
    return given[0]


def _analyse(model: nn.Module, example_inputs: Any, options: Options) -> _Analysis:
    traced = trace(model, example_inputs, dynamic_shapes=options.dynamic_shapes)
    start = time.thread_time()
    with _no_garbage_collection():
        typed = infer(traced.graph, strict=options.strict)
        found = find_groups(typed)
        costs = CostModel(typed, frozenset(g.leaf.uid for g in found.groups))
    return _Analysis(traced, typed, found, costs, time.thread_time() - start)


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


def _check_finite(analysis: _Analysis) -> None:
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


def _allowed(
    analysis: _Analysis, ignore: str | Sequence[str], options: Options
) -> tuple[list[Group], dict[int, str]]:
    """The groups that may shrink, and why the others may not."""
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


def _weights(traced: Traced) -> dict[str, np.ndarray[Any, Any]]:
    """Trained parameters as arrays, by value name."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for parameter in traced.graph.parameters:
        if parameter.kind == "parameter":
            tensor = get_tensor(traced.module, parameter.names[0]).detach().cpu()
            if tensor.dtype in (torch.bfloat16, torch.float16):
                tensor = tensor.float()
            arrays[parameter.value.name] = tensor.numpy()
    return arrays


def _choose(
    model: nn.Module,
    analysis: _Analysis,
    allowed: Sequence[Group],
    budget: tuple[str, float],
    criterion: Criterion,
    multiple_of: int,
    seed: int,
    options: Options,
) -> dict[int, np.ndarray[Any, np.dtype[np.intp]]]:
    name, share = budget
    weights, types = _weights(analysis.traced), analysis.typed.types
    rng = np.random.default_rng(seed)
    candidates = [
        Candidate(
            group,
            score(criterion, GroupWeights(group, weights, types, rng)),
            block_size(group, types, multiple_of),
            options.min_units,
        )
        for group in allowed
    ]
    free = frozenset(g.leaf.uid for g in allowed)
    ties = list(shared_sizes(model, analysis.typed, free)) if options.keep_class else []
    if name == "channels":
        return keep_share(candidates, share, ties)
    cost = analysis.costs.flops if name == "flops" else analysis.costs.params
    return meet_budget(candidates, cost, name, share, ties=ties, strategy=options.allocation)


def _cut(
    model: nn.Module,
    analysis: _Analysis,
    kept: Kept,
    reasons: Mapping[int, str],
    options: Options,
) -> Result:
    traced, typed, groups = analysis.traced, analysis.typed, analysis.groups
    exact = {uid: units for uid, units in kept.items() if groups[uid].guarantee.exact}
    error, small = cut_error(traced, typed, groups, exact)
    approximate: float | None = None
    if len(exact) < len(kept):
        approximate, small = cut_error(traced, typed, groups, kept)
    network, plan, reason = _network(model, analysis, kept, small, options)
    report = _report(
        analysis, kept, reasons,
        module="GraphModule" if reason else "same class", module_reason=reason,
        error=error, approximate_error=approximate,
    )  # fmt: skip
    return Result(network, plan, report, model, traced.inputs, traced.dynamic_shapes)


def _network(
    model: nn.Module, analysis: _Analysis, kept: Kept, small: GraphNetwork, options: Options
) -> tuple[nn.Module, Plan, str]:
    """The pruned network as the model's own class, or the cut graph and why it has to be that."""
    names = {g.leaf.uid: g.name for g in analysis.found.groups}
    expected = run(small, analysis.traced.inputs)

    def objection(candidate: nn.Module) -> str:
        try:
            gap = difference(expected, run_in_evaluation(candidate, analysis.traced.inputs))
        except Exception as problem:
            text = str(problem).strip().splitlines() or [type(problem).__name__]
            return f"its forward does not follow: {text[0]}"
        if gap > tolerance(expected):
            return f"its forward computes something else (relative difference {gap:.1e})"
        return ""

    reason = "keep_class=False"
    if options.keep_class:
        try:
            return *in_own_class(model, analysis.typed, names, kept, objection), ""
        except Inexpressible as inexpressible:
            reason = str(inexpressible)
    plan = make_plan(analysis.typed, names, kept, None)
    return small.train(model.training), plan, reason


def _report(analysis: _Analysis, kept: Kept, reasons: Mapping[int, str], **fields: Any) -> Report:
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


def _notes(analysis: _Analysis) -> list[str]:
    """Why little or nothing can be pruned, if so."""
    if not analysis.found.groups:
        largest = sorted(analysis.found.pinned, key=lambda p: -p.size)[:3]
        because = "; ".join(f"{p.where[0]}: {p.reason}" for p in largest)
        return [f"Nothing can be pruned. {because}"]
    return []
