"""What happens to a graph, whatever it was read from: analyse, choose, report.

Reading a model, cutting it and checking the result differ between frameworks; each has a module
of its own above this one.
"""

from __future__ import annotations

import fnmatch
import gc
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, TypedDict

import numpy as np

from autoprune.analysis.cost import CostModel
from autoprune.analysis.effective import as_read, effective_weights
from autoprune.analysis.groups import Groups, find_groups
from autoprune.analysis.nesting import outer_leaves
from autoprune.analysis.probing import NOT_PROBED, Probing
from autoprune.analysis.resizing import sizes_of
from autoprune.analysis.typing import TypedGraph, infer, unused_parameters
from autoprune.errors import AutopruneError, BudgetError, GraphError
from autoprune.ir.axes import Leaf
from autoprune.ir.graph import Graph
from autoprune.ir.group import Group
from autoprune.ir.positions import Kept
from autoprune.passes.allocation import (
    TOLERANCE,
    Candidate,
    block_sizes,
    keep_share,
    meet_budget,
    relative_to_group,
    roomy_block,
)
from autoprune.passes.criteria import Array, Criterion, GroupWeights, Scores, l2, score
from autoprune.passes.roles import role, same_roles
from autoprune.report import Report, Subject
from autoprune.report.explain import group_rows, pinned_rows, unknown_operators

PREFERRED_MULTIPLES = (8, 4, 2)
"""Channel multiples tried in turn where none is asked for; vector units want the first."""

NO_LEAVES: Mapping[int, Leaf] = MappingProxyType({})


class CostBudget(TypedDict, total=False):
    """A cost that the analysis can foresee; the fraction of it to keep.

    Attributes:
        flops: of the FLOPs, met within 1 %.
        params: of the parameters, met within 1 %.
        memory: of the bytes of activations alive at the same time, met within 1 %.
        channels: of the units of every group.
    """

    flops: float | None
    params: float | None
    memory: float | None
    channels: float | None


class Budget(CostBudget, total=False):
    """What `prune` is to keep, as a fraction; exactly one is given.

    Attributes:
        latency: of the time that one inference takes in ONNX Runtime on this machine. Networks
            are pruned and measured until one is found that meets it within 3 %, or the largest
            that takes less.
    """

    latency: float | None


LITTLE = 0.5
"""If exact groups leave more than this share of the parameters, the report says why."""


def silent(text: str) -> None:
    """Tell nobody what is being done."""


@dataclass(frozen=True)
class Options:
    """Choices that rarely change.

    Attributes:
        approximate: also prune groups whose removal changes the function (units normalized
            together); the report gives the measured error.
        min_units: units of a group that stay at least.
        allocation: `uniform` removes the same share of every group, `global` the lowest scores
            wherever they are (for criteria, relative to the mean of their group). None: uniform
            for criteria, global for learners.
        keep_class: return a network of the model's own class where possible, otherwise a
            GraphModule. Groups that its forward cannot follow are left alone, unless that is
            more than three quarters of the reduction.
        keep_config: also leave alone what the model's configuration object cannot describe, so
            that `save_pretrained` and `from_pretrained` work; layers shrink alike.
        dynamic_shapes: None, `"batch"`, or what `torch.export.export` takes.
        strict: an operator without a rule is an error instead of pinning what it touches.
        probe: find rules for operators without one by experiments on their calls.
        per_outer: where a group occurs only under another axis, such as the width of heads under
            the heads, keep the best units of each unit of that axis; otherwise the same for all.
        uniform: groups that play the same role in repeated layers keep the same number of units,
            as programs that serve language models expect; if one of them cannot shrink, none does.
        threads: threads that ONNX Runtime may use where latency is the budget.
        progress: called with what is being done, such as `print`.
    """

    approximate: bool = False
    min_units: int = 1
    allocation: Literal["uniform", "global"] | None = None
    keep_class: bool = True
    keep_config: bool = False
    dynamic_shapes: Any = None
    strict: bool = False
    probe: bool = False
    per_outer: bool = True
    uniform: bool = False
    threads: int = 1
    progress: Callable[[str], object] = field(default=silent, repr=False)


