"""Attributes that state a width which a cut changes, although the forward does not read them.

Code around a network reads them: what replaces its head asks how many features come in. An
attribute is taken for a width if its name says so, and if all axes of its size that parameters
share and that its module sees shrink to one new size. A module sees what goes in or out of it, and
what its children and its own calls hand to each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from autoprune.analysis.resizing import sizes_of
from autoprune.analysis.typing import TypedGraph
from autoprune.frameworks.torch.own_class.attributes import Attributes, entries_of
from autoprune.ir import axes as ax
from autoprune.ir.axes import Axis
from autoprune.ir.graph import Node
from autoprune.ir.positions import Kept

WIDTHS = frozenset((
    "channel", "channels", "chs", "dim", "dims", "embed", "feature", "features", "filters",
    "hidden", "planes",
))  # fmt: skip
"""Words in the names of attributes that are widths; `width` is that of an image, too."""

LEAST = 8
"""What is less may also be the number of an axis."""


def unread_sizes(model: nn.Module, typed: TypedGraph, kept: Kept, read: Attributes) -> Attributes:
    """The attributes that state a width which `kept` changes, beside those that are read.

    Args:
        model: the user's model.
        typed: its graph.
        kept: kept units by leaf.
        read: the attributes that are set in any case.
    """
    sizes = sizes_of(kept)
    seen = _seen(typed)
    found: Attributes = {}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            entries = entries_of(value)
            widths = not WIDTHS.isdisjoint(name.lower().split("_"))
            if not entries or not widths or name in read.get(path, {}):
                continue
            axes = [_only(seen.get(path, ()), entry, sizes) for entry in entries]
            known = [axis for axis in axes if axis is not None]
            changed = any(ax.size(axis, sizes) != axis.size for axis in known)
            if len(known) == len(axes) and changed and min(entries) >= LEAST:
                found.setdefault(path, {})[name] = tuple(known)
    return found


def _only(axes: Iterable[Axis], value: int, sizes: Mapping[int, int]) -> Axis | None:
    """The axis of size `value`, or a fixed one if there is none; None if several new sizes are."""
    new = {ax.size(axis, sizes): axis for axis in axes if axis.size == value}
    if len(new) > 1:
        return None
    return next(iter(new.values()), ax.Leaf(-1, value))


def _seen(typed: TypedGraph) -> dict[str, list[Axis]]:
    """The axes that each module sees, by its path, of those that occur in parameters."""
    graph, types = typed.graph, typed.types
    owned = frozenset[int]().union(
        *(axis.uids for p in graph.parameters for axis in types[p.value.name])
    )
    seen: dict[str, list[Axis]] = {}

    def see(paths: Iterable[str], value: str) -> None:
        for axis in types[value]:
            if not axis.uids.isdisjoint(owned):
                for path in paths:
                    seen.setdefault(path, []).append(axis)

    for parameter in graph.parameters:
        for name in parameter.names:
            home = name.rpartition(".")[0]
            see((home, home.rpartition(".")[0]), parameter.value.name)
    made: dict[str, tuple[str, ...]] = {value.name: ("",) for value in graph.inputs}
    for node in graph.nodes:
        chain = _chain(node)
        for value in node.inputs:
            if value.name in made:
                see(_between(made[value.name], chain), value.name)
        made |= {value.name: chain for value in node.outputs}
    for value in graph.outputs:
        see(made.get(value.name, ("",)), value.name)
    return seen


def _chain(node: Node) -> tuple[str, ...]:
    """The modules that a call is made in, from the whole model inwards."""
    return tuple(dict.fromkeys(("", *node.module)))


def _between(maker: Sequence[str], reader: Sequence[str]) -> set[str]:
    """The innermost module that two calls share, and those that a value leaves or enters."""
    shared = sum(1 for a, b in zip(maker, reader, strict=False) if a == b)
    return {*maker[shared - 1 :], *reader[shared - 1 :]}
