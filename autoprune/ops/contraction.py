"""Products summed over shared axes, described by letters as in einsum.

Every dimension of every operand is one letter, or a row-major product of letters:

    linear          n i, o i            -> n o
    grouped conv    n (g i) h w, (g o) i k l -> n (g o) h' w'

From the letters follow the axis equations and the behaviour at removed positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from autoprune.ir import axes as ax
from autoprune.ir.axes import ONE, Axis
from autoprune.ir.contraction import Contraction, Dim
from autoprune.ir.graph import Value
from autoprune.ops.rule import Call, Cost, Shape, State, Typing, Zeroing, product


def letters(text: str) -> tuple[Dim, ...]:
    """Parse `"n (g i) h"` into `(("n",), ("g", "i"), ("h",))`.

    >>> letters("n (g i)")
    (('n',), ('g', 'i'))
    """
    dims: list[Dim] = []
    inside: list[str] | None = None
    for token in text.replace("(", " ( ").replace(")", " ) ").split():
        if token == "(":
            inside = []
        elif token == ")":
            dims.append(tuple(inside or ()))
            inside = None
        elif inside is not None:
            inside.append(token)
        else:
            dims.append((token,))
    return tuple(dims)


def scaled(contraction: Contraction, call: Call, product: str, added: str = "") -> Contraction:
    """A contraction with the factors that the arguments of these names state."""
    scale, added_scale = (call.get(name, 1.0) for name in (product, added))
    if not isinstance(scale, int | float) or not isinstance(added_scale, int | float):
        return replace(contraction, also="it is scaled by a number that is computed")
    return replace(contraction, scale=float(scale), added_scale=float(added_scale))


Describe = Callable[[Call], Contraction]


def described(describe: Describe, call: Call) -> Contraction:
    """The contraction that a call is, worked out once: it depends on the arguments alone."""
    memo = call.node.memo
    if describe not in memo:
        memo[describe] = describe(call)
    contraction: Contraction = memo[describe]
    return contraction


def axes_rule(describe: Describe) -> Callable[[Typing], list[Shape]]:
    """The `axes` answer that follows from the letters."""

    def axes(call: Typing) -> list[Shape]:
        contraction = described(describe, call)
        known: dict[str, Axis] = {}

        def meet(letter: str, axis: Axis) -> None:
            met = known.get(letter, ONE)
            if met.size == 1:
                known[letter] = axis
            elif axis.size != 1 and axis is not met:
                call.same(met, axis)

        for value, dims in (*contraction.operands, *contraction.added):
            for axis, dim in zip(call.axes_of(value), dims, strict=True):
                if len(dim) == 1:
                    meet(dim[0], axis)
                elif axis.size != 1:
                    sizes = [contraction.sizes[letter] for letter in dim]
                    for letter, part in zip(dim, call.axes.factor(axis, sizes), strict=True):
                        meet(letter, part)
        for window in contraction.windows:
            for letter in (window.fine, window.coarse, window.tap):
                if letter in known:
                    call.pin(known[letter], "a window slides over it")
        shape: list[Axis] = []
        for dim, n in zip(contraction.output, call.output.shape, strict=True):
            if not known.keys() >= set(dim):
                shape.append(call.fixed(n, "positions of a sliding window"))
            elif len(dim) == 1:
                shape.append(known[dim[0]])
            else:
                shape.append(ax.prod(*(known[letter] for letter in dim)))
        return [tuple(shape)]

    return axes


def _letters_with(
    call: Zeroing, contraction: Contraction, value: Value, dims: Sequence[Dim]
) -> Iterator[str]:
    """The letters of an operand whose axes hold the leaf.

    Raises:
        ValueError: if it occurs in an axis that cannot be taken apart into its letters.
    """
    for axis, dim in zip(call.axes_of(value), dims, strict=True):
        if call.within(axis):
            rest = axis
            for letter in reversed(dim[1:]):
                rest, inner = ax.outer_and_inner(rest, contraction.sizes[letter])
                if call.within(inner):
                    yield letter
            if call.within(rest):
                yield dim[0]


def zero_rule(describe: Describe) -> Callable[[Zeroing], State]:
    """The `zero` answer that follows from the letters.

    A letter of the output is zero where any operand is; a summed letter needs a zero factor.
    """

    def zero(call: Zeroing) -> State:
        contraction = described(describe, call)
        carriers: dict[str, list[Value]] = {}
        for value, dims in contraction.operands:
            if not call.carries(value):
                continue
            try:
                for letter in _letters_with(call, contraction, value, dims):
                    carriers.setdefault(letter, []).append(value)
            except ValueError:  # a pinned mixture, in which this leaf is not prunable
                return State.ANY
        state = State.ZERO
        for letter, values in carriers.items():
            if letter not in contraction.kept:
                call.summed(values, contraction.folds)
                continue
            found = product(call.state(v) for v in values)
            if found is not State.ZERO:
                found = max(found, *(call.state(v) for v, _ in contraction.operands))
            state = max(state, found)
        for value, _ in contraction.added:
            state = max(state, call.state(value))
        return state

    return zero


def cost_over(call: Call, summed: Sequence[Axis]) -> Cost:
    """Two FLOPs (a multiplication, an addition) per output element and summed position."""
    return ((2, (*call.axes_of(call.output), *summed)),)