DEFAULTS = Options()


@dataclass(frozen=True)
class Request:
    """What a user asks of `prune`, for the meaning see there.

    Attributes:
        budget: a cost (`flops`, `params`, `memory`, `channels` or `groups`) and the share of it to
            keep.
        criterion: scores the units of a group.
        ignore: patterns of names to leave alone.
        multiple_of: channel counts stay multiples of this; None to choose.
        seed: for criteria that draw.
        options: everything else.
        tolerance: how far from the budget the result may be, as a share of the full cost.
    """

    budget: tuple[str, float]
    criterion: Criterion = l2
    ignore: tuple[str, ...] = ()
    multiple_of: int | None = None
    seed: int = 0
    options: Options = DEFAULTS
    tolerance: float = TOLERANCE


@dataclass(frozen=True)
class Analysis:
    """A graph with everything that can be said about it.

    Attributes:
        typed: the graph's axis types.
        found: groups and pinned axes.
        costs: cost as a function of group sizes.
        seconds: processor time the analysis took, without reading the model and probing.
        probing: what experiments on operators without a rule came to.
    """

    typed: TypedGraph
    found: Groups
    costs: CostModel
    seconds: float
    probing: Probing = NOT_PROBED

    @property
    def graph(self) -> Graph:
        """The graph that was analysed."""
        return self.typed.graph

    @property
    def groups(self) -> dict[int, Group]:
        """Groups by leaf."""
        return {g.leaf.uid: g for g in self.found.groups}

    @cached_property
    def effective(self) -> tuple[str, ...]:
        """The values that layers read as their weights; see `effective_weights`."""
        return effective_weights(self.graph)

    @property
    def names(self) -> dict[int, str]:
        """Group names by leaf."""
        return {g.leaf.uid: g.name for g in self.found.groups}


def analyse(graph: Graph, options: Options, probing: Probing = NOT_PROBED) -> Analysis:
    """Find the groups of a graph, with the rules that probing found.

    Raises:
        GraphError: with `strict`, if an operator has no rule.
    """
    start = time.thread_time()
    with _no_garbage_collection():
        typed = infer(graph, strict=options.strict, rules=probing.rules)
        found = find_groups(typed)
        costs = CostModel(typed, frozenset(g.leaf.uid for g in found.groups))
    return Analysis(typed, found, costs, time.thread_time() - start, probing)


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


def one_budget(keywords: Mapping[str, Any], budgets: Collection[str]) -> tuple[str, float]:
    """The only budget among the keywords of a call, with its name.

    Args:
        keywords: those given; None counts as not given.
        budgets: names of the budgets there are.

    Raises:
        TypeError: if another keyword is given.
        BudgetError: if no budget or several are given.
    """
    if unknown := keywords.keys() - set(budgets):
        raise TypeError(f"unexpected keywords: {', '.join(sorted(unknown))}")
    given = [name for name in budgets if keywords.get(name) is not None]
    if len(given) != 1:
        raise BudgetError(
            f"give one budget, not {len(given)}",
            hint=", ".join(f"{name}=0.5" for name in budgets) + ": the fraction to keep",
        )
    return given[0], keywords[given[0]]


def check_finite(weights: Mapping[str, Array]) -> None:
    """Refuse weights that no criterion can compare.

    Raises:
        GraphError: naming the first parameter with a NaN or an infinity.
    """
    for name, array in weights.items():
        if array.dtype.kind in "fc":
            bad = int(array.size - np.isfinite(array).sum())
            if bad:
                raise GraphError(
                    f"{bad} of {array.size} weights are NaN or infinite",
                    where=f"parameter {name}",
                    hint="repair or retrain the model before pruning it",
                )


