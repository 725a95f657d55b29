"""Axis types: what an axis of a tensor is made of, and the unification that finds equal axes.

An axis is an expression over leaves. A leaf is an index set nobody has looked inside; a product
is a row-major reshape, a sum is a concatenation:

    Leaf(768)                            a plain axis
    Prod(Leaf(12), Leaf(64))             12x64: heads times head width
    Sum(Leaf(256), Leaf(512))            256+512: two concatenated feature maps

`Axes` solves equations between such expressions. Solving never guesses: the result is the most
general refinement under which both sides list the same indices in the same order, or, where that
refinement would fall apart into single positions, both sides are pinned with a reason.

Expressions are kept in a normal form in which a sum is only ever the last factor of a product:
`(a+b) x c` is stored as `a x c + b x c`, which lists the same positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import count, groupby
from math import gcd
from math import prod as product_of

from autoprune.ir.graph import Node
from autoprune.ir.reason import Reason

ENUMERATION_LIMIT = 4096
"""Largest axis whose rows are told apart one by one; larger ones are pinned instead."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """An index set of `size` units; `uid` tells it from other leaves."""

    uid: int
    size: int

    @property
    def uids(self) -> frozenset[int]:
        """The leaf itself, as `uids` of every axis names the leaves below it."""
        return frozenset((self.uid,))

    def __str__(self) -> str:
        return f"{self.size}{_letters(self.uid)}"


@dataclass(frozen=True, slots=True)
class Prod:
    """Row-major product of factors; without factors it is the axis of size one."""

    factors: tuple[Axis, ...]
    size: int = field(init=False, compare=False)
    uids: frozenset[int] = field(init=False, compare=False, repr=False)
    """The leaves below."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", product_of(f.size for f in self.factors))
        object.__setattr__(self, "uids", uids_of(self.factors))

    def __str__(self) -> str:
        if not self.factors:
            return "1"
        return "x".join(f"({f})" if isinstance(f, Sum) else str(f) for f in self.factors)


