"""Products of values as data: letters of their dimensions, as in einsum, and where windows lie.

linear           n i, o i                      -> n o
grouped conv     n (g i) s0 s1, (g o) i k0 k1  -> n (g o) t0 t1
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from autoprune.ir.graph import Value

Dim = tuple[str, ...]
"""The letters of a dimension: one, or those of a row-major product."""


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
