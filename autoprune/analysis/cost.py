"""Parameters, FLOPs and activation memory of any plan, as arithmetic on axis sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from autoprune.analysis.typing import TypedGraph
from autoprune.ir import axes as ax
from autoprune.ir.axes import Axis, Leaf
from autoprune.ops.rule import no_cost, writes_in_place
from autoprune.ops.views import Call

Sizes = Mapping[int, int]

BYTES = {
    "float64": 8, "int64": 8, "complex64": 8, "complex128": 16, "float32": 4, "int32": 4,
    "float16": 2, "bfloat16": 2, "int16": 2,
}  # fmt: skip
"""Bytes per element; dtypes that are not listed take one."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one forward pass on the example inputs.

    Attributes:
        params: number of trained scalars.
        flops: floating-point operations of convolutions, matrix products and attention, where a
            multiply-add counts as two.
        memory: bytes of activations alive at the same time, at most.
    """

    params: int
    flops: int
    memory: int


@dataclass(frozen=True, slots=True)
class Monomial:
    """A coefficient times the sizes of axes that can still change."""

    coefficient: int
    axes: tuple[Axis, ...]

    def at(self, sizes: Sizes) -> int:
        return self.coefficient * prod(ax.size(axis, sizes) for axis in self.axes)


def _monomial(coefficient: int, axes: tuple[Axis, ...], free: frozenset[int]) -> Monomial:
    """Sizes that no plan changes go into the coefficient."""
    changing = []
    for axis in axes:
        if axis.uid in free if isinstance(axis, Leaf) else not axis.uids.isdisjoint(free):
            changing.append(axis)
        else:
            coefficient *= axis.size
    return Monomial(coefficient, tuple(changing))


class CostModel:
    """The cost of a typed graph as polynomials in the sizes of the leaves that may change."""

    def __init__(self, typed: TypedGraph, free: frozenset[int]) -> None:
        graph, types = typed.graph, typed.types
        self._params = [
            _monomial(1, types[p.value.name], free)
            for p in graph.parameters
            if p.kind == "parameter"
        ]
        self._flops: list[Monomial] = []
        # Memory: every buffer with the interval of nodes during which it is needed.
        owner: dict[str, str] = {}
        born = {v.name: (v, 0) for v in graph.inputs}
        died = {v.name: 0 for v in graph.inputs}
        for time, node in enumerate(graph.nodes):
            for value in node.inputs:
                died[owner.get(value.name, value.name)] = time
            operator = typed.operator_of(node)
            if operator.cost is not no_cost:
                for coefficient, axes in operator.cost(Call(node, types)):
                    self._flops.append(_monomial(coefficient, axes, free))
            shares = operator.aliases or writes_in_place(node.op)
            source = node.tensors[0].name if shares and node.tensors else None
            for value in node.outputs:
                if source is not None:
                    owner[value.name] = owner.get(source, source)
                else:
                    born[value.name] = value, time
                    died[value.name] = time
        for value in graph.outputs:
            died[owner.get(value.name, value.name)] = len(graph.nodes)
        self._memory = [
            _monomial(BYTES.get(value.dtype, 1), types[name], free)
            for name, (value, _) in born.items()
        ]
        self._born = np.array([time for _, time in born.values()], dtype=np.intp)
        self._died = np.array([died[name] for name in born], dtype=np.intp)

    def params(self, sizes: Sizes) -> int:
        """Trained scalars at the given leaf sizes."""
        return sum(m.at(sizes) for m in self._params)

    def flops(self, sizes: Sizes) -> int:
        """FLOPs of one forward pass at the given leaf sizes."""
        return sum(m.at(sizes) for m in self._flops)

    def memory(self, sizes: Sizes) -> int:
        """Peak bytes of live activations at the given leaf sizes."""
        if not self._memory:
            return 0
        amounts = np.array([m.at(sizes) for m in self._memory], dtype=np.int64)
        change = np.zeros(int(self._died.max()) + 2, dtype=np.int64)
        np.add.at(change, self._born, amounts)
        np.subtract.at(change, self._died + 1, amounts)
        return int(np.cumsum(change).max())

    def saved(self, uid: int, units: int) -> tuple[int, int]:
        """Parameters and FLOPs that go if only `units` of leaf `uid` stay and all else does."""
        params, flops = (
            sum(m.at({}) - m.at({uid: units}) for m in monomials.get(uid, ()))
            for monomials in self._by_leaf
        )
        return params, flops

    @cached_property
    def _by_leaf(self) -> tuple[dict[int, list[Monomial]], dict[int, list[Monomial]]]:
        """The monomials of parameters and of FLOPs in which each leaf occurs."""
        indices: tuple[dict[int, list[Monomial]], dict[int, list[Monomial]]] = ({}, {})
        for index, monomials in zip(indices, (self._params, self._flops), strict=True):
            for monomial in monomials:
                for uid in frozenset[int]().union(*(axis.uids for axis in monomial.axes)):
                    index.setdefault(uid, []).append(monomial)
        return indices

    def at(self, sizes: Sizes) -> Cost:
        """All costs at the given leaf sizes (leaves not listed are whole)."""
        return Cost(self.params(sizes), self.flops(sizes), self.memory(sizes))
