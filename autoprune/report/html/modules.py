"""The nodes of a graph as a tree of the modules that call them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from autoprune.ir.graph import Node

ASIDE = 4
"""Fewest calls on integers and booleans in a row that are worth a box of their own."""


@dataclass(frozen=True)
class Cluster:
    """One run of a module: the calls and inner modules it makes, in order; at least two.

    Attributes:
        path: of the module; empty for the whole network.
        label: the path as far as the surrounding cluster does not say it already.
        aside: calls that only compute positions and masks, and no module.
    """

    path: str
    label: str
    children: tuple[Node | Cluster, ...]
    aside: bool = False

    def nodes(self) -> Iterator[Node]:
        """Every node inside, in order."""
        for child in self.children:
            if isinstance(child, Cluster):
                yield from child.nodes()
            else:
                yield child


def module_tree(nodes: Sequence[Node]) -> Cluster:
    """Collapse nodes by the path of their module.

    A module that calls others in between is one cluster for each run of calls: runs follow each
    other, so the clusters of a level never depend on each other in a circle.
    """
    return Cluster("", "", _children(nodes, 0, ""))


def _children(nodes: Sequence[Node], depth: int, parent: str) -> tuple[Node | Cluster, ...]:
    found: list[Node | Cluster] = []
    for path, group in groupby(nodes, key=lambda node: _path(node, depth)):
        run = tuple(group)
        if path is None:
            found.extend(_asides_folded(run, parent))
            continue
        inner = _children(run, depth + 1, path)
        if len(inner) > 1:
            found.append(Cluster(path, _label(path, parent), inner))
        else:  # A box with one box in it tells nothing; the inner one keeps its full name.
            found.extend(inner)
    return tuple(found)


def _asides_folded(nodes: Sequence[Node], parent: str) -> Iterator[Node | Cluster]:
    for is_aside, group in groupby(nodes, key=_gives_no_numbers):
        run = tuple(group)
        if is_aside and len(run) >= ASIDE:
            yield Cluster(parent, "positions and masks", run, aside=True)
        else:
            yield from run


def _gives_no_numbers(node: Node) -> bool:
    return all(value.dtype.startswith(("int", "uint", "bool")) for value in node.outputs)


def _path(node: Node, depth: int) -> str | None:
    paths = [path for path in node.module if path]
    return paths[depth] if depth < len(paths) else None


def _label(path: str, parent: str) -> str:
    label = path.removeprefix(f"{parent}.") if parent else path
    return ".".join(path.split(".")[-2:]) if label.isdigit() else label
