"""Which attributes of a model's modules state sizes that a cut changes.

The integers that a `forward` reads from attributes (head counts, widths, split sizes, `groups`)
have to follow a cut. They are found without knowing any class: the traced graph says which axes'
sizes a module's calls spell out, and an attribute of that module with the same value is that size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from torch import nn

from autoprune.analysis.resizing import sizes_of
from autoprune.analysis.typing import TypedGraph
from autoprune.ir import axes as ax
from autoprune.ir.axes import Axis
from autoprune.ir.positions import Kept
from autoprune.ops.views import Sizing

Attributes = dict[str, dict[str, tuple[Axis, ...]]]
"""By module path and attribute name: the axes whose sizes the attribute states."""

Key = tuple[type, str, bool]
"""A class of modules, the name of an attribute, and whether it is doubtful what that says there."""

Constants = dict[str, dict[str, tuple[float | None, float]]]
"""By module path and attribute name: the old and the new value of a number."""

LAYER_SIZES = (
    "in_features", "out_features", "in_channels", "out_channels", "groups", "num_groups",
    "num_features", "num_channels", "num_parameters", "num_embeddings", "embedding_dim",
    "normalized_shape", "input_size", "hidden_size", "proj_size",
)  # fmt: skip
"""Attributes by which torch's own layers repeat the shape of their weight."""


WEIGHTS = (
    "weight", "running_mean", "weight_v", "weight_orig", "parametrizations.weight.original",
    "parametrizations.weight.original1",
)  # fmt: skip
"""Names of the tensor of that shape: the weight, or what torch computes it from."""


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
        resized = typed.operator_of(node).resize(sizing)
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
        held = vars(modules[path]).values() if path in modules else ()
        for value in {n for entry in held for n in entries_of(entry)}:
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


def entries_of(value: Any) -> tuple[int, ...]:
    """The integers an attribute holds, directly or as a tuple or list."""
    parts = tuple(value) if isinstance(value, tuple | list) else (value,)
    return parts if parts and all(type(p) is int for p in parts) else ()


def attribute_readings(model: nn.Module, typed: TypedGraph, kept: Kept) -> Iterator[Attributes]:
    """Ways to read the model's integer attributes as sizes that `kept` changes, likeliest first.

    An attribute may equal several sizes that change or one that does not, or happen to hold the
    number of a size without being one, which is likeliest where its module has another attribute of
    that size. Readings differ in which it is, alike for all modules of one class.
    """
    sizes = sizes_of(kept)
    mentions = _mentions(typed)
    owned = {name: typed.types[p.value.name] for p in typed.graph.parameters for name in p.names}
    certain: Attributes = {}
    meanings: dict[Key, dict[str, list[tuple[Axis, ...]]]] = {}
    for path, module in model.named_modules():
        described = described_by_weight(path, module, owned)
        mentioned = [a for m in mentions.get(path, ()) for a in m.axes]
        for name, value in vars(module).items():
            entries = entries_of(value)
            if described:
                axes = described.get(name, ())
                if any(ax.size(axis, sizes) != axis.size for axis in axes):
                    certain.setdefault(path, {})[name] = axes
            if described or not entries:
                continue
            read = [_read(mentioned, n, sizes) for n in entries]
            pairs = zip(entries, read, strict=True)
            found = list(product(*(changed or [ax.Leaf(-1, n)] for n, (changed, _) in pairs)))
            if any(changed for changed, _ in read):
                doubt = len(found) > 1 or any(unsure for _, unsure in read)
                meanings.setdefault((type(module), name, doubt), {})[path] = found
    doubtful = [key for key in meanings if key[2]]
    twins = [key for key in _twins(meanings) if not key[2]]

    def reading(choice: Mapping[Key, int]) -> Attributes:
        """By key, which of its meanings; one beyond the last is none."""
        found = {path: dict(entries) for path, entries in certain.items()}
        for key, paths in meanings.items():
            for path, options in paths.items():
                chosen = choice.get(key, 0)
                if chosen < _most(paths):
                    entry = options[min(chosen, len(options) - 1)]
                    found.setdefault(path, {})[key[1]] = entry
        return found

    def readings(keys: Sequence[Key]) -> Iterator[dict[Key, int]]:
        limits = [_most(meanings[key]) for key in keys]
        for total in range(sum(limits) + 1):
            yield from (dict(zip(keys, n, strict=True)) for n in _adding_up(limits, total))

    yield from map(reading, readings(doubtful))
    for choice in readings([*doubtful, *twins]):
        if any(choice[key] for key in twins):
            yield reading(choice)
    for key in [key for key in meanings if not key[2] and key not in twins]:
        yield reading({key: _most(meanings[key])})


