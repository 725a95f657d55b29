"""Kept units -> a smaller model of the user's own class.

Slicing the parameters of a copy is easy; the integers that its `forward` reads from attributes
(head counts, widths, split sizes, `groups`) have to follow. They are found without knowing any
class: the traced graph says which axes' sizes a module's calls spell out, and an attribute of
that module with the same value is that size. Whether the guess was right is decided by running
the result against the cut graph.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from autoprune.analysis.typing import TypedGraph, operator_of
from autoprune.backends.torch import Kept, cut_tensor, get_tensor, set_tensor, sizes_of
from autoprune.errors import PlanError
from autoprune.ir import axes as ax
from autoprune.ir.axes import Axis
from autoprune.ir.graph import Graph
from autoprune.ir.plan import Choice, Plan, expression
from autoprune.ops.rule import Sizing

Attributes = dict[str, dict[str, tuple[Axis, ...]]]
"""By module path and attribute name: the axes whose sizes the attribute states."""


class Ambiguous(Exception):
    """An attribute would have to take two values at once."""


def mentioned_axes(typed: TypedGraph) -> dict[str, list[Axis]]:
    """By module path, the axes whose sizes the calls made in its own `forward` spell out."""
    found: dict[str, list[Axis]] = {}
    # Rules look at sizes only as far as something shrinks, so everything does here.
    shrunk = {
        leaf.uid: leaf.size - 1
        for axes in typed.types.values()
        for axis in axes
        for leaf in ax.leaves(axis)
        if leaf.uid not in typed.pins
    }
    for node in typed.graph.nodes:
        sizing = Sizing(node, typed.types, shrunk)
        operator_of(node).resize(sizing)
        path = node.module[-1] if node.module else ""
        found.setdefault(path, []).extend(sizing.mentioned)
    return found


def shared_sizes(
    model: nn.Module, typed: TypedGraph, free: frozenset[int]
) -> Iterator[frozenset[int]]:
    """Leaves that one attribute states the size of, so that they should shrink alike.

    The width of queries and keys and the width of values are two groups, but a module that keeps
    both in one `head_dim` can only express cuts that agree.
    """
    modules = dict(model.named_modules())
    for path, axes in mentioned_axes(typed).items():
        values = set(_integers(modules[path])) if path in modules else set()
        by_size: dict[int, list[frozenset[int]]] = {}
        for axis in axes:
            leaves = frozenset(leaf.uid for leaf in ax.leaves(axis)) & free
            if axis.size in values and leaves:
                by_size.setdefault(axis.size, []).append(leaves)
        for sets in by_size.values():
            common = frozenset[int].intersection(*sets)
            rest = {s - common for s in sets}
            if len(rest) > 1 and all(len(s) == 1 for s in rest):
                yield frozenset().union(*rest)


def _integers(module: nn.Module) -> Iterator[int]:
    for value in vars(module).values():
        yield from _entries(value)


def _entries(value: Any) -> tuple[int, ...]:
    """The integers an attribute holds, directly or as a tuple or list."""
    parts = tuple(value) if isinstance(value, tuple | list) else (value,)
    return parts if parts and all(type(p) is int for p in parts) else ()


def find_attributes(model: nn.Module, typed: TypedGraph, kept: Kept) -> Attributes:
    """The attributes that state a size which `kept` changes.

    Raises:
        Ambiguous: if an attribute would need two values.
    """
    sizes = sizes_of(kept)
    mentioned = mentioned_axes(typed)
    result: Attributes = {}
    for path, module in model.named_modules():
        described = _described_by_weight(path, module, typed.graph, typed)
        for name, value in vars(module).items():
            entries = _entries(value)
            if not entries or name.startswith("__"):
                continue
            axes = described.get(name) or tuple(
                _stated(mentioned.get(path, ()), entry, sizes, f"`{name}` of `{path}`")
                for entry in entries
            )
            if any(ax.size(axis, sizes) != axis.size for axis in axes):
                result.setdefault(path, {})[name] = axes
    return result


def _stated(axes: Iterable[Axis], value: int, sizes: Mapping[int, int], what: str) -> Axis:
    """The axis of size `value` among `axes`, whose new size must be unambiguous."""
    changed = {
        new: axis
        for axis in axes
        if axis.size == value and (new := ax.size(axis, sizes)) != value
    }
    if len(changed) > 1:
        values = " and ".join(str(new) for new in sorted(changed))
        raise Ambiguous(f"{what} says {value}, and would have to say {values} at once")
    return next(iter(changed.values()), _fixed(value))


def _fixed(value: int) -> Axis:
    return ax.Leaf(-1, value)


def _described_by_weight(
    path: str, module: nn.Module, graph: Graph, typed: TypedGraph
) -> dict[str, tuple[Axis, ...]]:
    """Sizes that torch's own layers repeat from the shape of their weight."""
    own = {n: _axes_of(graph, typed, f"{path}.{n}" if path else n)
           for n in ("weight", "running_mean")}
    weight = own["weight"] or own["running_mean"]
    if weight is None:
        return {}
    first = weight[:1]
    second = weight[1:2]
    described = {
        "num_features": first, "num_channels": first, "num_parameters": first,
        "normalized_shape": weight,
    }  # fmt: skip
    if len(weight) == 2:
        described |= {"out_features": first, "in_features": second,
                      "num_embeddings": first, "embedding_dim": second}
    groups = getattr(module, "groups", 1)
    if len(weight) > 2 and isinstance(groups, int) and first[0].size % groups == 0:
        try:
            outer, _ = ax.outer_and_inner(first[0], first[0].size // groups)
        except ValueError:
            outer = _fixed(groups)
        other = (ax.prod(outer, *second),)
        transposed = getattr(module, "transposed", False) is True
        described |= {"in_channels": first, "out_channels": other} if transposed else {
            "in_channels": other, "out_channels": first
        }
    return {
        name: axes
        for name, axes in described.items()
        if _entries(vars(module).get(name)) == tuple(a.size for a in axes)
    }


def _axes_of(graph: Graph, typed: TypedGraph, path: str) -> tuple[Axis, ...] | None:
    for parameter in graph.parameters:
        if path in parameter.names:
            return typed.types[parameter.value.name]
    return None


def make_plan(
    typed: TypedGraph,
    names: Mapping[int, str],
    units: Mapping[int, int],
    kept: Kept,
    attributes: Attributes,
    rebuildable: bool,
) -> Plan:
    """The plan that says in JSON what `kept` and `attributes` say in axis types."""
    chosen = {uid: names[uid] for uid in kept}
    return Plan(
        graph=typed.graph.digest,
        groups={
            names[uid]: Choice(units[uid], tuple(int(u) for u in kept[uid])) for uid in kept
        },
        parameters={
            p.value.name: tuple(expression(a, chosen) for a in typed.types[p.value.name])
            for p in typed.graph.parameters
            if any(leaf.uid in kept for a in typed.types[p.value.name] for leaf in ax.leaves(a))
        },
        attributes={
            path: {name: [expression(a, chosen) for a in axes] for name, axes in entries.items()}
            for path, entries in attributes.items()
        },
        rebuildable=rebuildable,
    )


def rebuild(model: nn.Module, plan: Plan) -> nn.Module:
    """A copy of `model`, of its own class, with parameters sliced and attributes set.

    Raises:
        PlanError: if the model lacks a parameter of the plan or has it in another shape.
    """
    result = copy.deepcopy(model)
    kept = plan.choices()
    names: dict[int, list[str]] = {}
    for name, tensor in (
        *result.named_parameters(remove_duplicate=False),
        *result.named_buffers(remove_duplicate=False),
    ):
        names.setdefault(id(tensor), []).append(name)
    for name, expressions in plan.parameters.items():
        axes = plan.axes(expressions)
        try:
            old = get_tensor(result, name)
        except AttributeError as error:
            raise PlanError(
                "the plan cuts a parameter that the model does not have",
                where=name,
                hint="apply the plan to the architecture it was made for",
            ) from error
        expected = tuple(axis.size for axis in axes)
        if tuple(old.shape) != expected:
            raise PlanError(
                f"the plan expects shape {expected}, the model has {tuple(old.shape)}",
                where=name,
                hint="apply the plan to the uncut architecture it was made for",
            )
        new: torch.Tensor = cut_tensor(old.detach(), axes, kept).clone()
        if isinstance(old, nn.Parameter):
            new = nn.Parameter(new, requires_grad=old.requires_grad)
        for alias in names.get(id(old), [name]):
            set_tensor(result, alias, new)
    sizes = sizes_of(kept)
    for path, entries in plan.attributes.items():
        module = result.get_submodule(path)
        for name, stated in entries.items():
            _set_sizes(module, name, [ax.size(a, sizes) for a in plan.axes(tuple(stated))])
    return result


def _set_sizes(module: nn.Module, name: str, sizes: list[int]) -> None:
    old = getattr(module, name)
    if isinstance(old, tuple | list):
        setattr(module, name, type(old)(sizes))
    else:
        setattr(module, name, sizes[0])

