"""Groups: the prunable leaf axes of a typed graph, with every parameter slice they own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autoprune.analysis.guarantees import guarantees
from autoprune.analysis.typing import TypedGraph
from autoprune.ir.axes import Axis, Leaf, leaves
from autoprune.ir.group import Group, Occurrence, Pinned
from autoprune.ir.reason import Reason

_ONE_BY_ONE = Reason("its positions are told apart one by one")


@dataclass(frozen=True)
class Groups:
    """All groups of a graph, and the parameter axes that belong to none, with the reason."""

    groups: tuple[Group, ...]
    pinned: tuple[Pinned, ...]

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    def __str__(self) -> str:
        return "\n".join(map(str, (*self.groups, *self.pinned)))


def leaf_names(typed: TypedGraph) -> dict[int, str]:
    """A name for every leaf that occurs in a parameter, by the first one it occurs in."""
    names: dict[int, str] = {}
    for parameter in typed.graph.parameters:
        for dim, axis in enumerate(typed.types[parameter.value.name]):
            distinct = _distinct(axis)
            for i, leaf in enumerate(distinct):
                if leaf.uid not in names:
                    names[leaf.uid] = _name(parameter.value.name, dim, i, len(distinct))
    return names


def _distinct(axis: Axis) -> Sequence[Leaf]:
    return (axis,) if isinstance(axis, Leaf) else tuple(dict.fromkeys(leaves(axis)))


def _name(parameter: str, dim: int, i: int, leaves: int) -> str:
    """A name for leaf number `i` of those of a dimension."""
    return f"{parameter}:{dim}" if leaves == 1 else f"{parameter}:{dim}/{i}"


def find_groups(typed: TypedGraph) -> Groups:
    """Collect the leaves that occur in parameters.

    A leaf that is pinned, or that occurs in no trained parameter, is not a group. Groups are
    listed in the order of the graph's parameters, and named after the first one they occur in.
    """
    found: dict[int, tuple[str, Leaf, list[Occurrence]]] = {}
    pinned: list[Pinned] = []
    trained: set[int] = set()
    for parameter in typed.graph.parameters:
        name = parameter.value.name
        for dim, axis in enumerate(typed.types[name]):
            distinct = _distinct(axis)
            if not distinct and axis.size > 1 and parameter.kind == "parameter":
                label = f"{name}:{dim}"
                pinned.append(Pinned(label, axis.size, (Occurrence(name, dim),), _ONE_BY_ONE))
            for i, leaf in enumerate(distinct):
                known = found.get(leaf.uid)
                if known is None:
                    known = found[leaf.uid] = (_name(name, dim, i, len(distinct)), leaf, [])
                known[2].append(Occurrence(name, dim))
                if parameter.kind == "parameter":
                    trained.add(leaf.uid)
    prunable = [uid for uid in found if uid not in typed.pins and uid in trained]
    verdicts = guarantees(typed, prunable)
    groups: list[Group] = []
    for uid, (name, leaf, occurrences) in found.items():
        if uid in verdicts:
            verdict = verdicts[uid]
            groups.append(
                Group(
                    name,
                    leaf,
                    tuple(occurrences),
                    verdict.guarantee,
                    verdict.reason,
                    verdict.spared,
                    verdict.folds,
                )
            )
        elif uid in trained:
            pinned.append(Pinned(name, leaf.size, tuple(occurrences), typed.pins[uid]))
    return Groups(tuple(groups), tuple(pinned))
