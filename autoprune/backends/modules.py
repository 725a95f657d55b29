"""Kept units -> a smaller model of the user's own class.

Slicing the parameters of a copy is easy; the integers that its `forward` reads from attributes
(head counts, widths, split sizes, `groups`) have to follow. They are found without knowing any
class: the traced graph says which axes' sizes a module's calls spell out, and an attribute of
that module with the same value is that size. Whether the guess was right is decided by running
the result against the cut graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any

import torch
from torch import nn

from autoprune.analysis.typing import TypedGraph, operator_of
from autoprune.backends.torch import (
    Kept,
    copy_without,
    cut_tensor,
    get_tensor,
    set_tensor,
    sizes_of,
)
from autoprune.errors import PlanError
from autoprune.ir import axes as ax
from autoprune.ir.axes import Axis
from autoprune.ir.plan import Choice, Plan, expression
from autoprune.ops.rule import Sizing

Attributes = dict[str, dict[str, tuple[Axis, ...]]]
"""By module path and attribute name: the axes whose sizes the attribute states."""

_LAYER_SIZES = (
    "in_features", "out_features", "in_channels", "out_channels", "groups", "num_groups",
    "num_features", "num_channels", "num_parameters", "num_embeddings", "embedding_dim",
    "normalized_shape",
)  # fmt: skip
"""Attributes by which torch's own layers repeat the shape of their weight."""

ATTEMPTS = 16
"""Most readings of ambiguous attributes that are tried."""


class Inexpressible(Exception):
    """No attribute values make the model's own `forward` compute the cut network."""


@dataclass(frozen=True)
class _Mention:
    """The axes whose sizes one call spells out."""

    axes: tuple[Axis, ...]
    alike: bool
    """The call can only say them as one number: a split into equal pieces."""


def _mentions(typed: TypedGraph) -> dict[str, list[_Mention]]:
    """What the calls made in a module's own `forward` mention, by module path."""
    # Rules look at sizes only as far as something shrinks, so everything does here.
    shrunk = {
        leaf.uid: leaf.size - 1
        for shape in typed.types.values()
        for axis in shape
        for leaf in ax.leaves(axis)
        if leaf.uid not in typed.pins
    }
    found: dict[str, list[_Mention]] = {}
    for node in typed.graph.nodes:
        sizing = Sizing(node, typed.types, shrunk)
        resized = operator_of(node).resize(sizing)
        path = node.module[-1] if node.module else ""
        found.setdefault(path, []).append(_Mention(tuple(sizing.mentioned), resized.op is not None))
    return found


def shared_sizes(
    model: nn.Module, typed: TypedGraph, free: frozenset[int]
) -> Iterator[frozenset[int]]:
    """Leaves that should shrink alike, because the model's code states their size only once.

    The width of queries and keys and the width of values are two groups, but a module that keeps
    both in one `head_dim` can only express cuts that agree.
    """
    modules = dict(model.named_modules())
    for path, mentions in _mentions(typed).items():
        values = set(_integers(modules[path])) if path in modules else set()
        for value in values:
            axes = [a for m in mentions for a in m.axes if a.size == value]
            yield from _tied(axes, free)
        for mention in mentions:
            if mention.alike:
                yield from _tied(mention.axes, free)


def _tied(axes: Sequence[Axis], free: frozenset[int]) -> Iterator[frozenset[int]]:
    """Ties that make axes of one size shrink to one size, where leaf by leaf they match."""
    lists = {tuple(leaf for leaf in dict.fromkeys(ax.leaves(a)) if leaf.uid in free) for a in axes}
    lists.discard(())
    if len(lists) < 2:
        return
    common = frozenset[ax.Leaf].intersection(*(frozenset(leaves) for leaves in lists))
    rest = {tuple(leaf for leaf in leaves if leaf not in common) for leaves in lists}
    if len({len(leaves) for leaves in rest}) == 1:
        for matching in zip(*rest, strict=True):
            yield frozenset(leaf.uid for leaf in matching)


def _integers(module: nn.Module) -> Iterator[int]:
    for value in vars(module).values():
        yield from _entries(value)


def _entries(value: Any) -> tuple[int, ...]:
    """The integers an attribute holds, directly or as a tuple or list."""
    parts = tuple(value) if isinstance(value, tuple | list) else (value,)
    return parts if parts and all(type(p) is int for p in parts) else ()


