"""The cut network as a model of the user's own class, if there is one.

Candidates are built from what the graph says about attributes; whether one computes the cut
network is decided by running it and by comparing its calls with those of the cut graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from torch import nn

from autoprune.analysis.planning import make_plan
from autoprune.analysis.resizing import resized_calls, shrunk_sizes, sizes_of
from autoprune.errors import PlanError, TraceError, first_line
from autoprune.frameworks.network import Choice
from autoprune.frameworks.torch.cut import cut_graph
from autoprune.frameworks.torch.equality import difference, precision, run, tolerance
from autoprune.frameworks.torch.memory import collect_like
from autoprune.frameworks.torch.own_class.attributes import (
    LAYER_SIZES,
    Attributes,
    Inexpressible,
    attribute_readings,
    constant_readings,
)
from autoprune.frameworks.torch.own_class.configuration import follow_configuration
from autoprune.frameworks.torch.own_class.factors import Unplaceable, place
from autoprune.frameworks.torch.own_class.modules import rebuild
from autoprune.frameworks.torch.own_class.sameness import Comparison, compare
from autoprune.frameworks.torch.own_class.unread import unread_sizes
from autoprune.frameworks.torch.trace import Traced, trace
from autoprune.ir.plan import Plan
from autoprune.report.progress import each

ATTEMPTS = 16
"""Most readings of ambiguous attributes that are tried."""

PATIENCE = 3
"""Most candidates with other numbers whose calls are compared; each is exported for that."""


def in_own_class(traced: Traced, choice: Choice, network: nn.Module) -> tuple[nn.Module, Plan]:
    """The cut network as the model's own class, and the plan that makes it.

    Args:
        traced: the user's model.
        choice: what stays of it.
        network: the cut graph.

    Raises:
        Inexpressible: with the first objection, if there is one to every candidate.
    """
    model, judge = traced.model, _Judge(traced, choice, network)
    judge.check_norms()
    first = ""
    for attributes in islice(attribute_readings(model, choice.typed, choice.kept), ATTEMPTS):
        try:
            plan = judge.fitting(attributes)
        except Inexpressible as inexpressible:
            first = first or str(inexpressible)
            continue
        for key in _twins(model, attributes):
            fewer = _without(model, attributes, key)
            try:
                plan = judge.fitting(fewer)
            except Inexpressible:
                continue
            attributes = fewer
        plan = _with_unread(judge, attributes, plan)
        return rebuild(model, plan), plan
    raise Inexpressible(first)


def _with_unread(judge: _Judge, attributes: Attributes, plan: Plan) -> Plan:
    """The plan with those widths that only code around it reads, if what it makes is the same."""
    choice = judge.choice
    unread = unread_sizes(judge.model, choice.typed, choice.kept, attributes)
    if not unread:
        return plan
    stated = judge.plan(unread).attributes
    fuller = replace(
        plan,
        attributes={
            path: {**plan.attributes.get(path, {}), **stated.get(path, {})}
            for path in dict.fromkeys((*plan.attributes, *stated))
        },
    )
    try:
        same = judge.gap(fuller) == judge.gap(plan)
    except (Inexpressible, PlanError):
        return plan
    return fuller if same else plan


def inexpressible(
    traced: Traced, choice: Choice, parts: Sequence[frozenset[int]], *, configured: bool
) -> dict[int, str]:
    """The leaves whose cut no model of the user's class can follow; as `OwnClass.objections`."""
    accepted = frozenset[int]()
    objections: dict[int, str] = {}
    for part in each(parts, "trying what the model's own class can express"):
        trial = accepted | part
        kept = {uid: units for uid, units in choice.kept.items() if uid in trial}
        objection = _objection(traced, replace(choice, kept=kept), configured=configured)
        if objection:
            objections.update(dict.fromkeys(part, objection))
        else:
            accepted = trial
    return objections


def _objection(traced: Traced, choice: Choice, *, configured: bool) -> str:
    """Why no reading of the attributes makes the model compute what the cut graph does, if so.

    Only the numbers are compared, unless they differ: then a factor may be missing.
    """
    collect_like(traced.model)
    typed, kept = choice.typed, choice.kept
    judge = _Judge(traced, choice, cut_graph(traced, typed, kept, shared=True))
    first = ""
    try:
        judge.check_norms()
        for attributes in islice(attribute_readings(traced.model, typed, kept), ATTEMPTS):
            try:
                plan = judge.plan(attributes)
                if judge.gap(plan) > judge.tolerance:
                    plan = judge.fitting(attributes)
            except (Inexpressible, PlanError) as objection:
                first = first or str(objection)
                continue
            if not configured:
                return ""
            changes = shrunk_sizes(typed, kept)
            return follow_configuration(judge.build(plan), plan, changes, traced.inputs)
    except Inexpressible as contradiction:
        return str(contradiction)
    return first


