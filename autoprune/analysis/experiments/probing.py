"""Find the rule of an operator that has none, by experiments on one of its calls.

Slices of each operand are changed, one position at a time. An axis along which just that position
of an output moves is the same axis as the output's. An axis all of whose positions move everything
may be summed over, alone or together with axes of other operands. That is a guess, which the
removal of positions has to confirm; an axis for which it does not is pinned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, count, islice, pairwise
from operator import itemgetter
from string import ascii_lowercase

import numpy as np

from autoprune.analysis.experiments.conformance import (
    SEEDS,
    Observation,
    Trial,
    examined,
    free_leaves,
    observations,
    places,
    refutation,
    removals,
    strength,
    together,
    trials,
)
from autoprune.analysis.experiments.experiment import (
    Array,
    Sample,
    equal,
    outputs_of,
    redraw,
    redrawn,
    same,
)
from autoprune.analysis.typing import TypedGraph
from autoprune.errors import RuleError
from autoprune.ir.axes import Leaf
from autoprune.ir.graph import Graph
from autoprune.ops.letters import Dims
from autoprune.ops.rule import Operator
from autoprune.ops.statement import Letters, lettered
from autoprune.ops.views import State

POSITIONS = 8
"""Positions of an axis that are changed one by one."""

LARGEST = 2**22
"""Elements of a call that is worth hundreds of experiments."""

COMBINATIONS = 64
"""Sets of axes that are tried as one that is summed over."""

Dimension = tuple[str, int]
"""A dimension of an operand (by value name) or of an output (by its position, as `"->0"`)."""

Moves = dict[Dimension, tuple[frozenset[int] | None, ...]]
"""Of each operand axis, per output, the output's axes that move at a changed position alone; None
where the output does not move at all."""


@dataclass(frozen=True)
class Probed:
    """The axes that were found, what the operator makes of zeros, and its name."""

    letters: Letters
    zero: State
    op: str

    @property
    def operator(self) -> Operator:
        """The rule."""
        return lettered(self.letters, self.zero)

    def __str__(self) -> str:
        """The statement that would give the operator this rule."""
        words = [f'"{self.op.removesuffix(".default")}"', f'"{self.letters}"']
        if self.zero is not State.ANY:
            words.append(f"zero=ap.State.{self.zero.name}")
        if self.letters.pinned:
            words.append(f'pin="{" ".join(sorted(self.letters.pinned))}"')
        return f"ap.rule({', '.join(words)})"


def probe(sample: Sample) -> Probed:
    """Infer the rule of a call; RuleError if none is found, or it does not lend itself to that."""
    _check_suitable(sample)
    moves = _moves(sample)
    classes = _kept_classes(moves)
    classes += _summed_classes(sample, moves, classes)
    guess = _letters(sample, classes)
    tried = trials(sample)
    while True:
        found, faulty = _confirmed(sample, guess, tried)
        if found is not None:
            break
        guess = replace(guess, pinned=guess.pinned | faulty)
    free = {a for dims in guess.operands for dim in dims for a in dim} - guess.pinned
    if not free:
        raise RuleError("no axis of it can be cut", where=str(sample.node))
    return found


def _check_suitable(sample: Sample) -> None:
    where = str(sample.node)
    values = (*dict.fromkeys(sample.node.inputs), *sample.node.outputs)
    if sum(int(np.prod(v.shape)) for v in values) > LARGEST:
        raise RuleError("it is too large to be probed", where=where)
    if sample.shares:
        raise RuleError("its outputs may share memory with its arguments", where=where)
    first, second = (outputs_of(sample, sample.operands) for _ in range(2))
    shapes = [v.shape for v in sample.node.outputs]
    if [v.shape for v in first] != shapes:
        raise RuleError("it does not give the traced shapes again", where=where)
    if not all(equal(a, b) for a, b in zip(first, second, strict=True)):
        raise RuleError("it does not compute the same twice", where=where)
    if not all(np.isfinite(v).all() for v in first if v.dtype.kind in "fc"):
        raise RuleError("its outputs are not finite", where=where)


def _moves(sample: Sample) -> Moves:
    found: Moves = {}
    bases = [sample.operands, redrawn(sample, sample.operands, np.random.default_rng(SEEDS[1]))]
    starts = [outputs_of(sample, base) for base in bases]
    rng = np.random.default_rng(0)
    for name, array in sample.operands.items():
        others = [redraw(base[name], rng) for base in bases]
        for dim, size in enumerate(array.shape):
            if size == 1:
                continue
            candidates = [{e for e, n in enumerate(v.shape) if n == size} for v in starts[0]]
            moved = [False for _ in candidates]
            for base, start, other in zip(bases, starts, others, strict=True):
                for position in _positions(size, rng):
                    changed = _changed(base[name], other, dim, position)
                    outputs = outputs_of(sample, {**base, name: changed})
                    for i, (before, after) in enumerate(zip(start, outputs, strict=True)):
                        mask = _differs(before, after, sample)
                        moved[i] |= bool(mask.any())
                        candidates[i] &= {e for e in candidates[i] if _only(mask, e, position)}
            found[name, dim] = tuple(
                frozenset(c) if m else None for c, m in zip(candidates, moved, strict=True)
            )
    return found


def _positions(size: int, rng: np.random.Generator) -> list[int]:
    if size <= POSITIONS:
        return list(range(size))
    between = rng.choice(np.arange(1, size - 1), POSITIONS - 2, replace=False)
    return [0, size - 1, *map(int, between)]


def _changed(array: Array, other: Array, dim: int, position: int) -> Array:
    """`array` with other values at one position."""
    changed = array.copy()
    where = (slice(None),) * dim + (position,)
    changed[where] = other[where]
    return changed


def _differs(a: Array, b: Array, sample: Sample) -> Array:
    if a.shape != b.shape:
        raise RuleError("the shapes of its outputs depend on data", where=str(sample.node))
    if a.dtype.kind not in "fc":
        return ~same(a, b)
    rtol = 1e-9 if a.dtype.itemsize >= 8 else 1e-4
    with np.errstate(all="ignore"):
        return ~np.isclose(a, b, rtol=rtol, atol=0, equal_nan=True)


def _only(mask: Array, dim: int, position: int) -> bool:
    """Whether nothing but one position of a dimension is set."""
    others = tuple(d for d in range(mask.ndim) if d != dim)
    along = np.asarray(mask.any(axis=others))
    along[position] = False
    return not along.any()


def _kept_classes(moves: Moves) -> list[set[Dimension]]:
    """Operand and output axes that are the same."""
    classes: list[set[Dimension]] = []
    for place, outputs in moves.items():
        same = {(f"->{i}", e) for i, dims in enumerate(outputs) for e in dims or ()}
        if same:
            touched = [c for c in classes if c & same]
            merged = {place, *same}.union(*touched)
            classes = [*(c for c in classes if c not in touched), merged]
    return classes


def _summed_classes(
    sample: Sample, moves: Moves, kept: Sequence[set[Dimension]]
) -> list[set[Dimension]]:
    """Sets of operand axes that outputs lack, and that can only be cut together."""
    taken = set[Dimension]().union(*kept)
    rest = [p for p, outputs in moves.items() if p not in taken and set(outputs) != {None}]
    found: list[set[Dimension]] = []
    while rest:
        first = rest.pop(0)
        size = sample.operands[first[0]].shape[first[1]]
        partners = [p for p in rest if sample.operands[p[0]].shape[p[1]] == size]
        sets = ({first, *more} for r in range(4) for more in combinations(partners, r))
        for candidate in islice(sets, COMBINATIONS):
            if _sums(sample, candidate, size):
                found.append(candidate)
                rest = [p for p in rest if p not in candidate]
                break
    return found


def _sums(sample: Sample, cut: set[Dimension], size: int) -> bool:
    """Whether positions that are removed from some axes together count as zeros."""
    for units in removals(size):
        zeroed, removed = dict(sample.operands), dict(sample.operands)
        for name, dim in cut:
            blank = zeroed[name].copy()
            np.moveaxis(blank, dim, 0)[units] = 0
            zeroed[name] = blank
            removed[name] = np.delete(removed[name], units, axis=dim)
        try:
            pairs = zip(outputs_of(sample, zeroed), outputs_of(sample, removed), strict=True)
        except RuleError:
            return False
        if not all(equal(a, b) for a, b in pairs):
            return False
    return True


def _letters(sample: Sample, classes: Sequence[set[Dimension]]) -> Letters:
    """The statement of the classes; axes in none are pinned."""
    names = (f"{c}{i or ''}" for i in count() for c in ascii_lowercase)
    letter_of: dict[Dimension, str] = {}
    pinned: set[str] = set()

    def dims(name: str, shape: tuple[int, ...]) -> Dims:
        return tuple(() if size == 1 else (letter((name, dim)),) for dim, size in enumerate(shape))

    def letter(place: Dimension) -> str:
        if place not in letter_of:
            found = next((c for c in classes if place in c), None)
            letter_of.update(dict.fromkeys(found or {place}, next(names)))
            if found is None and not place[0].startswith("->"):
                pinned.add(letter_of[place])
        return letter_of[place]

    operands = tuple(dims(v.name, v.shape) for v in sample.node.inputs)
    outputs = tuple(dims(f"->{i}", v.shape) for i, v in enumerate(sample.node.outputs))
    return Letters((operands,), outputs, frozenset(pinned))


def _confirmed(
    sample: Sample, guess: Letters, tried: Sequence[Trial]
) -> tuple[Probed | None, frozenset[str]]:
    """The reading of a guess that claims most of what the removal of positions does not refute.

    If there is none, the letters at fault.
    """
    call = examined(sample, lettered(guess, State.ANY))
    seen: dict[Leaf, list[Observation]] = {}
    failing: set[Leaf] = set()
    for leaf in free_leaves(call.typed):
        try:
            seen[leaf] = list(observations(call, leaf, tried))
        except RuleError:
            failing.add(leaf)
            continue
        if any(not o.equal for o in seen[leaf] if set(o.states.values()) == {State.ZERO}):
            failing.add(leaf)
    if failing:
        return None, _letters_of(sample, guess, call.typed, failing)
    fewest = set(seen)
    for zero in (s for s in State if s is not State.UNIFORM):
        right: list[tuple[int, Letters]] = []
        for letters in _readings(guess):
            read = replace(call, operator=lettered(letters, zero))
            refuted = {leaf for leaf in seen if any(refutation(read, leaf, o) for o in seen[leaf])}
            if not refuted and together(read, list(seen)) is None:
                claims = [strength(read, leaf, o) for leaf in seen for o in seen[leaf]]
                right.append((sum(claims), letters))
            fewest = min(fewest, refuted or set(seen), key=len)
        if right:
            return Probed(max(right, key=itemgetter(0))[1], zero, sample.node.op), frozenset()
    return None, _letters_of(sample, guess, call.typed, fewest)


def _letters_of(
    sample: Sample, guess: Letters, typed: TypedGraph, found: set[Leaf]
) -> frozenset[str]:
    at = {place for leaf in found for place in places(typed, leaf)}
    return frozenset(
        letter
        for value, dims in zip(sample.node.inputs, guess.operands, strict=True)
        for dim, letters in enumerate(dims)
        for letter in letters
        if (value.name, dim) in at
    )


def _readings(guess: Letters) -> Iterator[Letters]:
    """A product of all operands first, then sums of ever more terms, the first ones longest."""
    operands = guess.operands
    gaps = range(len(operands) - 1, 0, -1)
    for terms in range(len(operands)):
        for cuts in islice(combinations(gaps, terms), COMBINATIONS):
            edges = (0, *reversed(cuts), len(operands))
            split = tuple(operands[a:b] for a, b in pairwise(edges))
            yield replace(guess, terms=split)


@dataclass(frozen=True)
class Probing:
    """Rules that were found, by node name; and by operator, why a call of it has none."""

    found: Mapping[str, Probed] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def rules(self) -> dict[str, Operator]:
        """The rule of each call that has one."""
        return {name: probed.operator for name, probed in self.found.items()}

    def notes(self) -> list[str]:
        """What to tell the user: one line for each rule and for each operator without one."""
        counts = Counter((probed.op, str(probed)) for probed in self.found.values())
        lines = [
            f"{op} has no rule; probing found {statement}, which is used in {n} of its calls."
            for (op, statement), n in counts.items()
        ]
        lines += [
            f"{op} has no rule, and probing failed: {why}." for op, why in self.refused.items()
        ]
        return lines


NOT_PROBED = Probing()
"""Nothing was tried."""


def probe_calls(samples: Mapping[str, Sample | RuleError], graph: Graph) -> Probing:
    """Infer rules for calls, given by node name, or why they cannot be experimented on."""
    found: dict[str, Probed] = {}
    refused: dict[str, str] = {}
    for node in graph.nodes:
        sample = samples.get(node.name)
        if sample is None:
            continue
        try:
            if isinstance(sample, RuleError):
                raise sample
            found[node.name] = probe(sample)
        except RuleError as error:
            refused.setdefault(node.op, error.what)
    return Probing(found, refused)
