"""The cut network as a model of the user's own class, if there is one.

Candidates are built from what the graph says about attributes; whether one computes the cut
network is decided by running it and by comparing its calls with those of the cut graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Cut(Choice):
    """A choice of units of a traced network.

    Attributes:
        traced: the network.
    """

    traced: Traced


def in_own_class(model: nn.Module, cut: Cut, network: nn.Module) -> tuple[nn.Module, Plan]:
    """The cut network as the model's own class, and the plan that makes it.

    Args:
        model: the user's model.
        cut: what to cut.
        network: the cut graph.

    Raises:
        Inexpressible: with the first objection, if there is one to every candidate.
    """
    judge = Judge(cut, run(network, cut.traced.inputs))
    judge.check_norms()
    first = ""
    for attributes in islice(attribute_readings(model, cut.typed, cut.kept), ATTEMPTS):
        try:
            plan = _fitting(model, cut, attributes, judge)
        except Inexpressible as inexpressible:
            first = first or str(inexpressible)
            continue
        for key in _twins(model, attributes):
            fewer = _without(model, attributes, key)
            try:
                plan = _fitting(model, cut, fewer, judge)
            except Inexpressible:
                continue
            attributes = fewer
        plan = _with_unread(model, cut, attributes, judge, plan)
        return rebuild(model, plan), plan
    raise Inexpressible(first)


def _with_unread(
    model: nn.Module, cut: Cut, attributes: Attributes, judge: Judge, plan: Plan
) -> Plan:
    """The plan with those widths that only code around it reads, if what it makes is the same."""
    unread = unread_sizes(model, cut.typed, cut.kept, attributes)
    if not unread:
        return plan
    stated = make_plan(cut.typed, cut.names, cut.kept, unread).attributes
    fuller = replace(
        plan,
        attributes={
            path: {**plan.attributes.get(path, {}), **stated.get(path, {})}
            for path in dict.fromkeys((*plan.attributes, *stated))
        },
    )
    try:
        same = judge.gap(model, fuller) == judge.gap(model, plan)
    except (Inexpressible, PlanError):
        return plan
    return fuller if same else plan


def inexpressible(
    model: nn.Module, cut: Cut, parts: Sequence[frozenset[int]], *, configured: bool
) -> dict[int, str]:
    """The leaves whose cut no model of the user's class can follow, found by trying, and why not.

    Args:
        model: the user's model.
        cut: what is to be cut.
        parts: leaves that are accepted or left alone together, tried in this order.
        configured: its configuration has to describe it, too.
    """
    accepted = frozenset[int]()
    objections: dict[int, str] = {}
    for part in each(parts, "trying what the model's own class can express"):
        trial = accepted | part
        kept = {uid: units for uid, units in cut.kept.items() if uid in trial}
        objection = _objection(model, replace(cut, kept=kept), configured=configured)
        if objection:
            objections.update(dict.fromkeys(part, objection))
        else:
            accepted = trial
    return objections


def _objection(model: nn.Module, cut: Cut, *, configured: bool) -> str:
    """Why no reading of the attributes makes the model compute what the cut graph does, if so.

    Only the numbers are compared, unless they differ: then a factor may be missing.
    """
    collect_like(model)
    network = cut_graph(cut.traced, cut.typed, cut.kept, shared=True)
    judge = Judge(cut, run(network, cut.traced.inputs))
    del network
    first = ""
    try:
        judge.check_norms()
        for attributes in islice(attribute_readings(model, cut.typed, cut.kept), ATTEMPTS):
            try:
                plan = make_plan(cut.typed, cut.names, cut.kept, attributes)
                if judge.gap(model, plan) > judge.tolerance:
                    plan = _fitting(model, cut, attributes, judge)
            except (Inexpressible, PlanError) as objection:
                first = first or str(objection)
                continue
            if not configured:
                return ""
            changes = shrunk_sizes(cut.typed, cut.kept)
            candidate = judge.build(model, plan)
            return follow_configuration(candidate, plan, changes, cut.traced.inputs)
    except Inexpressible as contradiction:
        return str(contradiction)
    return first


def _fitting(model: nn.Module, cut: Cut, attributes: Attributes, judge: Judge) -> Plan:
    """The plan that sets these attributes and slices parameters, if it makes the cut graph.

    Numbers that come out otherwise are made up for where parameters can take up the factor.

    Raises:
        Inexpressible: if it is not the cut graph, saying in what.
    """
    plan = make_plan(cut.typed, cut.names, cut.kept, attributes)
    try:
        gap = judge.gap(model, plan)
    except PlanError as error:
        raise Inexpressible(f"{error.what} ({error.where})") from error
    if gap > judge.tolerance:
        judge.lose_patience(gap)
    found = judge.compare(model, plan)
    explained: frozenset[str] = frozenset()
    if found.discrepancies and not found.problem:
        try:
            edits = place(cut.typed, cut.names, found.discrepancies)
        except Unplaceable as reason:
            raise Inexpressible(
                f"its forward computes something else: {found.discrepancies[0]}; {reason}"
            ) from reason
        explained = edits.explained
        constants = constant_readings(model, cut.typed, edits.constants)
        plan = make_plan(cut.typed, cut.names, cut.kept, attributes, edits.factors, constants)
        gap = judge.gap(model, plan)
        found = judge.compare(model, plan)
    left = [d for d in found.discrepancies if d.node.name not in explained]
    if found.problem or left:
        raise Inexpressible(f"its forward is not the cut graph: {found.problem or left[0]}")
    if gap > judge.precision:
        raise _differs(gap)
    return plan


def _differs(gap: float) -> Inexpressible:
    return Inexpressible(f"its forward computes something else (relative difference {gap:.1e})")


class Judge:
    """Compares candidates with the cut graph.

    Args:
        cut: what was cut.
        expected: the cut graph's outputs.
    """

    def __init__(self, cut: Cut, expected: Any) -> None:
        self.cut = cut
        self.expected = cut.traced.wanted.of(expected)
        self.tolerance = tolerance(self.expected)
        self.precision = precision(cut.typed.graph, self.expected)
        self.calls = resized_calls(cut.typed, cut.kept)
        self._patience = PATIENCE
        self._shared = not cut.typed.graph.mutated

    def build(self, model: nn.Module, plan: Plan) -> nn.Module:
        """What a plan makes of a model, to be looked at; errors as of `rebuild`."""
        return rebuild(model, plan, shared=self._shared)

    def check_norms(self) -> None:
        """Notice early what no attribute changes.

        Raises:
            Inexpressible: if a norm of the cut graph is over a share of its positions.
        """
        for node in self.cut.typed.graph.nodes:
            call = self.calls.get(node.name)
            if call is not None and call.share != 1.0:
                raise Inexpressible(
                    "its forward takes mean and variance over what is left, not over the uncut "
                    f"axis, in {node.op} ({node.source or node.name})"
                )

    def lose_patience(self, gap: float) -> None:
        """Count a candidate whose numbers differ: few are worth comparing call by call.

        Raises:
            Inexpressible: if there were too many.
        """
        if not self._patience:
            raise _differs(gap)
        self._patience -= 1

    def gap(self, model: nn.Module, plan: Plan) -> float:
        """Relative difference between the outputs of the cut graph and of what a plan makes.

        Raises:
            PlanError: if it makes nothing.
            Inexpressible: if that does not run.
        """
        candidate = self.build(model, plan).eval()
        try:
            outputs = run(candidate, self.cut.traced.inputs)
        except Exception as problem:
            raise Inexpressible(f"its forward does not follow: {first_line(problem)}") from problem
        return difference(self.expected, self.cut.traced.wanted.of(outputs))

    def compare(self, model: nn.Module, plan: Plan) -> Comparison:
        """Differences between the calls of the cut graph and of what a plan makes.

        Raises:
            Inexpressible: if the candidate cannot be exported.
        """
        traced = self.cut.traced
        try:
            candidate = self.build(model, plan)
            graph = trace(candidate, traced.inputs, dynamic_shapes=traced.dynamic_shapes).graph
        except TraceError as problem:
            raise Inexpressible(f"it cannot be exported again: {problem.what}") from problem
        del candidate
        collect_like(model)
        return compare(self.cut.typed, sizes_of(self.cut.kept), self.calls, graph)


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
