"""Products of values as data: letters of their dimensions, as in einsum, and where windows lie.

linear           n i, o i                      -> n o
grouped conv     n (g i) s0 s1, (g o) i k0 k1  -> n (g o) t0 t1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autoprune.ir.graph import Value

Dim = tuple[str, ...]
"""The letters of a dimension: one, or those of a row-major product."""

Operand = Value | str
"""A factor of a product: a tensor, or the name of an argument that is a number."""

Term = Mapping[Operand, float]
"""A product: by factor, with which power it is in it."""


@dataclass(frozen=True, slots=True)
class Window:
    """A kernel that slides along a dimension: `fine = stride * coarse + dilation * tap - before`.

    A convolution reads the fine positions and makes the coarse ones; transposed, the other way.

    Attributes:
        fine: letter of the side that is padded.
        coarse: letter of the places of the kernel.
        tap: letter of the positions within the kernel.
        stride: fine positions from one place to the next.
        dilation: fine positions from one tap to the next.
        before: zeros before the first fine position.
        after: zeros after the last one; negative where the last ones are out of reach.
        same: if the padding follows from the size, as much as makes `ceil(fine / stride)` places;
            the odd zero goes to this end. `before` and `after` are those on the example inputs.
    """

    fine: str
    coarse: str
    tap: str
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    same: Literal["", "before", "after"] = ""

    def span(self, taps: int) -> int:
        """Fine positions from the first of so many taps to the last."""
        return self.dilation * (taps - 1) + 1

    def made(self, read: int, taps: int, *, transposed: bool) -> int:
        """Positions of the output, given those of the input; `transposed` reads the coarse ones."""
        if transposed:
            return self.stride * (read - 1) + self.span(taps) - self.before - self.after
        before, after = self.padding(read, taps)
        return max(0, (read + before + after - self.span(taps)) // self.stride + 1)

    def reads(self, read: int, made: int, taps: int, *, transposed: bool) -> NDArray[np.intp]:
        """The position that each one made reads through each tap; shape [made, taps].

        It is -1 where zeros are read. Transposed, the coarse positions are read.
        """
        outputs, tap = np.arange(made)[:, None], np.arange(taps)[None]
        if transposed:
            steps = outputs + self.before - self.dilation * tap
            found = np.where(steps % self.stride == 0, steps // self.stride, -1)
        else:
            before, _ = self.padding(read, taps)
            found = self.stride * outputs + self.dilation * tap - before
        return np.where((found >= 0) & (found < read), found, -1)

    def padding(self, fine: int, taps: int) -> tuple[int, int]:
        """Zeros before and after so many fine positions."""
        if not self.same:
            return self.before, self.after
        places = -(-fine // self.stride)
        total = max(0, (places - 1) * self.stride + self.span(taps) - fine)
        less, more = total // 2, total - total // 2
        return (less, more) if self.same == "after" else (more, less)


@dataclass(frozen=True)
class Contraction:
    """`scale * product + added_scale * added`; the product is summed over letters outputs lack.

    Attributes:
        operands: each value with the letters of its dimensions.
        output: letters of the output's dimensions.
        sizes: sizes of letters that occur only inside products.
        windows: kernels that slide over letters; their axes are pinned.
        added: values added to the product, with the letters of their dimensions.
        folds: the bias that can take up what a constant operand adds to every output alike.
        scale: what the product is multiplied by.
        added_scale: what `added` is multiplied by.
        index: the letter whose positions the first operand holds as integers, as an embedding's
            does: it stands for a one in that place, zeros in the others.
        also: what the operator does that is not said by all that, in words, such as an activation.
    """

    operands: tuple[tuple[Value, tuple[Dim, ...]], ...]
    output: tuple[Dim, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)
    windows: tuple[Window, ...] = ()
    added: tuple[tuple[Value, tuple[Dim, ...]], ...] = ()
    folds: Value | None = None
    scale: float = 1.0
    added_scale: float = 1.0
    index: str = ""
    also: str = ""

    @cached_property
    def kept(self) -> frozenset[str]:
        """The letters of the output."""
        return frozenset(letter for dim in self.output for letter in dim)

    @property
    def terms(self) -> tuple[Term, ...]:
        """What is summed: the product, and what is added to it."""
        factors = [value for value, _ in self.operands[1 if self.index else 0 :]]
        product: Term = {value: float(factors.count(value)) for value in factors}
        added: list[Term] = [{value: 1.0} for value, _ in self.added]
        return (product, *added)

    def sizes_on(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
        """The size of every letter of the operands, which have these shapes."""
        sizes = dict(self.sizes)
        for shape, (_, dims) in zip(shapes, self.operands, strict=True):
            for n, dim in zip(shape, dims, strict=True):
                if len(dim) == 1:  # an axis of size one is broadcast
                    sizes[dim[0]] = n if sizes.get(dim[0], 1) == 1 else sizes[dim[0]]
        return sizes

    def evaluate(self, values: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """What a call computes of values by name, but for what `also` tells of.

        For checks: it is written for clarity, not speed.
        """
        arrays = [values[value.name] for value, _ in self.operands]
        sizes = self.sizes_on([array.shape for array in arrays])
        terms: list[tuple[NDArray[Any], tuple[str, ...]]] = []
        for i, (array, (_, dims)) in enumerate(zip(arrays, self.operands, strict=True)):
            if self.index and i == 0:
                array, dims = np.eye(sizes[self.index])[array], (*dims, (self.index,))
            terms.append(_one_letter_each(array, dims, sizes))
        read = {letter for _, letters in terms for letter in letters}
        for window in self.windows:
            transposed = window.fine not in read
            source, target = (
                (window.coarse, window.fine) if transposed else (window.fine, window.coarse)
            )
            taps = sizes[window.tap]
            made = window.made(sizes[source], taps, transposed=transposed)
            places = window.reads(sizes[source], made, taps, transposed=transposed)
            one_hot = places[..., None] == np.arange(sizes[source])
            terms.append((one_hot.astype(np.float64), (target, window.tap, source)))
        number = {a: i for i, a in enumerate(dict.fromkeys(a for _, t in terms for a in t))}
        given = [part for array, t in terms for part in (array, [number[a] for a in t])]
        output = [letter for dim in self.output for letter in dim]
        found: NDArray[Any] = np.einsum(*given, [number[a] for a in output], optimize=True)
        lengths = iter(found.shape)
        found = found.reshape([prod(next(lengths) for _ in dim) for dim in self.output])
        found = found * self.scale if self.scale != 1 else found
        for value, dims in self.added:
            given_sizes = dict(zip(dims, values[value.name].shape, strict=True))
            aligned = values[value.name].reshape([given_sizes.get(dim, 1) for dim in self.output])
            found = found + (aligned * self.added_scale if self.added_scale != 1 else aligned)
        return found


def _one_letter_each(
    array: NDArray[Any], dims: Sequence[Dim], sizes: Mapping[str, int]
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """An operand with a dimension for each letter, without those that are broadcast."""
    shape = [
        n
        for size, dim in zip(array.shape, dims, strict=True)
        for n in ([size] if len(dim) == 1 else [sizes[a] for a in dim])
    ]
    letters = [letter for dim in dims for letter in dim]
    broadcast = [n == 1 and sizes[a] > 1 for n, a in zip(shape, letters, strict=True)]
    pick = tuple(0 if alone else slice(None) for alone in broadcast)
    kept = tuple(a for a, alone in zip(letters, broadcast, strict=True) if not alone)
    return array.reshape(shape)[pick], kept