def allowed_groups(
    analysis: Analysis, patterns: Sequence[str], options: Options
) -> tuple[list[Group], dict[int, str]]:
    """The groups that may shrink, and by leaf why the others may not.

    Raises:
        AutopruneError: if a name to ignore matches nothing.
    """
    names = [n for p in analysis.graph.parameters for n in p.names]
    check_patterns(patterns, names, "ignore")
    aliases = {p.value.name: p.names for p in analysis.graph.parameters}
    allowed: list[Group] = []
    reasons: dict[int, str] = {}
    for group in analysis.found.groups:
        owned = {n for o in group.occurrences for n in aliases[o.parameter]}
        ignored = first_match(patterns, owned)
        if ignored is not None:
            reasons[group.leaf.uid] = f"left alone: ignore={ignored!r}"
        elif not group.guarantee.exact and not options.approximate:
            reasons[group.leaf.uid] = f"left alone: {group.reason}"
        else:
            allowed.append(group)
    if options.uniform or options.keep_config:
        asked = "uniform=True" if options.uniform else "keep_config=True"
        allowed = _with_their_roles(analysis.found, allowed, reasons, asked)
    return allowed, reasons


def _with_their_roles(
    found: Groups, allowed: Sequence[Group], reasons: dict[int, str], asked: str
) -> list[Group]:
    """The groups of whose role no other keeps its size; the reasons for the rest are added.

    The reasons name the option that asked for it.
    """
    whole = {role(axis.name, axis.size): axis.name for axis in found.pinned}
    whole |= {role(g.name, g.units): g.name for g in found if g.leaf.uid in reasons}
    shrinking = [g for g in allowed if role(g.name, g.units) not in whole]
    for group in allowed:
        if group not in shrinking:
            fellow = whole[role(group.name, group.units)]
            reasons[group.leaf.uid] = f"left alone: {asked}, and {fellow} keeps its size"
    return shrinking


def check_patterns(patterns: Iterable[str], names: Sequence[str], keyword: str) -> None:
    """Refuse names of parameters or modules that there are not.

    Raises:
        AutopruneError: naming the first of the patterns that matches nothing.
    """
    for pattern in patterns:
        if not any(matches(name, pattern) for name in names):
            raise AutopruneError(
                f"{keyword}={pattern!r} matches no module or parameter",
                hint="names look like " + ", ".join(f"{n!r}" for n in names[:3]),
            )


def matches(name: str, pattern: str) -> bool:
    """Whether a parameter is, or lies in a module, called `pattern`."""
    parts = name.split(".")
    prefixes = (".".join(parts[: i + 1]) for i in range(len(parts)))
    return any(fnmatch.fnmatchcase(prefix, pattern) for prefix in prefixes)


def first_match(patterns: Iterable[str], names: Collection[str]) -> str | None:
    """The first pattern that one of the names of a parameter matches."""
    return next((p for p in patterns if any(matches(name, p) for name in names)), None)


def choose(
    analysis: Analysis,
    weights: Mapping[str, Array],
    allowed: Sequence[Group],
    ties: Iterable[frozenset[int]],
    request: Request,
) -> Kept:
    """Kept units by leaf, chosen by a criterion, such that the budget is met.

    Args:
        analysis: of the model.
        weights: trained parameters by value name, and what is computed from them alone.
        allowed: the groups that may shrink.
        ties: leaves that have to shrink alike.
        request: the budget and how to meet it.

    Raises:
        BudgetError: if it cannot be met.
    """
    types = analysis.typed.types
    rng = np.random.default_rng(request.seed)
    read = as_read(allowed, analysis.typed, [n for n in analysis.effective if n in weights])
    free = frozenset(g.leaf.uid for g in allowed)
    outers = outer_leaves(analysis.typed, free) if request.options.per_outer else {}
    scores = [
        score(
            request.criterion,
            GroupWeights(group, weights, types, rng, outers.get(group.leaf.uid)),
        )
        for group in read
    ]
    if request.options.allocation == "global":
        scores = [relative_to_group(of_group) for of_group in scores]
    return allocate(analysis, allowed, scores, ties, request, outers)