def attribute_readings(model: nn.Module, typed: TypedGraph, kept: Kept) -> Iterator[Attributes]:
    """Ways to read the model's integer attributes as sizes that `kept` changes, likeliest first.

    An attribute may equal both a size that changes and one that does not; readings differ in
    which it is, alike for all modules of one class.

    Raises:
        Inexpressible: if an attribute would have to take two new values.
    """
    sizes = sizes_of(kept)
    mentions = _mentions(typed)
    certain: Attributes = {}
    doubtful: dict[tuple[type, str], Attributes] = {}
    for path, module in model.named_modules():
        described = _described_by_weight(path, module, typed)
        mentioned = [a for m in mentions.get(path, ()) for a in m.axes]
        for name, value in vars(module).items():
            entries = _entries(value)
            if not entries or (described and name not in described):
                continue
            axes = described.get(name)
            doubt = False
            if axes is None:
                read = [_read(mentioned, n, sizes, f"`{name}` of `{path}`") for n in entries]
                axes = tuple(axis for axis, _ in read)
                doubt = any(unsure for _, unsure in read)
            if any(ax.size(axis, sizes) != axis.size for axis in axes):
                target = doubtful.setdefault((type(module), name), {}) if doubt else certain
                target.setdefault(path, {})[name] = axes
    for count in range(len(doubtful) + 1):
        for left_alone in combinations(doubtful, count):
            reading = {path: dict(entries) for path, entries in certain.items()}
            for key, attributes in doubtful.items():
                if key not in left_alone:
                    for path, entry in attributes.items():
                        reading.setdefault(path, {}).update(entry)
            yield reading


def _read(
    axes: Sequence[Axis], value: int, sizes: Mapping[int, int], what: str
) -> tuple[Axis, bool]:
    """The axis of size `value` that shrinks, and whether others of that size do not."""
    new = {ax.size(axis, sizes): axis for axis in axes if axis.size == value}
    changed = {n: axis for n, axis in new.items() if n != value}
    if len(changed) > 1:
        values = " and ".join(str(n) for n in sorted(changed))
        raise Inexpressible(f"{what} says {value}, and would have to say {values} at once")
    return next(iter(changed.values()), _fixed(value)), len(new) > len(changed)


def _fixed(value: int) -> Axis:
    return ax.Leaf(-1, value)


def _described_by_weight(
    path: str, module: nn.Module, typed: TypedGraph
) -> dict[str, tuple[Axis, ...]]:
    """Sizes that layers repeat from the shape of their weight, under torch's usual names."""
    prefix = f"{path}." if path else ""
    weight = _axes_of(typed, f"{prefix}weight") or _axes_of(typed, f"{prefix}running_mean")
    if weight is None:
        return {}
    first: tuple[Axis, ...] = weight[:1]
    second = weight[1:2]
    described: dict[str, tuple[Axis, ...]] = {
        "num_features": first, "num_channels": first, "num_parameters": first,
        "normalized_shape": weight,
    }  # fmt: skip
    if len(weight) == 2:
        described |= {
            "out_features": first, "in_features": second,
            "num_embeddings": first, "embedding_dim": second,
        }  # fmt: skip
    groups = getattr(module, "groups", getattr(module, "num_groups", 1))
    outer = _outer(first[0], groups) if type(groups) is int else None
    if outer is not None:
        other: tuple[Axis, ...] = (ax.prod(outer, *second),)
        if getattr(module, "transposed", False) is True:
            other, first = first, other
        described |= {
            "groups": (outer,), "num_groups": (outer,),
            "in_channels": other, "out_channels": first,
        }  # fmt: skip
    return {
        name: axes
        for name, axes in described.items()
        if _entries(vars(module).get(name)) == tuple(a.size for a in axes)
    }


