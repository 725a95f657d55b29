"""Sums of products described by letters, one for each axis, as in einsum.

Every dimension of every operand is one letter, or a row-major product of letters:

    linear          n i, o i            -> n o
    grouped conv    n (g i) h w, (g o) i k l -> n (g o) h' w'

From the letters follow the axis equations, the behaviour at removed positions and the FLOPs: of
the rules of the package, of those that users state (`autoprune.ops.statement`), and of those that
experiments find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from autoprune.ir import axes as ax
from autoprune.ir.axes import ONE, Axis
from autoprune.ir.contraction import Contraction, Dim
from autoprune.ir.graph import Value
from autoprune.ir.group import Guarantee
from autoprune.ops.rule import Cost, Operator, product
from autoprune.ops.views import Call, Shape, State, Typing, Zeroing

Dims = tuple[Dim, ...]
Factors = tuple[tuple[Value, Dims], ...]
"""The operands of a product, each with the letters of its dimensions."""


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


DOTS = ("...",)
"""Any number of leading dimensions, which are aligned from the right."""


def spread(dims: Dims, rank: int, name: str = "n") -> Dims:
    """Dimensions of a tensor of this rank, with letters for what `...` stands for, if it occurs."""
    if DOTS not in dims:
        return dims
    at = dims.index(DOTS)
    batch = tuple((f"{name}{i}",) for i in range(rank - len(dims) + 1, 0, -1))
    return (*dims[:at], *batch, *dims[at + 1 :])


def in_letters(
    text: str, *operands: Value, plus: Value | None = None, **others: Any
) -> Contraction:
    """The product that letters state of these tensors, as in einsum: `"... i, o i -> ... o"`.

    Args:
        text: the letters of each operand and of the output.
        operands: the tensors.
        plus: what is added, which has the last dimensions of the output.
        others: further attributes of the contraction.
    """
    left, _, right = text.partition("->")
    read, made = tuple(map(letters, left.split(","))), letters(right)
    ranks = [len(value.shape) for value in operands]
    dotted = [n - len(dims) for n, dims in zip(ranks, read, strict=True) if DOTS in dims]
    output = spread(made, len(made) + max(dotted, default=-1))
    others = {"added": (), **others}
    if plus is not None:
        others["added"] = ((plus, output[len(output) - len(plus.shape) :]),)
    spreads = (spread(dims, n) for dims, n in zip(read, ranks, strict=True))
    return Contraction(tuple(zip(operands, spreads, strict=True)), output, **others)


def scaled(contraction: Contraction, call: Call, product: str, added: str = "") -> Contraction:
    """A contraction with the factors that the arguments of these names state."""
    scale, added_scale = (call.get(name, 1.0) for name in (product, added))
    if not isinstance(scale, int | float) or not isinstance(added_scale, int | float):
        return replace(contraction, also="it is scaled by a number that is computed")
    return replace(contraction, scale=float(scale), added_scale=float(added_scale))


@dataclass(frozen=True)
class Products:
    """A sum of products at one call.

    Attributes:
        terms: the products.
        outputs: letters of the dimensions of each output.
        sizes: sizes of letters that occur only inside row-major products.
        pinned: by letter, why no position of it may be removed.
        made: why letters that only outputs have are pinned.
        derived: letters whose positions follow from those of others, as those under a window do.
        folds: the bias that can take up what a constant operand adds to every output alike.
    """

    terms: tuple[Factors, ...]
    outputs: tuple[Dims, ...]
    sizes: Mapping[str, int]
    pinned: Mapping[str, str] = field(default_factory=dict)
    made: str = "an axis the operator makes"
    derived: frozenset[str] = frozenset()
    folds: Value | None = None

    @property
    def operands(self) -> Factors:
        """The operands of all products."""
        return tuple(operand for term in self.terms for operand in term)

    def kept(self, letter: str) -> list[bool]:
        """Which outputs have a letter."""
        return [any(letter in dim for dim in dims) for dims in self.outputs]

    def parts(self, axis: Axis, dim: Dim) -> list[tuple[str, Axis]]:
        """Each letter of a dimension with its axis.

        Raises:
            ValueError: if the axis is not such a product.
        """
        found: list[tuple[str, Axis]] = []
        for letter in reversed(dim[1:]):
            axis, inner = ax.outer_and_inner(axis, self.sizes[letter])
            found.append((letter, inner))
        return [*found, (dim[0], axis)] if dim else found


def products_of(contraction: Contraction) -> Products:
    """A contraction as the sum of products that it is."""
    windows = contraction.windows
    slid = dict.fromkeys(
        (letter for w in windows for letter in (w.fine, w.coarse, w.tap)), "a window slides over it"
    )
    return Products(
        (contraction.operands, *((added,) for added in contraction.added)),
        (contraction.output,),
        contraction.sizes,
        slid,
        "positions of a sliding window",
        frozenset(w.fine for w in windows),
        contraction.folds,
    )


def solve(call: Typing, products: Products) -> list[Shape]:
    """State that axes of one letter are the same; returns those of the outputs."""
    known: dict[str, Axis] = {}
    for value, dims in products.operands:
        for axis, dim in zip(call.axes_of(value), dims, strict=True):
            parts: Sequence[Axis] = (axis,)
            if len(dim) != 1:
                sizes = [products.sizes[letter] for letter in dim]
                parts = [ONE] * len(dim) if axis.size == 1 else call.axes.factor(axis, sizes)
            for letter, part in zip(dim, parts, strict=True):
                # An axis of size one is broadcast against the letter's other occurrences.
                met = known.get(letter, ONE)
                if met.size == 1:
                    known[letter] = part
                elif part.size != 1 and part is not met:
                    call.same(met, part)
    for letter, reason in products.pinned.items():
        if letter in known:
            call.pin(known[letter], reason)
    shapes = []
    for value, dims in zip(call.node.outputs, products.outputs, strict=True):
        for dim, n in zip(dims, value.shape, strict=True):
            for letter in dim:
                if letter not in known:
                    size = n if len(dim) == 1 else products.sizes[letter]
                    known[letter] = call.fixed(size, products.made)
        shapes.append(tuple(_joined(known, dim) for dim in dims))
    return shapes


def _joined(known: Mapping[str, Axis], dim: Dim) -> Axis:
    return known[dim[0]] if len(dim) == 1 else ax.prod(*(known[letter] for letter in dim))


def state_of(call: Zeroing, products: Products, zero: State = State.ZERO) -> State:
    """State of the outputs at the removed positions.

    A letter of an output is zero where a factor of every product is; a letter that is summed needs
    a factor that is zero.

    Args:
        call: the call.
        products: what it computes.
        zero: what it makes of zeros; see `autoprune.ops.statement.lettered`.
    """
    carriers: dict[str, list[Value]] = {}
    for value, dims in products.operands:
        for axis, dim in zip(call.axes_of(value), dims, strict=True):
            if not call.within(axis):
                continue
            try:
                parts = products.parts(axis, dim)
            except ValueError:  # a pinned mixture, in which this leaf is not prunable
                return State.ANY
            for letter, part in parts:
                if call.within(part) and value not in carriers.setdefault(letter, []):
                    carriers[letter].append(value)
    state = State.ZERO
    for letter, values in carriers.items():
        kept = products.kept(letter)
        if not all(kept):
            _summed(call, products, values, zero)
        if any(kept):
            state = max(state, _kept(call, products, values, zero))
    return state


def _kept(call: Zeroing, products: Products, carriers: Sequence[Value], zero: State) -> State:
    """State of the outputs at a removed position of a letter that they have."""
    total = State.ZERO
    for term in products.terms:
        everything = max(call.state(value) for value, _ in term)
        carried = [call.state(value) for value, _ in term if value in carriers]
        vanishes = bool(carried) and product(carried) is State.ZERO
        total = max(total, State.ZERO if vanishes else everything)
    return max(zero, total)


def _summed(call: Zeroing, products: Products, carriers: Sequence[Value], zero: State) -> None:
    """Report what becomes of the removed positions of a letter that an output lacks."""
    for term in products.terms:
        found = [value for value, _ in term if value in carriers]
        if len(found) > 1 or (found and zero is State.ZERO):
            call.summed(found, products.folds)
        elif found:
            call.report(Guarantee.APPROXIMATE, "how it is reduced is not stated")


def cost_of(call: Call, term: Factors, products: Products) -> Cost:
    """FLOPs of a product: two (a multiplication, an addition) for every position of all letters."""
    made = [*zip(products.outputs[0], call.axes_of(call.output), strict=True)]
    read = [*(pair for v, dims in term for pair in zip(dims, call.axes_of(v), strict=True))]
    widest: dict[Dim, Axis] = {}
    for dim, axis in (*made, *read):
        if axis.size >= widest.get(dim, axis).size and products.derived.isdisjoint(dim):
            widest[dim] = axis
    wanted = {letter for dim in widest for letter in dim}
    for order in ((*made, *read), (*read, *made)):
        axes = dict(_apart((dim for dim, _ in order if dim in widest), widest))
        if {letter for dim in axes for letter in dim} == wanted:
            return ((2, tuple(axes.values())),)
    return ()


def _apart(dims: Iterator[Dim], axes: Mapping[Dim, Axis]) -> Iterator[tuple[Dim, Axis]]:
    """Those dimensions that have no letter of one before them."""
    seen: set[str] = set()
    for dim in dims:
        if seen.isdisjoint(dim):
            seen.update(dim)
            yield dim, axes[dim]


Describe = Callable[[Call], Contraction]


def contracting(describe: Describe, **answers: Any) -> Operator:
    """The operator that a contraction says everything of, but for other answers that are given."""

    def products(call: Call) -> Products:
        memo = call.node.memo  # it depends on the arguments alone
        if describe not in memo:
            memo[describe] = products_of(describe(call))
        found: Products = memo[describe]
        return found

    def cost(call: Call) -> Cost:
        found = products(call)
        return cost_of(call, found.terms[0], found) if len(found.terms[0]) > 1 else ()

    operator = Operator(
        axes=lambda call: solve(call, products(call)),
        zero=lambda call: state_of(call, products(call)),
        cost=cost,
        product=describe,
    )
    return replace(operator, **answers)