class _Judge:
    """Compares what plans make of a model with the cut graph.

    Args:
        traced: the model.
        choice: what stays of it.
        network: the cut graph; it is run, and not kept.
    """

    def __init__(self, traced: Traced, choice: Choice, network: nn.Module) -> None:
        self.traced = traced
        self.model = traced.model
        self.choice = choice
        self.expected = traced.required(run(network, traced.inputs))
        self.tolerance = tolerance(self.expected)
        self.precision = precision(choice.typed.graph, self.expected)
        self.calls = resized_calls(choice.typed, choice.kept)
        self._patience = PATIENCE
        self._shared = not choice.typed.graph.mutated

    def plan(self, attributes: Attributes, *edits: Any) -> Plan:
        """The plan that slices parameters and sets these attributes; `edits` as of `make_plan`."""
        choice = self.choice
        return make_plan(choice.typed, choice.names, choice.kept, attributes, *edits)

    def build(self, plan: Plan) -> nn.Module:
        """What a plan makes of the model, to be looked at; errors as of `rebuild`."""
        return rebuild(self.model, plan, shared=self._shared)

    def check_norms(self) -> None:
        """Notice early what no attribute changes.

        Raises:
            Inexpressible: if a norm of the cut graph is over a share of its positions.
        """
        for node in self.choice.typed.graph.nodes:
            call = self.calls.get(node.name)
            if call is not None and call.share != 1.0:
                raise Inexpressible(
                    "its forward takes mean and variance over what is left, not over the uncut "
                    f"axis, in {node.op} ({node.source or node.name})"
                )

    def fitting(self, attributes: Attributes) -> Plan:
        """The plan that sets these attributes and slices parameters, if it makes the cut graph.

        Numbers that come out otherwise are made up for where parameters can take up the factor.
        Few candidates whose numbers differ are worth comparing call by call.

        Raises:
            Inexpressible: if it is not the cut graph, saying in what.
        """
        typed = self.choice.typed
        plan = self.plan(attributes)
        try:
            gap = self.gap(plan)
        except PlanError as error:
            raise Inexpressible(f"{error.what} ({error.where})") from error
        if gap > self.tolerance:
            if not self._patience:
                raise _differs(gap)
            self._patience -= 1
        found = self.compare(plan)
        explained: frozenset[str] = frozenset()
        if found.discrepancies and not found.problem:
            try:
                edits = place(typed, self.choice.names, found.discrepancies)
            except Unplaceable as reason:
                raise Inexpressible(
                    f"its forward computes something else: {found.discrepancies[0]}; {reason}"
                ) from reason
            explained = edits.explained
            constants = constant_readings(self.model, typed, edits.constants)
            plan = self.plan(attributes, edits.factors, constants)
            gap = self.gap(plan)
            found = self.compare(plan)
        left = [d for d in found.discrepancies if d.node.name not in explained]
        if found.problem or left:
            raise Inexpressible(f"its forward is not the cut graph: {found.problem or left[0]}")
        if gap > self.precision:
            raise _differs(gap)
        return plan

    def gap(self, plan: Plan) -> float:
        """Relative difference between the outputs of the cut graph and of what a plan makes.

        Raises:
            PlanError: if it makes nothing.
            Inexpressible: if that does not run.
        """
        candidate = self.build(plan).eval()
        try:
            outputs = run(candidate, self.traced.inputs)
        except Exception as problem:
            raise Inexpressible(f"its forward does not follow: {first_line(problem)}") from problem
        return difference(self.expected, self.traced.required(outputs))

    def compare(self, plan: Plan) -> Comparison:
        """Differences between the calls of the cut graph and of what a plan makes.

        Raises:
            Inexpressible: if the candidate cannot be exported.
        """
        inputs, shapes = self.traced.inputs, self.traced.dynamic_shapes
        try:
            graph = trace(self.build(plan), inputs, dynamic_shapes=shapes).graph
        except TraceError as problem:
            raise Inexpressible(f"it cannot be exported again: {problem.what}") from problem
        collect_like(self.model)
        return compare(self.choice.typed, sizes_of(self.choice.kept), self.calls, graph)


def _differs(gap: float) -> Inexpressible:
    return Inexpressible(f"its forward computes something else (relative difference {gap:.1e})")


_Key = tuple[type, str]


def _twins(model: nn.Module, attributes: Attributes) -> list[_Key]:
    """Attributes that say the same number as another one of their module.

    Only one of them may be the size that changes; the other is left alone if nothing needs it.
    """
    found: dict[_Key, None] = {}
    for path, entries in attributes.items():
        module = model.get_submodule(path)
        for name, axes in entries.items():
            same = [other for other in entries.values() if other == axes]
            if len(same) > 1 and name not in LAYER_SIZES:
                found[type(module), name] = None
    return list(found)


def _without(model: nn.Module, attributes: Attributes, key: _Key) -> Attributes:
    return {
        path: {
            name: axes
            for name, axes in entries.items()
            if (type(model.get_submodule(path)), name) != key
        }
        for path, entries in attributes.items()
    }