def _outer(axis: Axis, groups: int) -> Axis | None:
    if groups < 1 or axis.size % groups:
        return None
    try:
        return ax.outer_and_inner(axis, axis.size // groups)[0]
    except ValueError:
        return None


def _axes_of(typed: TypedGraph, path: str) -> tuple[Axis, ...] | None:
    for parameter in typed.graph.parameters:
        if path in parameter.names:
            return typed.types[parameter.value.name]
    return None


def make_plan(
    typed: TypedGraph, names: Mapping[int, str], kept: Kept, attributes: Attributes | None
) -> Plan:
    """The plan that says in JSON what `kept` and `attributes` say in axis types.

    Args:
        typed: the graph.
        names: group names by leaf.
        kept: kept units by leaf.
        attributes: what to set in a model of the user's own class, or None if that is not enough.
    """
    chosen = {uid: names[uid] for uid in kept}
    units = {leaf.uid: leaf.size for s in typed.types.values() for a in s for leaf in ax.leaves(a)}
    return Plan(
        graph=typed.graph.digest,
        groups={names[uid]: Choice(units[uid], tuple(int(u) for u in kept[uid])) for uid in kept},
        parameters={
            p.value.name: tuple(expression(a, chosen) for a in typed.types[p.value.name])
            for p in typed.graph.parameters
            if any(not a.uids.isdisjoint(kept) for a in typed.types[p.value.name])
        },
        attributes={
            path: {
                name: tuple(expression(a, chosen) for a in axes) for name, axes in entries.items()
            }
            for path, entries in (attributes or {}).items()
        },
        rebuildable=attributes is not None,
    )


def rebuild(model: nn.Module, plan: Plan) -> nn.Module:
    """A copy of `model`, of its own class, with parameters sliced and attributes set.

    Raises:
        PlanError: if the model lacks a parameter or attribute of the plan, or has a parameter in
            another shape.
    """
    result = _cut_copy(model, plan)
    sizes = sizes_of(plan.choices())
    for path, entries in plan.attributes.items():
        for name, stated in entries.items():
            axes = plan.axes(stated)
            try:
                module = result.get_submodule(path)
            except AttributeError:
                module = nn.Module()
            old = vars(module).get(name)
            if not axes or _entries(old) != tuple(axis.size for axis in axes):
                raise PlanError(
                    f"the plan changes a size that is not in the model: {old!r} was expected to "
                    f"be {', '.join(str(axis.size) for axis in axes)}",
                    where=f"{path}.{name}",
                    hint="apply the plan to the uncut architecture it was made for",
                )
            new = [ax.size(axis, sizes) for axis in axes]
            setattr(module, name, type(old)(new) if isinstance(old, tuple | list) else new[0])
    return result


def _cut_copy(model: nn.Module, plan: Plan) -> nn.Module:
    """A copy in which each tensor the plan names is sliced, under all the names it is tied to."""
    kept = plan.choices()
    names: dict[int, list[str]] = {}
    for name, tensor in (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ):
        names.setdefault(id(tensor), []).append(name)
    changed: dict[str, torch.Tensor] = {}
    for name, expressions in plan.parameters.items():
        axes = plan.axes(expressions)
        try:
            old = get_tensor(model, name)
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
        new = cut_tensor(old, axes, kept)
        changed.update(dict.fromkeys(names.get(id(old), [name]), new))
    result: nn.Module = copy_without(model, changed)
    for path, tensor in changed.items():
        set_tensor(result, path, tensor)
    return result


def in_own_class(
    model: nn.Module,
    typed: TypedGraph,
    names: Mapping[int, str],
    kept: Kept,
    objection: Callable[[nn.Module], str],
) -> tuple[nn.Module, Plan]:
    """The cut network as the model's own class, and the plan that makes it.

    Args:
        model: the user's model.
        typed: its graph.
        names: group names by leaf.
        kept: kept units by leaf.
        objection: says what is wrong with a candidate, or nothing if it computes the same as the
            cut graph.

    Raises:
        Inexpressible: with the first objection, if there is one to every candidate.
    """
    first = ""
    for attributes in islice(attribute_readings(model, typed, kept), ATTEMPTS):
        plan = make_plan(typed, names, kept, attributes)
        try:
            candidate = rebuild(model, plan)
        except PlanError as error:
            raise Inexpressible(f"{error.what} ({error.where})") from error
        problem = objection(candidate)
        if problem:
            first = first or problem
            continue
        for key in _twins(model, attributes):
            fewer = _without(model, attributes, key)
            leaner = make_plan(typed, names, kept, fewer)
            simpler = rebuild(model, leaner)
            if not objection(simpler):
                attributes, candidate, plan = fewer, simpler, leaner
        return candidate, plan
    raise Inexpressible(first)


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
            if len(same) > 1 and name not in _LAYER_SIZES:
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
