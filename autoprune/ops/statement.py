"""Rules stated in letters, one for each axis, as in einsum and einops.

    linear            ... i, o i + o -> ... o
    layer scale       n c h w, c -> n c h w
    merge heads       n l h d -> n l (h d)

Operands stand in the order of the operator's tensors; those of a product are separated by commas,
those of a sum by `+`. Equal letters are the same axis. `(h d)` is a row-major product, `1` an axis
of size one, `...` any number of leading axes that are broadcast, and a letter that only outputs
have is an axis the operator makes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from autoprune.errors import RuleError
from autoprune.ops.letters import (
    DOTS,
    Dims,
    Factors,
    Products,
    cost_of,
    letters,
    solve,
    spread,
    state_of,
)
from autoprune.ops.rule import Cost, Operator, Terms
from autoprune.ops.views import Call, Shape, State, Typing, Zeroing

_TOKENS = re.compile(r"(\s|[A-Za-z_]\w*|1|\.\.\.|\((\s|[A-Za-z_]\w*)*\))*")


@dataclass(frozen=True)
class Letters:
    """A parsed statement.

    Attributes:
        terms: the terms of a sum, each the operands of a product, each the letters of its
            dimensions.
        outputs: letters of the dimensions of each output.
        pinned: letters no position of which may be removed.
    """

    terms: tuple[tuple[Dims, ...], ...]
    outputs: tuple[Dims, ...]
    pinned: frozenset[str] = frozenset()

    @property
    def operands(self) -> tuple[Dims, ...]:
        """The letters of each operand, in order."""
        return tuple(dims for term in self.terms for dims in term)

    def __str__(self) -> str:
        terms = " + ".join(", ".join(map(_text, term)) for term in self.terms)
        return f"{terms.rstrip()} -> {', '.join(map(_text, self.outputs))}".rstrip()


def _text(dims: Dims) -> str:
    words = ("1" if not dim else dim[0] if len(dim) == 1 else f"({' '.join(dim)})" for dim in dims)
    return " ".join(words)


def parse(text: str, pin: str = "") -> Letters:
    """Read a statement such as `"n i, o i + o -> n o"`.

    Args:
        text: the statement.
        pin: space-separated letters whose axes keep their size.

    Raises:
        RuleError: if it is malformed.
    """
    left, arrow, right = text.partition("->")
    if not arrow:
        raise _malformed(text, "it has no `->`")
    terms = tuple(tuple(_dims(part, text) for part in term.split(",")) for term in left.split("+"))
    outputs = tuple(_dims(part, text) for part in right.split(","))
    stated = Letters(terms, outputs, frozenset(pin.split()))
    used = {letter for dims in (*stated.operands, *outputs) for dim in dims for letter in dim}
    absent = sorted(stated.pinned - used)
    if absent:
        raise _malformed(text, f"`{absent[0]}`, which is to be pinned, does not occur")
    if any(DOTS in dims for dims in outputs) and not any(DOTS in d for d in stated.operands):
        raise _malformed(text, "only an output has `...`")
    return stated


def _dims(part: str, text: str) -> Dims:
    if not _TOKENS.fullmatch(part):
        raise _malformed(text, f"`{part.strip()}` is not a list of letters")
    dims = tuple(() if dim == ("1",) else dim for dim in letters(part))
    if dims.count(DOTS) > 1:
        raise _malformed(text, "`...` occurs twice in one operand")
    return dims


def _malformed(text: str, why: str) -> RuleError:
    return RuleError(f"{text!r} states no axes: {why}", hint='write it like "n i, o i + o -> n o"')


def _bind(stated: Letters, call: Call) -> Products:
    tensors = call.tensors
    if len(tensors) > len(stated.operands):
        raise RuleError(
            f"{str(stated)!r} has {len(stated.operands)} operands, the call {len(tensors)} tensors",
            where=str(call.node),
            hint="name the axes of every tensor; a scalar tensor has none: `n c, -> n c`",
        )
    if len(stated.outputs) != len(call.node.outputs):
        raise RuleError(
            f"{str(stated)!r} has {len(stated.outputs)} outputs, the call {len(call.node.outputs)}",
            where=str(call.node),
            hint="separate the letters of the outputs by commas",
        )
    # Optional tensors come last, and are absent together with their letters.
    remaining = list(reversed(tensors))
    terms = []
    stretched = 0
    for term in stated.terms:
        bound = []
        for dims in term[: len(remaining)]:
            value = remaining.pop()
            expanded = _expand(stated, dims, len(value.shape), call)
            stretched = max(stretched, len(expanded) - len(dims) + 1 if DOTS in dims else 0)
            bound.append((value, expanded))
        if bound:
            terms.append(tuple(bound))
    outputs = tuple(
        _expand(stated, dims, len(dims) - 1 + stretched if DOTS in dims else len(dims), call)
        for dims in stated.outputs
    )
    for value, dims in zip(call.node.outputs, outputs, strict=True):
        if len(value.shape) != len(dims):
            raise RuleError(
                f"{str(stated)!r} gives {value} {len(dims)} dimensions, traced were "
                f"{len(value.shape)}",
                where=str(call.node),
            )
    shapes = [(v.shape, dims) for term in terms for v, dims in term]
    shapes += [(v.shape, dims) for v, dims in zip(call.node.outputs, outputs, strict=True)]
    pinned = {a: f"the operator's rule pins `{a}`" for a in stated.pinned}
    return Products(tuple(terms), outputs, _sizes(stated, shapes, call), pinned)


def _expand(stated: Letters, dims: Dims, rank: int, call: Call) -> Dims:
    """Name the dimensions that `...` stands for, counted from the last so that they align."""
    expanded = spread(dims, rank, "...")
    if len(expanded) != rank:
        raise RuleError(
            f"`{_text(dims)}` in {str(stated)!r} does not fit a tensor of {rank} dimensions",
            where=str(call.node),
        )
    return expanded


def _sizes(
    stated: Letters, shapes: Sequence[tuple[tuple[int, ...], Dims]], call: Call
) -> dict[str, int]:
    """Sizes of letters; in a product one may be left for the others to tell."""
    sizes: dict[str, int] = {}
    dims = [(n, dim) for shape, found in shapes for n, dim in zip(shape, found, strict=True)]
    for n, dim in dims:
        if not dim and n != 1:
            raise RuleError(
                f"`1` in {str(stated)!r} meets an axis of size {n}", where=str(call.node)
            )
        if len(dim) == 1:
            sizes[dim[0]] = n if sizes.get(dim[0], 1) == 1 else sizes[dim[0]]
    products = [(n, dim) for n, dim in dims if len(dim) > 1]
    for n, dim in products * len(products):
        missing = [letter for letter in dim if letter not in sizes]
        if len(missing) == 1:
            sizes[missing[0]] = n // max(1, prod(sizes[a] for a in dim if a in sizes))
    for n, dim in products:
        if not all(a in sizes for a in dim) or prod(sizes[a] for a in dim) != n:
            raise RuleError(
                f"({' '.join(dim)}) in {str(stated)!r} cannot be told apart in an axis of size {n}",
                where=str(call.node),
                hint="all but one of its letters must occur alone somewhere",
            )
    return sizes


def lettered(stated: Letters, zero: State) -> Operator:
    """The operator that a statement describes.

    Args:
        stated: its axes.
        zero: what it makes of a position at which a factor of every term is zero. Summed over
            are the products of the operands, so a position that is zero in any of them
            contributes nothing; what becomes of a letter that a single operand has and the
            output lacks is known only where `zero` is `State.ZERO`.
    """

    def axes(call: Typing) -> list[Shape]:
        return solve(call, _bind(stated, call))

    def zeros(call: Zeroing) -> State:
        return state_of(call, _bind(stated, call), zero)

    def cost(call: Call) -> Cost:
        products = _bind(stated, call)
        return tuple(
            monomial
            for term in products.terms
            if any(not any(products.kept(letter)) for letter in _shared(term))
            for monomial in cost_of(call, term, products)
        )

    return Operator(axes=axes, zero=zeros, cost=cost)


def _shared(term: Factors) -> set[str]:
    """The letters that several operands of a product have."""
    found = Counter(letter for _, dims in term for letter in {a for dim in dims for a in dim})
    return {letter for letter, count in found.items() if count > 1}


def stated_terms(stated: Letters) -> Callable[[Call], Terms]:
    """What becomes of factors in the products that a statement describes."""

    def terms(call: Call) -> Terms:
        products = ([v for v, _ in term] for term in _bind(stated, call).terms)
        return [{v: float(values.count(v)) for v in values} for values in products]

    return terms
