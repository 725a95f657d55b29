"""Groups: the prunable leaf axes of a typed graph, with every parameter slice they own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoprune.analysis.guarantees import guarantees
from autoprune.analysis.typing import TypedGraph
from autoprune.ir.axes import Leaf, leaves
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
    return {uid: name for uid, (name, _, _) in _occurring(typed).items()}


def _occurring(typed: TypedGraph) -> dict[int, tuple[str, Leaf, list[Occurrence]]]:
    """The leaves of parameters, each with a name and all its places."""
    found: dict[int, tuple[str, Leaf, list[Occurrence]]] = {}
    for parameter in typed.graph.parameters:
        for dim, axis in enumerate(typed.types[parameter.value.name]):
            place = Occurrence(parameter.value.name, dim)
            distinct = (axis,) if isinstance(axis, Leaf) else dict.fromkeys(leaves(axis))
            for i, leaf in enumerate(distinct):
                if leaf.uid not in found:
                    name = f"{place}/{i}" if len(distinct) > 1 else str(place)
                    found[leaf.uid] = (name, leaf, [])
                found[leaf.uid][2].append(place)
    return found


def find_groups(typed: TypedGraph) -> Groups:
    """Collect the leaves that occur in parameters.

    A leaf that is pinned, or that occurs in no trained parameter, is not a group. Groups are
    listed in the order of the graph's parameters, and named after the first one they occur in.
    """
    trained = dict.fromkeys(p.value.name for p in typed.graph.parameters if p.kind == "parameter")
    pinned = [
        Pinned(f"{name}:{dim}", axis.size, (Occurrence(name, dim),), _ONE_BY_ONE)
        for name in trained
        for dim, axis in enumerate(typed.types[name])
        if axis.size > 1 and not axis.uids
    ]
    found = {
        uid: (name, leaf, tuple(places))
        for uid, (name, leaf, places) in _occurring(typed).items()
        if not trained.keys().isdisjoint(place.parameter for place in places)
    }
    verdicts = guarantees(typed, found.keys() - typed.pins.keys())
    groups = [
        Group(name, leaf, places, *verdicts[uid])
        for uid, (name, leaf, places) in found.items()
        if uid in verdicts
    ]
    pinned += [
        Pinned(name, leaf.size, places, typed.pins[uid])
        for uid, (name, leaf, places) in found.items()
        if uid in typed.pins
    ]
    return Groups(tuple(groups), tuple(pinned))
