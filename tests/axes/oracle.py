"""Random axis expressions, and what they mean according to numpy and union-find alone.

A recipe is an expression as its author wrote it, before any normal form: the name of a leaf, or
`Product` or `Concat` of recipes. `build` makes an `Axis` of it; `mask` evaluates it by brute force.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from autoprune.ir.axes import (
    Axes,
    Axis,
    Leaf,
    Prod,
    Sum,
    concat,
    leaves,
    prod,
)
from autoprune.ir.graph import Node
from autoprune.ir.positions import Indices, Kept, kept_index, unit_positions


@dataclass(frozen=True)
class Name:
    """A named leaf; equal names are the same leaf."""

    size: int
    which: int

    def __repr__(self) -> str:
        return f"{self.size}{'abcdefghij'[self.which]}"


@dataclass(frozen=True)
class Product:
    parts: tuple[Recipe, ...]

    def __repr__(self) -> str:
        return f"({' x '.join(map(repr, self.parts))})"


@dataclass(frozen=True)
class Concat:
    parts: tuple[Recipe, ...]

    def __repr__(self) -> str:
        return f"({' + '.join(map(repr, self.parts))})"


def kept_positions(axis: Axis, kept: Kept) -> Indices:
    return kept_index((axis,), kept)[0]


Recipe = Name | Product | Concat
Equation = tuple[Recipe, Recipe]


def names_in(recipe: Recipe) -> Iterator[Name]:
    if isinstance(recipe, Name):
        yield recipe
    else:
        for part in recipe.parts:
            yield from names_in(part)


def build(recipe: Recipe, leaf: Callable[[Name], Axis]) -> Axis:
    if isinstance(recipe, Name):
        return leaf(recipe)
    join = prod if isinstance(recipe, Product) else concat
    return join(*(build(part, leaf) for part in recipe.parts))


def mask(recipe: Recipe, masks: Mapping[Name, np.ndarray]) -> np.ndarray:
    """Which positions of `recipe` stay, given which units of its leaves stay."""
    if isinstance(recipe, Name):
        return masks[recipe]
    parts = [mask(part, masks) for part in recipe.parts]
    if isinstance(recipe, Concat):
        return np.concatenate([np.ones(0, dtype=bool), *parts])
    result = np.ones(1, dtype=bool)
    for part in parts:
        result = (result[:, None] & part[None, :]).reshape(-1)
    return result


# Strategies.


def divisors(n: int) -> list[int]:
    return [d for d in range(2, n) if n % d == 0]


@st.composite
def recipes(draw, size: int, depth: int = 3, kinds: str = "leaf product concat", names: int = 2):
    """Recipes of exactly `size` positions, over a pool of `names` leaves of every size."""
    possible = ["leaf"]
    if depth and "product" in kinds and divisors(size):
        possible.append("product")
    if depth and "concat" in kinds and size > 1:
        possible.append("concat")
    kind = draw(st.sampled_from(possible))
    if kind == "leaf":
        return Name(size, draw(st.integers(0, names - 1)))
    if kind == "product":
        outer = draw(st.sampled_from(divisors(size)))
        sizes, join = (outer, size // outer), Product
    else:
        at = draw(st.integers(1, size - 1))
        sizes, join = (at, size - at), Concat
    return join(tuple(draw(recipes(n, depth - 1, kinds, names)) for n in sizes))


@st.composite
def equations(draw, max_size: int = 60, **options) -> Equation:
    size = draw(st.integers(1, max_size))
    return draw(recipes(size, **options)), draw(recipes(size, **options))


@st.composite
def systems(draw, max_size: int = 60, *, misfits: bool = False, **options) -> list[Equation]:
    """Equations, mostly of one size so that they constrain the same leaves."""
    size = draw(st.integers(2, max_size))
    sizes = st.sampled_from([size, size, size, *divisors(size)])
    result = []
    for n in draw(st.lists(sizes, min_size=1, max_size=5)):
        other = draw(st.integers(0, max_size)) if misfits and draw(st.booleans()) else n
        result.append((draw(recipes(n, **options)), draw(recipes(other, **options))))
    return result


# Solving a system and describing the solution without names for leaves.


class Solution:
    """A system of equations solved in the given order."""

    def __init__(self, equations: Iterable[Equation], pins: Sequence[Name] = ()) -> None:
        self.axes = Axes()
        self.named: dict[Name, Axis] = {}
        self.equations = list(equations)
        for name in pins:
            self.axes.pin(self.leaf(name), f"pinned {name}")
        self.solved: list[bool] = []
        for i, (a, b) in enumerate(self.equations):
            self.axes.node = Node(f"equation {i}", "equation", {}, ())
            self.solved.append(self.axes.unify(self.build(a), self.build(b)))
        self.axes.node = None

    def leaf(self, name: Name) -> Axis:
        if name not in self.named:
            self.named[name] = self.axes.leaf(name.size)
        return self.named[name]

    def build(self, recipe: Recipe) -> Axis:
        return build(recipe, self.leaf)

    def resolve(self, recipe: Recipe) -> Axis:
        return self.axes.resolve(self.build(recipe))

    def free_leaves(self) -> list[Leaf]:
        """Every leaf that is left and may be pruned."""
        found = {leaf.uid: leaf for name in self.named for leaf in leaves(self.resolve(name))}
        return [leaf for leaf in found.values() if self.axes.pinned(leaf) is None]

    def units(self) -> set[frozenset[tuple[Name, int]]]:
        """For every unit of every unpinned leaf, the positions that go with it."""
        result = set()
        for leaf in self.free_leaves():
            rows: list[set[tuple[Name, int]]] = [set() for _ in range(leaf.size)]
            for name in self.named:
                for row, positions in zip(
                    rows, unit_positions(self.resolve(name), leaf.uid), strict=False
                ):
                    row.update((name, int(p)) for p in positions)
            result |= {frozenset(row) for row in rows}
        return result

    def masks(self, kept: Mapping[int, np.ndarray]) -> dict[Name, np.ndarray]:
        """Which positions of every named leaf stay when units `kept` of the solved ones do."""
        result = {}
        for name in self.named:
            result[name] = np.zeros(name.size, dtype=bool)
            result[name][kept_positions(self.resolve(name), kept)] = True
        return result


@st.composite
def kept_units(draw, free: Sequence[Leaf]) -> dict[int, np.ndarray]:
    """Random units to keep of each leaf, sometimes none of them."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    share = draw(st.sampled_from([0.0, 0.3, 0.7, 1.0]))
    return {leaf.uid: np.flatnonzero(rng.random(leaf.size) < share) for leaf in free}