def _most(paths: Mapping[str, Sequence[object]]) -> int:
    """Meanings that an attribute has in one module at most."""
    return max(map(len, paths.values()))


def _twins(meanings: Mapping[Key, Mapping[str, Sequence[tuple[Axis, ...]]]]) -> list[Key]:
    """Attributes that may say the same as another one of their module."""
    said: dict[tuple[str, tuple[Axis, ...]], list[Key]] = {}
    for key, paths in meanings.items():
        for path, options in paths.items():
            said.setdefault((path, options[0]), []).append(key)
    return list(dict.fromkeys(key for keys in said.values() if len(keys) > 1 for key in keys))


def _adding_up(limits: Sequence[int], total: int) -> Iterator[tuple[int, ...]]:
    """All tuples of numbers up to the limits that have a given sum."""
    if not limits:
        if total == 0:
            yield ()
        return
    for first in range(min(limits[0], total), -1, -1):
        for rest in _adding_up(limits[1:], total - first):
            yield (first, *rest)


def _read(axes: Sequence[Axis], value: int, sizes: Mapping[int, int]) -> tuple[list[Axis], bool]:
    """The axes of size `value` that shrink, one for each new size, and whether others do not."""
    new = {ax.size(axis, sizes): axis for axis in axes if axis.size == value}
    changed = [axis for n, axis in new.items() if n != value]
    return changed, len(new) > len(changed)


def described_by_weight(
    path: str, module: nn.Module, owned: Mapping[str, tuple[Axis, ...]]
) -> dict[str, tuple[Axis, ...]]:
    """Sizes that layers repeat from the shape of their weight, under torch's usual names.

    Args:
        path: of the module.
        module: the layer, or any other module.
        owned: axis types of the model's tensors, by name.
    """
    prefix = f"{path}." if path else ""
    weight = next((owned[prefix + name] for name in WEIGHTS if owned.get(prefix + name)), None)
    if weight is None:
        return _described_by_gates(prefix, module, owned)
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
    return _agreeing(module, described)


def _described_by_gates(
    prefix: str, module: nn.Module, owned: Mapping[str, tuple[Axis, ...]]
) -> dict[str, tuple[Axis, ...]]:
    """The same for recurrent layers, whose weights are `(gate hidden) x input`."""
    hidden = getattr(module, "hidden_size", None)
    for suffix in ("", "_l0"):
        weight = owned.get(f"{prefix}weight_ih{suffix}")
        if weight is None or len(weight) != 2 or type(hidden) is not int:
            continue
        described: dict[str, tuple[Axis, ...]] = {"input_size": weight[1:]}
        gates = _outer(weight[0], weight[0].size // hidden) if hidden else None
        if gates is not None:
            described["hidden_size"] = (ax.outer_and_inner(weight[0], hidden)[1],)
        projection = owned.get(f"{prefix}weight_hr{suffix}")
        if projection is not None:
            described["proj_size"] = projection[:1]
        return _agreeing(module, described)
    return {}


def _agreeing(
    module: nn.Module, described: Mapping[str, tuple[Axis, ...]]
) -> dict[str, tuple[Axis, ...]]:
    """Those of the described attributes that the module has, and with the sizes of now."""
    return {
        name: axes
        for name, axes in described.items()
        if entries_of(vars(module).get(name)) == tuple(a.size for a in axes)
    }


def _outer(axis: Axis, groups: int) -> Axis | None:
    if groups < 1 or axis.size % groups:
        return None
    try:
        return ax.outer_and_inner(axis, axis.size // groups)[0]
    except ValueError:
        return None


def constant_readings(
    model: nn.Module, typed: TypedGraph, new: Mapping[tuple[str, str], float]
) -> Constants:
    """The attributes that keep the literals of calls which are to take new values.

    Args:
        model: the user's model.
        typed: its graph.
        new: by node and argument name, the new value.

    Raises:
        Inexpressible: if no attribute of the calling module has a literal's value.
    """
    modules = dict(model.named_modules())
    nodes = {n.name: n for n in typed.graph.nodes}
    found: Constants = {}
    for (name, argument), value in new.items():
        node = nodes[name]
        path = node.module[-1] if node.module else ""
        old = node.arguments.get(argument)
        matching = [
            attribute
            for attribute, held in vars(modules[path]).items()
            if (type(held) is float and held == old)
            or (held is None and old is None and argument in attribute)
        ]
        if len(matching) != 1:
            raise Inexpressible(f"`{path}` keeps the {old} of {node.op} in no attribute of its own")
        (attribute,) = matching
        before = None if old is None else vars(modules[path])[attribute]
        known = found.setdefault(path, {}).setdefault(attribute, (before, value))
        if known != (before, value):
            raise Inexpressible(f"`{attribute}` of `{path}` would need two values")
    return found
