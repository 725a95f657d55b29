"""How the weight of a product is made of a parameter, and where its elements lie in that.

in_proj_weight [3 d, d] -> slice -> t -> matmul      elements are moved
weight_q -> dequantize -> conv2d                     its elements stay where they are
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoprune.analysis.dependence import constants
from autoprune.analysis.typing import TypedGraph
from autoprune.ir import axes as ax
from autoprune.ir.axes import Axes, Axis, Leaf, Prod, Sum
from autoprune.ir.contraction import Dim
from autoprune.ir.graph import Node, Parameter, Value
from autoprune.ops.views import Call, Shape, Typing

Array = NDArray[Any]


@dataclass(frozen=True)
class Path:
    """What lies between a parameter and the weight of a product.

    Attributes:
        parameter: where the elements come from.
        nodes: the calls on the way, in order.
        moved: whether these only move elements, and compute nothing, as a dequantizer or a mask do.
        placed: whether it is known where each element goes.
    """

    parameter: Parameter
    nodes: tuple[Node, ...] = ()
    moved: bool = True
    placed: bool = True


class Paths:
    """The paths of all values that are made of one parameter each."""

    def __init__(self, typed: TypedGraph) -> None:
        self.constants = constants(typed.graph)
        self._found: dict[str, Path] = {p.value.name: Path(p) for p in typed.graph.parameters}
        for node in typed.graph.nodes:
            path = self._through(typed, node)
            if path is not None:
                self._found.update(dict.fromkeys((v.name for v in node.outputs), path))

    def to(self, value: Value) -> Path | None:
        """The path to a value, if it has one."""
        return self._found.get(value.name)

    def _through(self, typed: TypedGraph, node: Node) -> Path | None:
        given = [v for v in node.tensors if v.name in self._found]
        if not given or any(v.name not in self.constants for v in node.outputs):
            return None
        operator = typed.operator_of(node)
        views = len(node.tensors) == 1 and (operator.aliases or operator.uniform)
        moved = len(node.tensors) == 1 and operator.selects(Call(node, typed.types))
        alike = [v for v in given if all(v.shape == made.shape for made in node.outputs)]
        placed = (views and moved) or (operator.uniform and bool(alike))
        # Of a parameter and its mask, the parameter.
        source = max(
            alike if placed and not moved else given,
            key=lambda v: (self._found[v.name].parameter.kind == "parameter", prod(v.shape)),
        )
        before = self._found[source.name]
        if not placed and before.parameter.kind != "parameter":
            return None
        nodes = (*before.nodes, node)
        return Path(before.parameter, nodes, before.moved and moved, before.placed and placed)


@dataclass(frozen=True)
class Layout:
    """Where the elements of a weight lie in its parameter.

    Attributes:
        start: of the part that the weight is, along each dimension of the parameter.
        stop: its end.
        sizes: of the axes that the part falls into, row-major.
        order: by letter of the weight, which of these it is made of, outer ones first.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]
    sizes: tuple[int, ...]
    order: Mapping[str, tuple[int, ...]]

    @property
    def part(self) -> tuple[slice, ...]:
        """The part as an index of the parameter."""
        return tuple(map(slice, self.start, self.stop))

    def gathered(self, parameter: Array, letters: Sequence[Sequence[str]]) -> Array:
        """The weight, one dimension for each of these rows of letters, which name all of it."""
        order = self._permutation(letters)
        shape = [prod(self.sizes[i] for a in row for i in self.order[a]) for row in letters]
        return parameter[self.part].reshape(self.sizes).transpose(order).reshape(shape)

    def scattered(self, weight: Array, letters: Sequence[Sequence[str]]) -> Array:
        """The part of the parameter; the inverse of `gathered`."""
        order = self._permutation(letters)
        inner = weight.reshape([self.sizes[i] for i in order])
        shape = [b - a for a, b in zip(self.start, self.stop, strict=True)]
        return inner.transpose(np.argsort(order)).reshape(shape)

    def _permutation(self, letters: Sequence[Sequence[str]]) -> list[int]:
        return [i for row in letters for a in row for i in self.order[a]]


def layout_of(
    typed: TypedGraph, path: Path, weight: Value, dims: Sequence[Dim], sizes: Mapping[str, int]
) -> Layout | None:
    """Where the elements of a weight with these letters lie; None if axis types do not tell.

    The path is typed by itself, on axes that nothing else ties together.
    """
    if not path.placed:
        return None
    axes, parameter = Axes(), path.parameter.value
    types: dict[str, Shape] = {parameter.name: tuple(axes.leaf(n) for n in parameter.shape)}
    for node in path.nodes:
        for other in node.tensors:
            types.setdefault(other.name, tuple(axes.leaf(n) for n in other.shape))
        made = typed.operator_of(node).axes(Typing(node, types, axes))
        types.update({v.name: shape for v, shape in zip(node.outputs, made, strict=True)})
    letters: dict[str, Axis] = {}
    for axis, dim in zip(types[weight.name], dims, strict=True):
        parts = (axis,) if len(dim) == 1 else axes.factor(axis, [sizes[a] for a in dim])
        for letter, part in zip(dim, parts, strict=True):
            if letter in letters:  # a diagonal
                return None
            letters[letter] = part
    solved = {letter: axes.resolve(axis) for letter, axis in letters.items()}
    used = ax.uids_of(solved.values())
    start, stop, inner = [], [], list[Leaf]()
    for axis in map(axes.resolve, types[parameter.name]):
        first, part = _part(axis, used)
        leaves = _factors(part)
        if leaves is None:
            return None
        start.append(first)
        stop.append(first + part.size)
        inner.extend(leaves)
    places = {leaf.uid: i for i, leaf in enumerate(inner)}
    order = {}
    for letter, axis in solved.items():
        leaves = _factors(axis)
        if leaves is None or any(leaf.uid not in places for leaf in leaves):
            return None
        order[letter] = tuple(places[leaf.uid] for leaf in leaves)
    if sorted(i for row in order.values() for i in row) != list(range(len(inner))):
        return None  # some elements are no part of the weight, or more than one of it
    return Layout(tuple(start), tuple(stop), tuple(leaf.size for leaf in inner), order)


def _part(axis: Axis, used: frozenset[int]) -> tuple[int, Axis]:
    """Where the only term that is used starts, and the term; all of the axis if that is it."""
    if isinstance(axis, Sum):
        offset = 0
        for term in axis.terms:
            if term.uids and term.uids <= used and len(axis.uids & used) == len(term.uids):
                return offset, term
            offset += term.size
    return 0, axis


def _factors(axis: Axis) -> tuple[Leaf, ...] | None:
    """The leaves of a product of leaves."""
    parts = axis.factors if isinstance(axis, Prod) else (axis,)
    found = tuple(p for p in parts if isinstance(p, Leaf))
    return found if len(found) == len(parts) else None