@dataclass(frozen=True, slots=True)
class Sum:
    """Concatenation of terms; without terms it is the empty axis."""

    terms: tuple[Axis, ...]
    size: int = field(init=False, compare=False)
    uids: frozenset[int] = field(init=False, compare=False, repr=False)
    """The leaves below."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", sum(t.size for t in self.terms))
        object.__setattr__(self, "uids", uids_of(self.terms))

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        runs = ((term, len(list(run))) for term, run in groupby(self.terms))
        # Positions that are told apart one by one may be thousands.
        return "+".join(f"{n}*1" if t == ONE and n > 1 else "+".join([str(t)] * n) for t, n in runs)


Axis = Leaf | Prod | Sum


def uids_of(axes: Iterable[Axis]) -> frozenset[int]:
    """The leaves below any of `axes`."""
    found: set[int] = set()
    for axis in axes:
        if isinstance(axis, Leaf):
            found.add(axis.uid)
        elif axis.uids:
            found |= axis.uids
    return frozenset(found)


ONE = Prod(())
"""The axis of size one: it holds no unit that could be removed."""


def _letters(uid: int) -> str:
    text = ""
    uid += 1
    while uid:
        uid, digit = divmod(uid - 1, 26)
        text = chr(ord("a") + digit) + text
    return text


def uid_of(letters: str) -> int:
    """The leaf that is printed with these letters."""
    uid = 0
    for letter in letters:
        uid = 26 * uid + ord(letter) - ord("a") + 1
    return uid - 1


def prod(*factors: Axis) -> Axis:
    """The normal form of the row-major product of `factors`.

    >>> str(prod(Leaf(0, 12), prod(ONE, Leaf(1, 64))))
    '12ax64b'
    """
    flat: list[Axis] = []
    for factor in factors:
        if factor.size == 0:
            return Sum(())
        if isinstance(factor, Prod):
            flat.extend(factor.factors)
        elif factor.size != 1:
            flat.append(factor)
    if not flat:
        return ONE
    for i, factor in enumerate(flat[:-1]):
        if isinstance(factor, Sum):
            tail = concat(*(prod(term, *flat[i + 1 :]) for term in factor.terms))
            return Prod((*flat[:i], tail)) if i else tail
    return flat[0] if len(flat) == 1 else Prod(tuple(flat))


def concat(*terms: Axis) -> Axis:
    """The normal form of the concatenation of `terms`.

    >>> str(concat(Leaf(0, 2), concat(Leaf(1, 3), Sum(()))))
    '2a+3b'
    """
    flat: list[Axis] = []
    for term in terms:
        if isinstance(term, Sum):
            flat.extend(term.terms)
        elif term.size != 0:
            flat.append(term)
    return flat[0] if len(flat) == 1 else Sum(tuple(flat))


@cache
def singles(size: int) -> Axis:
    """`size` positions each of which has a name of its own, so that none can be removed."""
    return concat(*(ONE for _ in range(size)))


def leaves(axis: Axis) -> Iterator[Leaf]:
    """The leaves of `axis` from left to right, repeated where they are repeated."""
    if isinstance(axis, Leaf):
        yield axis
    else:
        for part in axis.factors if isinstance(axis, Prod) else axis.terms:
            yield from leaves(part)


def size(axis: Axis, sizes: Mapping[int, int]) -> int:
    """Size of `axis` when leaf `uid` has `sizes[uid]` units (its own size if it is not listed)."""
    if isinstance(axis, Leaf):
        return sizes.get(axis.uid, axis.size)
    if isinstance(axis, Prod):
        return product_of(size(f, sizes) for f in axis.factors)
    return sum(size(t, sizes) for t in axis.terms)


def split_at(axis: Axis, at: int) -> tuple[Axis, Axis]:
    """`axis` before and from position `at`; ValueError if that falls inside a term."""
    terms = axis.terms if isinstance(axis, Sum) else (axis,)
    offset = 0
    for i, term in enumerate(terms):
        if offset == at:
            return concat(*terms[:i]), concat(*terms[i:])
        offset += term.size
    if offset != at:
        raise ValueError(f"position {at} is not a boundary of {axis}")
    return axis, concat()


def outer_and_inner(axis: Axis, inner_size: int) -> tuple[Axis, Axis]:
    """`axis` as an outer axis times an inner one of `inner_size`; ValueError if it is no such."""
    if inner_size == 1:
        return axis, ONE
    if inner_size == axis.size:
        return ONE, axis
    rows = _rows(axis.terms, inner_size) if isinstance(axis, Sum) else []
    if len(rows) > 1:
        parts = [outer_and_inner(row, inner_size) for row in rows]
        if all(inner == parts[0][1] for _, inner in parts):
            return concat(*(outer for outer, _ in parts)), parts[0][1]
    elif isinstance(axis, Prod):
        for i in range(len(axis.factors) - 1, 0, -1):
            if product_of(f.size for f in axis.factors[i:]) == inner_size:
                return prod(*axis.factors[:i]), prod(*axis.factors[i:])
        if axis.factors and isinstance(axis.factors[-1], Sum):
            outer, inner = outer_and_inner(axis.factors[-1], inner_size)
            return prod(*axis.factors[:-1], outer), inner
    raise ValueError(f"{axis} is not a product with an inner axis of size {inner_size}")


def _rows(terms: tuple[Axis, ...], size: int) -> list[Axis]:
    """`terms` joined up so that each holds whole rows of the given size, as far as they do."""
    rows: list[Axis] = []
    row: list[Axis] = []
    for term in terms:
        row.append(term)
        if sum(t.size for t in row) % size == 0:
            rows.append(concat(*row))
            row = []
    return [*rows, concat(*row)] if row else rows


class AxisConflict(Exception):
    """Two expressions have no common refinement worth keeping."""


class Axes:
    """The solver: leaves, what they turned out to be, and which of them are pinned.

    >>> axes = Axes()
    >>> hidden, heads, width = axes.leaf(768), axes.leaf(12), axes.leaf(64)
    >>> axes.unify(hidden, prod(heads, width))
    True
    >>> str(axes.resolve(hidden))
    '12bx64c'

    Attributes:
        node: the call that states what is stated now; reasons name it.
        unions: leaves, what each turned out to be, and the call because of which.
    """

    def __init__(self) -> None:
        self._uids = count()
        self._clock = count()
        self._bound: dict[int, Axis] = {}
        self.node: Node | None = None
        self.unions: list[tuple[Leaf, Axis, Node | None]] = []
        self._pinned: dict[int, tuple[int, str, Node | None]] = {}
        """By leaf, when it was pinned and why; of merged leaves the earlier reason stays."""

    def leaf(self, size: int) -> Axis:
        """A fresh index set of `size` units (`ONE` and the empty axis have no units to name)."""
        if size == 1:
            return ONE
        return Leaf(next(self._uids), size) if size else Sum(())

    def pinned_leaf(self, size: int, reason: str) -> Axis:
        """A fresh index set whose units can never be removed."""
        axis = self.leaf(size)
        if isinstance(axis, Leaf):
            self._pinned[axis.uid] = (next(self._clock), reason, self.node)
        return axis

    def resolve(self, axis: Axis) -> Axis:
        """`axis` with every solved leaf replaced by what it was found to be, in normal form."""
        bound = self._bound
        if isinstance(axis, Leaf):
            known = bound.get(axis.uid)
            if known is None:
                return axis
            if isinstance(known, Leaf) and known.uid not in bound:
                return known
        elif not axis.uids:
            return axis
        stack = [uid for uid in axis.uids if uid in bound]
        if not stack:
            return axis
        # Innermost first and without recursion: chains of solved leaves grow as long as the graph.
        while stack:
            known = bound[stack[-1]]
            unsettled = [
                uid
                for uid in known.uids
                if uid in bound and not bound.keys().isdisjoint(bound[uid].uids)
            ]
            if unsettled:
                stack.extend(unsettled)
            else:
                bound[stack.pop()] = self._substitute(known)
        return self._substitute(axis)

    def resolve_all(self, shape: tuple[Axis, ...]) -> tuple[Axis, ...]:
        """`shape` with every axis resolved: itself, where there was nothing to solve."""
        bound = self._bound
        for axis in shape:
            if (
                axis.uid in bound
                if isinstance(axis, Leaf)
                else axis.uids and not bound.keys().isdisjoint(axis.uids)
            ):
                return tuple([self.resolve(axis) for axis in shape])
        return shape

    def _substitute(self, axis: Axis) -> Axis:
        """`axis` with each leaf replaced by its binding, once."""
        if isinstance(axis, Leaf):
            return self._bound.get(axis.uid, axis)
        if self._bound.keys().isdisjoint(axis.uids):
            return axis
        if isinstance(axis, Prod):
            return prod(*(self._substitute(part) for part in axis.factors))
        return concat(*(self._substitute(part) for part in axis.terms))

    def pin(self, axis: Axis, reason: str) -> None:
        """Forbid removing any position of `axis`; the first reason given is the one kept."""
        pin = (next(self._clock), reason, self.node)
        for uid in self.resolve(axis).uids:
            self._pinned.setdefault(uid, pin)

    def pins(self) -> dict[int, Reason]:
        """By unsolved leaf, why its units cannot be removed."""
        reasons = {time: Reason(text, node) for time, text, node in self._pinned.values()}
        return {uid: reasons[time] for uid, (time, _, _) in self._pinned.items()}

    def is_pinned(self, axis: Axis) -> bool:
        """Whether nothing of `axis` could be removed."""
        return self._pinned.keys() >= self.resolve(axis).uids

    def pinned(self, leaf: Leaf) -> Reason | None:
        """Why units of this (resolved) leaf cannot be removed, or None if they can."""
        pin = self._pinned.get(leaf.uid)
        return None if pin is None else Reason(*pin[1:])

    def unify(self, a: Axis, b: Axis) -> bool:
        """Make `a` and `b` the same axis, by refining both as little as possible.

        Returns False where they cannot be the same; both are then pinned whole.
        """
        try:
            self._unify(a, b)
        except AxisConflict as conflict:
            self.pin(a, str(conflict))
            self.pin(b, str(conflict))
            return False
        return True

    def factor(self, axis: Axis, sizes: Iterable[int]) -> tuple[Axis, ...]:
        """Look inside `axis` as a row-major product of axes of the given sizes."""
        sizes, known = tuple(sizes), self.resolve(axis)
        factors = known.factors if isinstance(known, Prod) else (known,)
        if tuple([f.size for f in factors]) == sizes:
            return factors
        parts = tuple(self.leaf(n) for n in sizes)
        return self._inside(axis, prod(*parts), parts)

    def pieces(self, axis: Axis, sizes: Iterable[int]) -> tuple[Axis, ...]:
        """Look inside `axis` as a concatenation of axes of the given sizes."""
        sizes, known = tuple(sizes), self.resolve(axis)
        terms = known.terms if isinstance(known, Sum) else (known,)
        if tuple([t.size for t in terms]) == sizes:
            return terms
        parts = tuple(self.leaf(n) for n in sizes)
        return self._inside(axis, concat(*parts), parts)

    def _inside(self, axis: Axis, whole: Axis, parts: tuple[Axis, ...]) -> tuple[Axis, ...]:
        if not self.unify(axis, whole):
            for part in parts:
                self.pin(part, f"not a part of an axis of size {axis.size}")
        return tuple(self.resolve(part) for part in parts)

    def _bind(self, leaf: Leaf, axis: Axis) -> None:
        self._bound[leaf.uid] = axis
        self.unions.append((leaf, axis, self.node))
        pin = self._pinned.pop(leaf.uid, None)
        if pin is not None:
            for uid in self.resolve(axis).uids:
                self._pinned[uid] = min(pin, self._pinned.get(uid, pin))

    def _unify(self, a: Axis, b: Axis) -> None:
        a, b = self.resolve(a), self.resolve(b)
        if a is b or a == b:
            return
        if a.size != b.size:
            raise AxisConflict(f"sizes {a.size} and {b.size} differ")
        if not a.uids or not b.uids:
            for leaf in leaves(a if a.uids else b):
                if leaf.uid not in self._bound:
                    self._bind(leaf, singles(leaf.size))
            return
        if isinstance(a, Leaf) and isinstance(b, Leaf):
            self._bind(*((b, a) if a.uid < b.uid else (a, b)))
        elif isinstance(a, Leaf):
            self._bind(a, b)
        elif isinstance(b, Leaf):
            self._bind(b, a)
        elif isinstance(a, Prod) and isinstance(b, Prod):
            self._unify_products(a, b)
        else:
            self._unify_sums([a], [b])

    def _unify_products(self, a: Prod, b: Prod) -> None:
        left, right = list(reversed(a.factors)), list(reversed(b.factors))
        while left and right:
            f, g = self.resolve(left.pop()), self.resolve(right.pop())
            if f.size == g.size:
                self._unify(f, g)
                continue
            common = gcd(f.size, g.size)
            if common == 1:
                self._enumerate(f, g, a.size)
                self._unify_sums([prod(f, *reversed(left))], [prod(g, *reversed(right))])
                return
            left.extend(self._outer_and_inner(f, common))
            right.extend(self._outer_and_inner(g, common))

    def _outer_and_inner(self, factor: Axis, outer_size: int) -> list[Axis]:
        """`factor` as a product with an outer factor of `outer_size`, as a stack."""
        if factor.size == outer_size:
            return [factor]
        outer, inner = self.leaf(outer_size), self.leaf(factor.size // outer_size)
        self._unify(factor, prod(outer, inner))
        return [inner, outer]

    def _enumerate(self, f: Axis, g: Axis, positions: int) -> None:
        """Tell the rows of two products apart, where rows of one straddle rows of the other.

        No product describes both then, but as sums of rows they can still be compared.
        """
        if positions > ENUMERATION_LIMIT:
            raise AxisConflict(f"a reshape mixes {f.size} with {g.size}")
        for axis in (f, g):
            self._unify(axis, singles(axis.size))

    def _unify_sums(self, left: list[Axis], right: list[Axis]) -> None:
        """Unify two concatenations given as stacks of terms (the next term is on top)."""
        while left and right:
            x, y = self._next_term(left), self._next_term(right)
            if x.size < y.size:
                left, right, x, y = right, left, y, x
            if x.size > y.size:
                x, rest = self._split(x, y.size)
                left.append(rest)
            self._unify(x, y)

    def _next_term(self, stack: list[Axis]) -> Axis:
        term = self.resolve(stack.pop())
        if isinstance(term, Sum):
            stack.extend(reversed(term.terms))
            term = stack.pop()
        return term

    def _split(self, axis: Axis, at: int) -> tuple[Axis, Axis]:
        """Cut `axis` in two at position `at`, where 0 < at < size."""
        axis = self.resolve(axis)
        if isinstance(axis, Leaf):
            first, second = self.leaf(at), self.leaf(axis.size - at)
            self._bind(axis, concat(first, second))
            return first, second
        if isinstance(axis, Sum):
            done: list[Axis] = []
            todo = list(reversed(axis.terms))
            while todo and todo[-1].size <= at:
                done.append(todo.pop())
                at -= done[-1].size
            if at:
                first, second = self._split(todo.pop(), at)
                done.append(first)
                todo.append(second)
            return concat(*done), concat(*reversed(todo))
        head, rest = axis.factors[0], axis.factors[1:]
        row, within = divmod(at, axis.size // head.size)
        if not within:
            first, second = self._split(head, row)
            return prod(first, *rest), prod(second, *rest)
        self._unify(head, concat(self.leaf(row), ONE, self.leaf(head.size - row - 1)))
        # The head is now a sum in which row `row` stands alone, so the cut falls inside `rest`.
        resolved = self.resolve(axis)
        if not isinstance(resolved, Sum):
            raise AssertionError("a product whose first factor was split is a sum")
        return self._split(resolved, at)
