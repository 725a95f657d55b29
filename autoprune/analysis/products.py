"""Every product of activations with a weight in a graph, whatever operator it hides in.

What scores units by data, corrects weights, chooses formats, quantizes or replaces layers reads
this list, and none of the operators. An example, of a convolution with two groups:

    >>> print(products_of(typed).products[0])
    conv2d: weight [(g o) i k0 k1] = features.3.weight, outputs g o, inputs i, taps k0 k1

As a matrix, the weight of a product has shape [groups, outputs, taps * inputs], inputs running
fastest; `Product.columns` brings what it is multiplied by into the shape
[groups, samples, taps * inputs] (im2col), so that the product is one matrix product a group:

    columns @ matrix.T = outputs [groups, samples, outputs]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoprune.analysis.typing import TypedGraph
from autoprune.analysis.weight_paths import Layout, Path, Paths, layout_of
from autoprune.ir import axes as ax
from autoprune.ir.axes import Axis
from autoprune.ir.contraction import Contraction, Dim, Window
from autoprune.ir.graph import Node, Parameter, Value
from autoprune.ops.views import Call, Shape

Array = NDArray[Any]


@dataclass(frozen=True)
class Product:
    """A call that multiplies activations by a weight.

    Attributes:
        node: the call.
        contraction: all that it multiplies and adds.
        weight: the operand that is made of a parameter.
        path: how it is made of which; see `weight_paths`.
        layout: where its elements lie in the parameter; None if that is not known.
        x: the operand that is no weight. Of an embedding, the indices.
        groups: letters of the weight, of x and of the output: nothing is summed across these.
        outputs: letters of the weight and of the output.
        inputs: letters of the weight and of x, which are summed over.
        taps: letters of the weight that slide over x.
        bias: what is added to each output alike, and the path to it; None if there is none.
        reads: axis types of the inputs, by letter: the units that the product consumes.
        makes: the same of groups and outputs: the units that it produces.
    """

    node: Node
    contraction: Contraction
    weight: Value
    path: Path
    layout: Layout | None
    x: Value
    groups: tuple[str, ...]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    taps: tuple[str, ...]
    bias: tuple[Value, Path | None] | None
    reads: Mapping[str, Axis] = field(repr=False)
    makes: Mapping[str, Axis] = field(repr=False)
    sizes: Mapping[str, int] = field(repr=False)

    @property
    def parameter(self) -> Parameter:
        """The parameter that the weight is made of."""
        return self.path.parameter

    def size(self, letters: Sequence[str]) -> int:
        """Positions along some letters."""
        return prod(self.sizes[letter] for letter in letters)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The windows, one for each of the taps."""
        return self.contraction.windows

    @property
    def transposed(self) -> bool:
        """Whether windows spread what they read, as those of a transposed convolution."""
        letters = {a for dim in self.dims_of(self.x) for a in dim}
        return any(window.coarse in letters for window in self.windows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Groups, outputs of each, and taps * inputs of each."""
        return self.size(self.groups), self.size(self.outputs), self.size(self.taps + self.inputs)

    @property
    def exact(self) -> bool:
        """Whether it is nothing but the product, scaled, and what is added."""
        return not self.contraction.also

    def dims_of(self, value: Value) -> tuple[Dim, ...]:
        """The letters of an operand."""
        return next(dims for operand, dims in self.contraction.operands if operand == value)

    def is_matrix(self, *, transposed: bool = False) -> bool:
        """Whether the parameter itself is the weight, stored as [outputs, inputs, *taps].

        Transposed, it is stored as [inputs, outputs, *taps].
        """
        layout, made = self.layout, self.groups + self.outputs
        if layout is None or not self.path.moved:
            return False
        sides = (self.inputs, made) if transposed else (made, self.inputs)
        order = [[i for a in side for i in layout.order[a]] for side in (*sides, self.taps)]
        places = [i for side in order for i in side]
        rank = bool(order[0]) + bool(order[1]) + len(self.taps)
        shape = tuple(b - a for a, b in zip(layout.start, layout.stop, strict=True))
        own = self.parameter.value.shape
        return places == sorted(places) and shape == own and len(own) - own.count(1) <= rank

    def matrix(self, parameter: Array) -> Array:
        """The weight of shape [groups, outputs, taps * inputs], from a tensor like the parameter.

        The layout must be known.
        """
        assert self.layout is not None
        rows = (self.groups, self.outputs, self.taps + self.inputs)
        return self.layout.gathered(parameter, rows)

    def tensor(self, matrix: Array) -> Array:
        """The part of the parameter that a matrix like `matrix` makes; its inverse."""
        assert self.layout is not None
        return self.layout.scattered(matrix, (self.groups, self.outputs, self.taps + self.inputs))

    def columns(self, x: Array) -> Array:
        """What the weight is multiplied by, as rows (im2col), before the scale.

        Batch and size of `x` may be others than those traced.

        Returns:
            Shape [groups, samples, taps * inputs]; samples are all positions of the output that are
            neither groups nor outputs, in its order.
        """
        dims = list(self.dims_of(self.x))
        if self.contraction.index:
            x = np.eye(self.sizes[self.contraction.index], dtype=np.float32)[x]
            dims.append((self.contraction.index,))
        for window in self.windows:
            x, dims = self._opened(x, dims, window)
        flat = [letter for dim in dims for letter in dim]
        sizes = {a: n for dim, n in zip(dims, x.shape, strict=True) if len(dim) == 1 for a in dim}
        split = [n for d, m in zip(dims, x.shape, strict=True) for n in self._split(d, m)]
        last = [a for a in (*self.taps, *self.inputs) if a in flat]
        samples = [
            a for dim in self.contraction.output for a in dim if a in flat and a not in self.groups
        ]
        order = [flat.index(a) for a in (*self.groups, *samples, *last)]
        count = prod(sizes[a] for a in samples)
        x = x.reshape(split).transpose(order)
        return x.reshape(self.size(self.groups), count, self.size(last))

    def rows(self, y: Array) -> Array:
        """An output of the call as rows, which `columns @ matrix.T` gives up to what is added.

        Returns:
            Shape [groups, samples, outputs].
        """
        letters = [a for dim in self.contraction.output for a in dim]
        split = [n for d, m in zip(self.contraction.output, y.shape, strict=True)
                 for n in self._split(d, m)]  # fmt: skip
        made = (*self.groups, *self.outputs)
        samples = [a for a in letters if a not in made]
        order = [letters.index(a) for a in (*self.groups, *samples, *self.outputs) if a in letters]
        groups, outputs, _ = self.shape
        return y.reshape(split).transpose(order).reshape(groups, -1, outputs)

    def _split(self, dim: Dim, size: int) -> list[int]:
        return [size] if len(dim) == 1 else [self.contraction.sizes[a] for a in dim]

    def _opened(self, x: Array, dims: list[Dim], window: Window) -> tuple[Array, list[Dim]]:
        """With a dimension of positions and one of taps in place of the one that is slid over."""
        taps = self.sizes[window.tap]
        if any(window.coarse in dim for dim in dims):
            at = dims.index((window.coarse,))
            made = window.made(x.shape[at], taps, transposed=True)
            places = window.reads(x.shape[at], made, taps, transposed=True)
            zero = np.zeros_like(x[(slice(None),) * at + (slice(0, 1),)])
            x = np.concatenate([x, zero], at).take(places, axis=at)
            return x, [*dims[:at], (window.fine,), (window.tap,), *dims[at + 1 :]]
        at = dims.index((window.fine,))
        sides = [(0, 0)] * x.ndim
        sides[at] = window.padding(x.shape[at], taps)
        x = np.pad(x, sides) if any(sides[at]) else x
        x = np.lib.stride_tricks.sliding_window_view(x, window.span(taps), axis=at)
        x = x[(slice(None),) * at + (slice(None, None, window.stride),)][..., :: window.dilation]
        return x, [*dims[:at], (window.coarse,), *dims[at + 1 :], (window.tap,)]

    def __str__(self) -> str:
        weight = " ".join(
            f"({' '.join(dim)})" if len(dim) > 1 else "".join(dim)
            for dim in self.dims_of(self.weight)
        )
        roles = [("outputs", self.groups + self.outputs), ("inputs", self.inputs)]
        roles += [("taps", self.taps)] if self.taps else []
        said = ", ".join(f"{name} {' '.join(letters)}" for name, letters in roles)
        return f"{self.node.name}: weight [{weight}] = {self.parameter.value.name}, {said}"


@dataclass(frozen=True)
class Products:
    """The products with weights of a graph, in its order; of two weights there are none."""

    products: tuple[Product, ...]

    @cached_property
    def by_parameter(self) -> Mapping[str, tuple[Product, ...]]:
        """By parameter, the products that share it, as an embedding and a head do."""
        found: dict[str, tuple[Product, ...]] = {}
        for product in self.products:
            name = product.parameter.value.name
            found[name] = (*found.get(name, ()), product)
        return found

    def __iter__(self) -> Iterator[Product]:
        return iter(self.products)


def products_of(typed: TypedGraph) -> Products:
    """Every product with a weight in a graph, of torch or ONNX alike."""
    paths = Paths(typed)
    found = []
    for node in typed.graph.nodes:
        describe = typed.operator_of(node).product
        contraction = None if describe is None else describe(Call(node, typed.types))
        if contraction is not None:
            product = _product(typed, node, contraction, paths)
            found += [] if product is None else [product]
    return Products(tuple(found))


def _product(
    typed: TypedGraph, node: Node, contraction: Contraction, paths: Paths
) -> Product | None:
    operands = contraction.operands
    weights = [o for o in operands if paths.to(o[0]) is not None and o[0].shape]
    others = [o for o in operands if o[0].name not in paths.constants]
    if len(operands) != 2 or len(weights) != 1 or len(others) != 1:
        return None
    (weight, dims), (x, read) = weights[0], others[0]
    if contraction.index and x != operands[0][0]:
        return None
    path = paths.to(weight)
    assert path is not None
    sizes = contraction.sizes_on([v.shape for v, _ in operands])
    # An axis of size one is broadcast against the weight's.
    broadcast = {d[0] for d, n in zip(read, x.shape, strict=True) if n == 1 and len(d) == 1}
    of_x = {a for dim in read for a in dim} - {a for a in broadcast if sizes[a] > 1}
    of_x |= {contraction.index} - {""}
    letters = [a for dim in dims for a in dim]
    tapped = tuple(window.tap for window in contraction.windows)
    kept = contraction.kept
    alone = {a for a in letters if sizes[a] == 1} - of_x - kept
    axes = _axes_of(typed.types[weight.name], dims, contraction)
    groups = tuple(a for a in letters if a in kept and a in of_x)
    outputs = tuple(a for a in letters if a in kept and a not in of_x)
    inputs = tuple(a for a in letters if a not in kept and (a in of_x or a in alone - set(tapped)))
    if set(groups + outputs + inputs + tapped) != set(letters):  # some are summed by themselves
        return None
    return Product(
        node, contraction, weight, path, layout_of(typed, path, weight, dims, sizes), x,
        groups, outputs, inputs, tapped, _bias(contraction, groups + outputs, paths),
        {a: axes[a] for a in inputs if a in axes},
        {a: axes[a] for a in groups + outputs if a in axes}, sizes,
    )  # fmt: skip


def _bias(
    contraction: Contraction, made: Sequence[str], paths: Paths
) -> tuple[Value, Path | None] | None:
    """What is added to each output alike."""
    for value, dims in contraction.added:
        if {a for dim, n in zip(dims, value.shape, strict=True) if n > 1 for a in dim} <= set(made):
            return value, paths.to(value)
    return None


def _axes_of(shape: Shape, dims: Sequence[Dim], contraction: Contraction) -> dict[str, Axis]:
    """The axis of each letter; of a mixture that cannot be taken apart, the whole for the first."""
    found: dict[str, Axis] = {}
    for axis, dim in zip(shape, dims, strict=True):
        rest: Axis = axis
        try:
            for letter in reversed(dim[1:]):
                rest, found[letter] = ax.outer_and_inner(rest, contraction.sizes[letter])
        except ValueError:
            rest = axis
        found[dim[0]] = rest
    return found
