"""Plans and files of pruned torch modules, made into networks of a fresh, uncut instance."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoprune.analysis.groups import find_groups
from autoprune.analysis.nesting import outer_leaves
from autoprune.analysis.planning import check_complete
from autoprune.analysis.typing import TypedGraph, infer
from autoprune.errors import PlanError, TraceError, first_line
from autoprune.frameworks.torch.carried import carried_plan, carry
from autoprune.frameworks.torch.cut import (
    cut_graph,
    with_tensors,
)
from autoprune.frameworks.torch.equality import (
    difference,
    new_biases,
    run,
    tolerance,
)
from autoprune.frameworks.torch.objects import Inputs
from autoprune.frameworks.torch.own_class.modules import (
    check_architecture,
    check_layers,
    rebuild,
)
from autoprune.frameworks.torch.trace import Traced, copy_of, trace
from autoprune.frameworks.torch.wrappers import network_of
from autoprune.ir.group import Group
from autoprune.ir.plan import Plan
from autoprune.ir.positions import Kept
from autoprune.passes.pruning.torch_network import probed_rules
from autoprune.passes.pruning.torch_result import read_safetensors


def apply_plan(
    model: nn.Module, plan: Plan, example_inputs: Any = None, dynamic_shapes: Any = None
) -> nn.Module:
    """See `autoprune.apply_plan`."""
    return _follow(model, plan, example_inputs, dynamic_shapes, weights=True)


def load(
    model: nn.Module, path: str | Path, example_inputs: Any = None, dynamic_shapes: Any = None
) -> nn.Module:
    """See `autoprune.load`."""
    plan, tensors = read_safetensors(path)
    small = _follow(model, plan, example_inputs, dynamic_shapes, weights=False)
    own = small.state_dict()
    for name, tensor in tensors.items():
        if name in own and _kind(own[name]) != _kind(tensor):
            raise PlanError(
                f"the weights do not fit: {name} is of {tensor.dtype}, and in the model of "
                f"{own[name].dtype}",
                where=str(path),
            )
    given = OrderedDict(tensors)
    # Modules ask for the version of their state, which the file does not hold.
    given._metadata = own._metadata  # type: ignore[attr-defined]
    try:
        missing, unexpected = small.load_state_dict(given, strict=False)
    except RuntimeError as error:
        raise PlanError(
            f"the weights do not fit: {str(error).splitlines()[-1].strip()}", where=str(path)
        ) from error
    own = small.state_dict()
    loaded = {own[name].data_ptr() for name in tensors if name not in unexpected}
    lost = [name for name in missing if own[name].data_ptr() not in loaded]
    if lost or unexpected:
        raise PlanError(
            f"the file and the model do not hold the same tensors: {(lost + unexpected)[0]}",
            where=str(path),
        )
    return small


def _kind(tensor: torch.Tensor) -> tuple[bool, bool, bool]:
    """What sort of numbers a tensor holds, in whatever precision."""
    return tensor.is_floating_point(), tensor.is_complex(), tensor.dtype == torch.bool


def _follow(
    model: nn.Module, plan: Plan, example_inputs: Any, dynamic_shapes: Any, *, weights: bool
) -> nn.Module:
    """A network made by the steps of a plan; without `weights` only its shape matters."""
    plan.check()
    small = model = network_of(model)
    for step in plan.steps:
        check_architecture(small, step)
        if step.rebuildable and not weights:
            small = _rebuilt(small, step)
        else:
            small = _apply_step(small, step, example_inputs, dynamic_shapes)
    carry(small, plan.after(carried_plan(model)))
    return small


def _apply_step(
    model: nn.Module, plan: Plan, example_inputs: Any, dynamic_shapes: Any
) -> nn.Module:
    """A network cut as one step of a plan says; compared with the graph where there is one."""
    if example_inputs is None:
        if plan.rebuildable and not plan.folded:
            return _rebuilt(model, plan)
        why = (
            f"constants are added to biases such as {plan.folded[0]}"
            if plan.rebuildable
            else "this plan's network is not of the model's own class"
        )
        raise PlanError(f"{why}, so the model has to be traced", hint="pass example_inputs")
    traced, typed, groups, kept = _chosen(model, plan, example_inputs, dynamic_shapes)
    biases = new_biases(traced, typed, groups, kept)
    folded = dataclasses.replace(traced, module=with_tensors(traced.module, biases))
    network = cut_graph(folded, typed, kept)
    if not plan.rebuildable:
        return network.train(model.training)
    small = _rebuilt(with_tensors(model, biases), plan)
    _check_follows(small, network, traced.inputs)
    return small


def _rebuilt(model: nn.Module, plan: Plan) -> nn.Module:
    small = rebuild(model, plan)
    if not plan.seal:
        check_layers(model, small)
    return small


def _check_follows(small: nn.Module, network: nn.Module, inputs: Inputs) -> None:
    """Check that a network made by slicing and setting attributes is the cut graph."""
    expected = run(network, inputs)
    try:
        gap = difference(expected, run(copy_of(small).eval(), inputs))
    except Exception as error:
        raise PlanError(
            f"the network that the plan makes does not run: {first_line(error):.200}",
            hint="groups whose size the model states only once have to keep as many units",
        ) from error
    if not gap <= tolerance(expected):
        raise PlanError(
            f"the network that the plan makes is not what its groups say (relative difference "
            f"{gap:.1e})",
            hint="use the plan as it was written",
        )


def _chosen(
    model: nn.Module, plan: Plan, example_inputs: Any, dynamic_shapes: Any
) -> tuple[Traced, TypedGraph, dict[int, Group], Kept]:
    """The traced model and the units that a plan keeps of it."""
    traced = _traced_as_planned(model, plan, example_inputs, dynamic_shapes)
    typed = infer(traced.graph)
    groups = {g.leaf.uid: g for g in find_groups(typed)}
    by_name = {g.name: g for g in groups.values()}
    if not plan.groups.keys() <= by_name.keys():
        # It may have been made without some outputs, which pin what it cuts.
        typed = infer(dataclasses.replace(traced.graph, loose=traced.graph.outputs))
        groups = {g.leaf.uid: g for g in find_groups(typed)}
        by_name = {g.name: g for g in groups.values()}
    if not plan.groups.keys() <= by_name.keys():
        # Operators without a rule pin what probed rules had freed.
        typed = infer(traced.graph, rules=probed_rules(traced).rules)
        groups = {g.leaf.uid: g for g in find_groups(typed)}
        by_name = {g.name: g for g in groups.values()}
    kept = plan.kept(by_name, outer_leaves(typed, list(groups)))
    check_complete(plan, typed, kept)
    return traced, typed, groups, kept


def _traced_as_planned(
    model: nn.Module, plan: Plan, example_inputs: Any, dynamic_shapes: Any
) -> Traced:
    """The model's graph, which has to be the one that the plan was made for.

    Each step may have been traced with other dynamic shapes, which the graph shows.
    """
    traced = trace(model, example_inputs, dynamic_shapes=dynamic_shapes)
    others = [shapes for shapes in (None, "batch") if shapes != dynamic_shapes]
    while traced.graph.digest != plan.graph and others:
        with contextlib.suppress(TraceError):
            traced = trace(model, example_inputs, dynamic_shapes=others.pop(0))
    if traced.graph.digest != plan.graph:
        raise PlanError(
            "the plan was made for another graph",
            hint="apply it to the architecture, and the library versions, it was made with, and "
            "pass the same dynamic_shapes",
        )
    return traced
