"""Plans made into networks of a fresh, uncut model."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.analysis.groups import find_groups
from autoprune.analysis.nesting import outer_leaves
from autoprune.analysis.planning import check_complete
from autoprune.analysis.typing import TypedGraph, infer
from autoprune.errors import PlanError, TraceError
from autoprune.frameworks.network import Network
from autoprune.ir.group import Group
from autoprune.ir.plan import Plan
from autoprune.ir.positions import Kept
from autoprune.passes.pruning.analysed import probed
from autoprune.passes.pruning.folding import folded_biases
from autoprune.passes.pruning.given import Given
from autoprune.passes.pruning.law import zeroed_network

if TYPE_CHECKING:
    from torch import nn


def apply_plan(given: Given, plan: Plan) -> Any:
    """See `autoprune.apply_plan`."""
    return _follow(given, plan, weights=True)


def load(given: Given, path: str | Path) -> nn.Module:
    """See `autoprune.load`."""
    from autoprune.frameworks.torch.files import fill, read_safetensors

    given.check_framework("`load`", onnx=False)
    plan, tensors = read_safetensors(path)
    small: nn.Module = _follow(given, plan, weights=False)
    fill(small, tensors, str(path))
    return small


def _follow(given: Given, plan: Plan, *, weights: bool) -> Any:
    """A network made by the steps of a plan; without `weights` only its shape matters."""
    plan.check()
    if given.network is not None:
        if len(plan.steps) > 1:
            raise PlanError(
                f"the plan has {len(plan.steps)} steps, and {type(given.network).__name__} was "
                "read before the first",
                hint="apply one of `plan.steps` after the other, each to a network of what the "
                "last one made",
            )
        return _apply(given, plan, weights=weights)
    given.check_framework("following a plan")
    if given.is_onnx:
        from autoprune.frameworks.onnx.carried import carried_plan, carry
        from autoprune.frameworks.onnx.file import read_onnx

        given = replace(given, model=read_onnx(given.model).model)
    else:
        from autoprune.frameworks.torch.carried import carried_plan, carry
    small = given.model
    for step in plan.steps:
        small = _apply(replace(given, model=small), step, weights=weights)
    carry(small, plan.after(carried_plan(given.model)))
    return small


def _apply(given: Given, plan: Plan, *, weights: bool) -> Any:
    """A model cut as one step of a plan says."""
    if given.network is None and not given.is_onnx:
        from autoprune.frameworks.torch.own_class.planned import rebuilt

        small = rebuilt(given.model, plan, weights=weights, traceable=given.inputs is not None)
        if small is not None:
            return small
    network = _traced_as_planned(given, plan)
    network, typed, groups, kept = _chosen(network, plan)
    inputs = next(network.probes())
    zeroed = zeroed_network(network, typed, groups, kept)
    biases = folded_biases(network, zeroed, typed, groups, kept, inputs)
    network = network.with_parameters(biases)
    return network.planned(network.cut(typed, kept), plan)


def _chosen(network: Network, plan: Plan) -> tuple[Network, TypedGraph, dict[int, Group], Kept]:
    """The network, its axis types, its groups by leaf, and the units that a plan keeps of them."""
    typed = infer(network.graph)
    by_name = {g.name: g for g in find_groups(typed)}
    if not plan.groups.keys() <= by_name.keys():
        # It may have been made without some outputs, which pin what it cuts.
        network = network.without_outputs()
        typed = infer(network.graph)
        by_name = {g.name: g for g in find_groups(typed)}
    if not plan.groups.keys() <= by_name.keys():
        # Operators without a rule pin what probed rules had freed.
        typed = infer(network.graph, rules=probed(network).rules)
        by_name = {g.name: g for g in find_groups(typed)}
    groups = {g.leaf.uid: g for g in by_name.values()}
    kept = plan.kept(by_name, outer_leaves(typed, list(groups)))
    check_complete(plan, typed, kept)
    return network, typed, groups, kept


def _traced_as_planned(given: Given, plan: Plan) -> Network:
    """The model's graph, which has to be the one that the plan was made for.

    Each step may have been traced with other dynamic shapes, which the graph shows.
    """
    network = given.trace()
    fixed = given.is_onnx or given.network is not None
    others = [s for s in (None, "batch") if s != given.dynamic_shapes and not fixed]
    while network.graph.digest != plan.graph and others:
        with contextlib.suppress(TraceError):
            network = replace(given, dynamic_shapes=others.pop(0)).trace()
    if network.graph.digest != plan.graph:
        raise PlanError(
            "the plan was made for another graph",
            hint="apply it to the model it was made with"
            if fixed
            else "apply it to the architecture, and the library versions, it was made with, and "
            "pass the same dynamic_shapes",
        )
    return network