# An exact oracle for systems of concatenations alone.


class Partition:
    """Union-find over hashable elements."""

    def __init__(self) -> None:
        self._parent: dict[object, object] = {}

    def find(self, x: object) -> object:
        while (parent := self._parent.setdefault(x, x)) != x:
            x = parent
        return x

    def join(self, x: object, y: object) -> None:
        self._parent[self.find(x)] = self.find(y)


Blocks = set[frozenset[tuple[Name, int, int]]]
"""Each solved leaf as all its places: (named leaf, first position, size)."""


def blocks_of_words(equations: Sequence[tuple[Sequence[Name], Sequence[Name]]]) -> Blocks:
    """The most general solution of equations between concatenations of named leaves.

    Positions opposite each other are the same; so are the gaps between neighbouring positions.
    A gap that meets a border between two leaves anywhere is a border everywhere.
    """
    border = "border"
    same, gaps = Partition(), Partition()
    for sides in equations:
        left, right = ([(name, i) for name in word for i in range(name.size)] for word in sides)
        starts = [set(np.cumsum([name.size for name in word])) for word in sides]
        for x, y in zip(left, right, strict=True):
            same.join(x, y)
        for i, (x, y) in enumerate(zip(left, right, strict=True)):
            if i:
                gaps.join(border if i in starts[0] else x, border if i in starts[1] else y)
    places: dict[object, set[tuple[Name, int, int]]] = defaultdict(set)
    for name in {name for sides in equations for word in sides for name in word}:
        cuts = [i for i in range(1, name.size) if gaps.find((name, i)) == gaps.find(border)]
        for start, stop in pairwise([0, *cuts, name.size]):
            places[same.find((name, start))].add((name, start, stop - start))
    return {frozenset(place) for place in places.values()}


# Printing.


def text(axes: Axes, *expressions: Axis) -> list[str]:
    """Expressions resolved and printed, their leaves lettered in order of appearance."""
    resolved = [axes.resolve(expression) for expression in expressions]
    order: dict[int, int] = {}
    for expression in resolved:
        for leaf in leaves(expression):
            order.setdefault(leaf.uid, len(order))

    def renamed(axis: Axis) -> Axis:
        if isinstance(axis, Leaf):
            return Leaf(order[axis.uid], axis.size)
        if isinstance(axis, Prod):
            return Prod(tuple(renamed(f) for f in axis.factors))
        return Sum(tuple(renamed(t) for t in axis.terms))

    return [str(renamed(expression)) for expression in resolved]
