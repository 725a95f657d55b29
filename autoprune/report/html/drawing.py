"""The data that the page's script draws from: nodes, values, axis types, clusters, kept units."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from autoprune.analysis.typing import TypedGraph
from autoprune.ir.axes import Axis, Leaf, Prod, leaves
from autoprune.ir.graph import Graph, Node, Value, format_argument, values_in
from autoprune.ir.positions import PerOuter
from autoprune.report.data import GroupRow, Report, Subject
from autoprune.report.html.layers import Edge, rows_of
from autoprune.report.html.modules import Cluster, module_tree
from autoprune.report.tables import short_source

TIMES = "\N{MULTIPLICATION SIGN}"

PARTS = 6
"""Longest sum of terms that is spelled out."""

# What an item of a cluster is; the script has the same numbers.
NODE, CLUSTER, PORT_IN, PORT_OUT, INPUT, OUTPUT = range(6)


class Table:
    """Numbers distinct things in the order in which they come."""

    def __init__(self) -> None:
        self._index: dict[Hashable, int] = {}
        self.rows: list[Any] = []

    def add(self, key: Hashable, row: Any = None) -> int:
        """The number of `key`; `row` (or the key) is listed where it is new."""
        if key not in self._index:
            self._index[key] = len(self.rows)
            self.rows.append(key if row is None else row)
        return self._index[key]


def drawing(report: Report) -> dict[str, Any] | None:
    """Plain lists and numbers for the script; None for a report without its network."""
    return _Drawing(report, report.subject).data() if report.subject else None


class _Drawing:
    def __init__(self, report: Report, subject: Subject) -> None:
        self.subject = subject
        self.typed: TypedGraph = subject.typed
        self.graph: Graph = subject.typed.graph
        self.group_of = {subject.leaves[row.name]: i for i, row in enumerate(report.groups)}
        self.rows = report.groups
        self.strings, self.pins, self.axes = Table(), Table(), Table()
        self.values: dict[str, int] = {}
        self.value_rows: list[Any] = []
        self.nodes = {node.name: i for i, node in enumerate(self.graph.nodes)}
        self.clusters: list[Any] = []

    def data(self) -> dict[str, Any]:
        for parameter in self.graph.parameters:
            self.value(parameter.value, parameter.kind)
        nodes = [self.node(node) for node in self.graph.nodes]
        root = self.root()
        return {
            "groups": [self.group(row) for row in self.rows],
            "nodes": nodes,
            "values": self.value_rows,
            "axes": self.axes.rows,
            "pins": self.pins.rows,
            "strings": self.strings.rows,
            "clusters": self.clusters,
            "root": root,
        }

    def node(self, node: Node) -> dict[str, Any]:
        row: dict[str, Any] = {"name": node.name, "op": self.strings.add(node.op)}
        row["module"] = self.strings.add(node.module[-1] if node.module else "")
        row["source"] = self.strings.add(short_source(node.source))
        row["in"] = [
            [self.strings.add(name), self.value(value)]
            for name, argument in node.arguments.items()
            for value in values_in(argument)
        ]
        row["out"] = [self.value(value) for value in node.outputs]
        row["arguments"] = self.strings.add(_settings(node))
        return row

    def value(self, value: Value, kind: str = "") -> int:
        """Number of a value: its name, dtype, axis types, and the kind of parameter it is."""
        if value.name not in self.values:
            self.values[value.name] = len(self.value_rows)
            axes = [self.axis(axis) for axis in self.typed.types[value.name]]
            self.value_rows.append([value.name, self.strings.add(value.dtype), axes, kind])
        return self.values[value.name]

    def axis(self, axis: Axis) -> int:
        return self.axes.add(axis, list(self.tokens(axis)))

    def tokens(self, axis: Axis) -> Iterator[Any]:
        """An axis type as it is written: leaves as (size, reference), and signs between them.

        What an axis without a group is made of is left out; one reason why it is pinned is enough.
        """
        if axis.uids.isdisjoint(self.group_of):
            pinned = (leaf for leaf in leaves(axis) if leaf.uid in self.typed.pins)
            leaf = next(pinned, None)
            yield str(axis.size) if leaf is None else [axis.size, self.pin(leaf)]
            return
        if isinstance(axis, Leaf):
            yield [axis.size, self.group_of[axis.uid]]
            return
        parts, sign = (axis.factors, TIMES) if isinstance(axis, Prod) else (axis.terms, "+")
        for i, part in enumerate(parts):
            if i:
                yield sign
            if i == PARTS - 1 and len(parts) > PARTS:
                yield f"… ({len(parts)} parts)"
                return
            nested = isinstance(axis, Prod) and not isinstance(part, Leaf)
            yield from ["("] * nested
            yield from self.tokens(part)
            yield from [")"] * nested

    def pin(self, leaf: Leaf) -> int:
        """Reason number `k` why a leaf is pinned, as -1 - k: other references are groups."""
        reason = self.typed.pins[leaf.uid]
        source = self.strings.add(short_source(reason.source))
        number = self.nodes[reason.node.name] if reason.node else -1
        return -1 - self.pins.add((reason.text, number), [reason.text, number, source])

    def group(self, row: GroupRow) -> dict[str, Any]:
        return {
            "name": row.name,
            "units": row.units,
            "stay": row.kept,
            "guarantee": row.guarantee,
            "kept": self.kept(row),
        }

    def kept(self, row: GroupRow) -> list[str] | None:
        """The kept units as bits in hexadecimal, a string per row of a per-outer choice."""
        units = self.subject.kept.get(self.subject.leaves[row.name])
        if units is None:
            return None
        table = units.units if isinstance(units, PerOuter) else np.atleast_2d(units)
        bits = np.zeros((len(table), row.units), dtype=bool)
        np.put_along_axis(bits, table, True, axis=1)
        return [np.packbits(line).tobytes().hex() for line in bits]

    def root(self) -> int:
        """The whole network: its inputs above, its outputs below."""
        # A call without outputs only checks something; there is nothing to see of it.
        tree = module_tree([node for node in self.graph.nodes if node.outputs])
        inputs = [(INPUT, self.value(v), v.name) for v in self.graph.inputs]
        outputs = [(OUTPUT, self.value(v), v.name) for v in self.graph.outputs]
        return self.cluster(tree, inputs, outputs)

    def cluster(
        self,
        cluster: Cluster,
        inputs: list[tuple[int, int, str]],
        outputs: list[tuple[int, int, str]],
    ) -> int:
        """Number of a cluster, after its inner clusters.

        Of each value that comes from outside, or is read there: item kind, number and name.
        """
        items = [(kind, number) for kind, number, _ in inputs]
        wires = _Wires({name: i for i, (_, _, name) in enumerate(inputs)})
        last_read = _last_read(cluster, [name for _, _, name in outputs])
        for i, child in enumerate(cluster.children):
            members = tuple(_members(child))
            inside = {v.name: v for node in members for v in node.outputs}
            read = dict.fromkeys(v for node in members for v in node.inputs)
            taken = [v for v in read if v.name not in inside and v.name in wires.giver]
            given = [v for v in inside.values() if last_read.get(v.name, i) > i]
            wires.add(len(items), (v.name for v in taken), inside)
            items.append(self.item(child, taken, given))
        for kind, number, name in outputs:
            wires.add(len(items), (name,), ())
            items.append((kind, number))
        edges = wires.edges()
        self.clusters.append(
            {
                "path": cluster.path,
                "label": cluster.label,
                "aside": cluster.aside,
                "items": items,
                "edges": [[self.values[v], edge.source, edge.targets] for v, edge in edges],
                "rows": rows_of(len(items), [e for _, e in edges], len(inputs), len(outputs)),
            }
        )
        return len(self.clusters) - 1

    def item(
        self, child: Node | Cluster, taken: Sequence[Value], given: Sequence[Value]
    ) -> tuple[int, int]:
        """Kind and number of a child, which takes values from its siblings and gives them some."""
        if not isinstance(child, Cluster):
            return NODE, self.nodes[child.name]
        inputs = [(PORT_IN, self.value(v), v.name) for v in taken]
        outputs = [(PORT_OUT, self.value(v), v.name) for v in given]
        return CLUSTER, self.cluster(child, inputs, outputs)


class _Wires:
    """Which item of a cluster gives each value, from the first ones on, and which ones take it."""

    def __init__(self, giver: dict[str, int]) -> None:
        self.giver = giver
        self._takers: dict[str, list[int]] = {}

    def add(self, item: int, taken: Iterable[str], given: Iterable[str]) -> None:
        """An item takes values and gives others."""
        for name in taken:
            self._takers.setdefault(name, []).append(item)
        self.giver.update(dict.fromkeys(given, item))

    def edges(self) -> list[tuple[str, Edge]]:
        """The values that an item gives and another takes."""
        return [
            (name, Edge(self.giver[name], tuple(items)))
            for name, items in self._takers.items()
            if name in self.giver
        ]


def _last_read(cluster: Cluster, outputs: Iterable[str]) -> dict[str, int]:
    """The last child that reads each value; the number of children for values read outside."""
    inside = {
        v.name: i for i, child in enumerate(cluster.children) for n in _members(child)
        for v in n.inputs
    }  # fmt: skip
    return {**inside, **dict.fromkeys(outputs, len(cluster.children))}


def _members(child: Node | Cluster) -> Iterator[Node]:
    return child.nodes() if isinstance(child, Cluster) else iter((child,))


def _settings(node: Node) -> str:
    return ", ".join(
        f"{name}={format_argument(argument)}"
        for name, argument in node.arguments.items()
        if argument is not None and all(value.dtype == "int" for value in values_in(argument))
    )