def allocate(
    analysis: Analysis,
    allowed: Sequence[Group],
    scores: Sequence[Scores],
    ties: Iterable[frozenset[int]],
    request: Request,
    outers: Mapping[int, Leaf] = NO_LEAVES,
) -> Kept:
    """Kept units by leaf, those with the highest scores, such that the budget is met.

    Args:
        analysis: of the model.
        allowed: the groups that may shrink.
        scores: of the units of each of them; those with a score of minus infinity go first.
        ties: leaves that have to shrink alike.
        request: the budget and how to meet it.
        outers: by leaf, the leaf per whose units its units are chosen.

    Raises:
        BudgetError: if it cannot be met.
    """
    name, share = request.budget
    multiple_of, options = request.multiple_of, request.options
    ties = list(ties)
    if options.uniform or options.keep_config:
        ties.extend(same_roles(allowed))
    free = frozenset(g.leaf.uid for g in allowed)
    axes = [
        axis
        for parameter in analysis.graph.parameters
        if parameter.kind == "parameter"
        for axis in analysis.typed.types[parameter.value.name]
    ]

    def meet(multiple: int) -> Kept:
        blocks = block_sizes(axes, free, multiple)
        if multiple_of is None:
            blocks = {g.leaf.uid: roomy_block(g.units, blocks[g.leaf.uid]) for g in allowed}
        candidates = [
            Candidate(
                group,
                scored,
                blocks[group.leaf.uid],
                options.min_units,
                outers.get(group.leaf.uid),
            )
            for group, scored in zip(allowed, scores, strict=True)
        ]
        if name == "channels":
            return keep_share(candidates, share, ties)
        cost, tolerance = _cost(analysis.costs, allowed, request)
        return meet_budget(
            candidates, cost, name, share,
            ties=ties, strategy=options.allocation or "uniform", tolerance=tolerance,
        )  # fmt: skip

    if multiple_of is not None:
        return meet(multiple_of)
    for multiple in PREFERRED_MULTIPLES:
        try:
            return meet(multiple)
        except BudgetError:
            continue
    return meet(1)


def _cost(
    costs: CostModel, allowed: Sequence[Group], request: Request
) -> tuple[Callable[[Mapping[int, int]], int], float]:
    """What a budget is counted in, and how far from it a choice may be as a share of the whole."""
    name, _ = request.budget
    if name == "groups":
        whole = {g.leaf.uid: g.units for g in allowed}
        half_a_unit = 0.5 / max(1, sum(whole.values()))
        return lambda sizes: sum({**whole, **sizes}.values()), half_a_unit
    known = {"flops": costs.flops, "params": costs.params, "memory": costs.memory}
    return known[name], request.tolerance


def make_report(
    analysis: Analysis, kept: Kept, reasons: Mapping[int, str], **fields: Any
) -> Report:
    """The report on a choice; an empty choice gives the report on what could be chosen."""
    typed, found, costs = analysis.typed, analysis.found, analysis.costs
    exact = [g for g in found.groups if g.guarantee.exact]
    return Report(
        before=costs.at({}),
        after=costs.at(sizes_of(kept)),
        least=costs.at({g.leaf.uid: 1 for g in exact}),
        groups=group_rows(typed, found, costs, kept, reasons),
        pinned=pinned_rows(typed, found),
        unknown_operators=unknown_operators(typed),
        analysis_seconds=analysis.seconds,
        notes=(*analysis.probing.notes(), *_notes(analysis)),
        subject=Subject(typed, {g.name: g.leaf.uid for g in found.groups}, kept),
        **fields,
    )


def _notes(analysis: Analysis) -> list[str]:
    """Why little or nothing can be pruned, if so."""
    found, full = analysis.found, analysis.costs.params({})
    exact = [g for g in found.groups if g.guarantee.exact]
    least = analysis.costs.params({g.leaf.uid: 1 for g in exact})
    notes = []
    unused = unused_parameters(analysis.graph)
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
