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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from autoprune.errors import RuleError
from autoprune.ir import axes as ax
from autoprune.ir.axes import ONE, Axis
from autoprune.ir.contraction import Dim
from autoprune.ir.graph import Value
from autoprune.ir.group import Guarantee
from autoprune.ops.contraction import letters
from autoprune.ops.rule import Call, Cost, Operator, Shape, State, Terms, Typing, Zeroing, product

Dims = tuple[Dim, ...]

DOTS = ("...",)
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


@dataclass(frozen=True)
class _Bound:
    """A statement at one call: every dimension has its letters, every letter a size."""

    terms: tuple[tuple[tuple[Value, Dims], ...], ...]
    outputs: tuple[Dims, ...]
    sizes: Mapping[str, int]

    @property
    def operands(self) -> tuple[tuple[Value, Dims], ...]:
        return tuple(operand for term in self.terms for operand in term)

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


def _bind(stated: Letters, call: Call) -> _Bound:
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
    return _Bound(tuple(terms), outputs, _sizes(stated, shapes, call))


def _expand(stated: Letters, dims: Dims, rank: int, call: Call) -> Dims:
    """Name the dimensions that `...` stands for, counted from the last so that they align."""
    if DOTS not in dims:
        expanded = dims
    else:
        at = dims.index(DOTS)
        batch = tuple((f"...{i}",) for i in range(rank - len(dims) + 1, 0, -1))
        expanded = (*dims[:at], *batch, *dims[at + 1 :])
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
        bound = _bind(stated, call)
        known: dict[str, Axis] = {}
        for value, dims in bound.operands:
            for axis, dim in zip(call.axes_of(value), dims, strict=True):
                parts: tuple[Axis, ...] = (axis,)
                if len(dim) != 1:
                    parts = call.axes.factor(axis, [bound.sizes[a] for a in dim])
                for letter, part in zip(dim, parts, strict=True):
                    # An axis of size one is broadcast against the letter's other occurrences.
                    if known.get(letter, ONE).size == 1:
                        known[letter] = part
                    elif part.size != 1:
                        known[letter] = call.same(known[letter], part)
        for dims in bound.outputs:
            for letter in (a for dim in dims for a in dim if a not in known):
                known[letter] = call.fixed(bound.sizes[letter], "an axis the operator makes")
        for letter in stated.pinned & known.keys():
            call.pin(known[letter], f"the operator's rule pins `{letter}`")
        return [tuple(ax.prod(*(known[a] for a in dim)) for dim in dims) for dims in bound.outputs]

    def zeros(call: Zeroing) -> State:
        bound = _bind(stated, call)
        carriers: dict[str, list[Value]] = {}
        for value, dims in bound.operands:
            for axis, dim in zip(call.axes_of(value), dims, strict=True):
                if not call.within(axis):
                    continue
                try:
                    parts = bound.parts(axis, dim)
                except ValueError:  # a pinned mixture, in which this leaf is not prunable
                    return State.ANY
                for letter, part in parts:
                    if call.within(part) and value not in carriers.setdefault(letter, []):
                        carriers[letter].append(value)
        state = State.ZERO
        for letter, values in carriers.items():
            kept = [any(letter in dim for dim in dims) for dims in bound.outputs]
            if not all(kept):
                _summed(call, bound, values, zero)
            if any(kept):
                state = max(state, _kept(call, bound, values, zero))
        return state

    def cost(call: Call) -> Cost:
        bound = _bind(stated, call)
        made = {letter for dims in bound.outputs for dim in dims for letter in dim}
        axes: dict[str, list[Axis]] = {}
        for value, dims in bound.operands:
            for axis, dim in zip(call.axes_of(value), dims, strict=True):
                if len(dim) == 1 and dim[0] not in made:
                    axes.setdefault(dim[0], []).append(axis)
        contracted = [found[0] for found in axes.values() if len(found) > 1]
        return ((2, (*call.axes_of(call.output), *contracted)),) if contracted else ()

    return Operator(axes=axes, zero=zeros, cost=cost)


def stated_terms(stated: Letters) -> Callable[[Call], Terms]:
    """What becomes of factors in the products that a statement describes."""

    def terms(call: Call) -> Terms:
        products = ([v for v, _ in term] for term in _bind(stated, call).terms)
        return [{v: float(values.count(v)) for v in values} for values in products]

    return terms


def _kept(call: Zeroing, bound: _Bound, carriers: Sequence[Value], zero: State) -> State:
    """State of the outputs at a removed position of a letter that they have."""
    total = State.ZERO
    for term in bound.terms:
        everything = max(call.state(value) for value, _ in term)
        carried = [call.state(value) for value, _ in term if value in carriers]
        vanishes = bool(carried) and product(carried) is State.ZERO
        total = max(total, State.ZERO if vanishes else everything)
    return max(zero, total)


def _summed(call: Zeroing, bound: _Bound, carriers: Sequence[Value], zero: State) -> None:
    """Report what becomes of the removed positions of a letter that an output lacks."""
    for term in bound.terms:
        found = [value for value, _ in term if value in carriers]
        if len(found) > 1 or (found and zero is State.ZERO):
            call.summed(found)
        elif found:
            call.report(Guarantee.APPROXIMATE, "how it is reduced is not stated")
