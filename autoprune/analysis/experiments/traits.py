"""Whether what a rule says of an operator besides its axes holds at one of its calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from autoprune.analysis.experiments.conformance import SEEDS, Examined, free_leaves
from autoprune.analysis.experiments.experiment import (
    ROUNDING,
    ROUNDING_OTHERWISE,
    Array,
    Operands,
    Sample,
    gap,
    mask_of,
    outputs_of,
    redraw,
    redrawn,
    same,
)
from autoprune.analysis.typing import TypedGraph
from autoprune.errors import RuleError
from autoprune.ir.axes import Leaf, uids_of
from autoprune.ir.contraction import Operand
from autoprune.ir.graph import Value
from autoprune.ops.rule import Operator, Terms, holds, is_number, no_cost
from autoprune.ops.views import Call, Resized

SCALE = 1.7
"""Operand on operands."""

TRIES = 20
"""Elements of integer operands that are changed one by one."""

FAR = 1e6
"""Operand on operands that saturates what saturates."""


def trait_faults(examined: Examined) -> list[str]:
    """What is wrong with the traits that a rule states, in words."""
    sample, operator, typed = examined.sample, examined.operator, examined.typed
    call = Call(sample.node, typed.types)
    found = [*_wrong_factors(sample, operator.terms(call)), *_wrong_norms(sample, operator, typed)]
    if operator.selects(call) and not _selects(sample, call):
        found.append("moves: it does not only move elements of its operands")
    if operator.reshapes and not _reshapes(sample):
        found.append("reshapes: elements do not stay in row-major order")
    if holds(operator.saturates, call) and not _hides(sample):
        found.append("saturates: its outputs show every change of its operands")
    return found


def _wrong_factors(sample: Sample, terms: Terms) -> Iterator[str]:
    """Scale operands and numbers in every way by which all terms are scaled alike."""
    factors = list(dict.fromkeys(factor for term in terms for factor in term))
    before = outputs_of(sample, sample.operands)
    for powers, power in _alike(terms, factors):
        scaled = {f: SCALE**p for f, p in zip(factors, powers, strict=True)}
        named = ", ".join(_named(sample, f, p) for f, p in zip(factors, powers, strict=True) if p)
        try:
            after = _scaled(sample, scaled)
        except RuleError as error:
            yield f"homogeneous: {named} cannot be scaled: {error.what}"
            continue
        wanted = [v * SCALE**power if v.dtype.kind in "fc" else v for v in before]
        if not all(_near(sample, a, b) for a, b in zip(wanted, after, strict=True)):
            yield f"homogeneous: a factor on {named} does not come out to the power of {power:.3g}"


def _near(sample: Sample, a: Array, b: Array) -> bool:
    """Whether rounding explains a difference, in the least precise numbers that come in or out."""
    dtypes = (str(v.dtype) for v in (*sample.operands.values(), a) if v.dtype.kind in "fc")
    return gap(a, b) <= max((ROUNDING.get(d, ROUNDING_OTHERWISE) for d in dtypes), default=0.0)


def _named(sample: Sample, factor: Operand, power: float) -> str:
    label = sample.labels[factor.name] if isinstance(factor, Value) else f"`{factor}`"
    return label if power == 1 else f"{label}^{power:.3g}"


def _alike(terms: Terms, factors: list[Operand]) -> Iterator[tuple[list[float], float]]:
    """A basis of the powers of factors that give all terms one power, and that power."""
    if not terms:
        return
    matrix = np.array([[term.get(f, 0.0) for f in factors] + [-1.0] for term in terms])
    _, sizes, basis = np.linalg.svd(matrix)
    for row in basis[int((sizes > 1e-9).sum()) :]:
        row = row / np.abs(row).max()
        yield [float(p) for p in row[:-1].round(12)], float(row[-1].round(12))


def _scaled(sample: Sample, by: Mapping[Operand, float]) -> list[Array]:
    operands = dict(sample.operands)
    numbers: dict[str, float] = {}
    for factor, times in by.items():
        if isinstance(factor, Value):
            array = operands[factor.name]
            operands[factor.name] = np.array(array * times, dtype=array.dtype)
        else:
            number = sample.node.arguments[factor]
            assert isinstance(number, int | float), factor
            numbers[factor] = number * times
    return outputs_of(sample, operands, Resized(numbers))


def _selects(sample: Sample, call: Call) -> bool:
    """A function of every single element may be applied before or after, whichever it is."""

    def bent(array: Array) -> Array:
        return np.where(array == 0, 0, np.sin(array * 3 + 1)).astype(array.dtype)

    moved = {v.name for v in call.tensors if is_number(v)}
    before = {n: bent(a) if n in moved else a for n, a in sample.operands.items()}
    after = [bent(v) if v.dtype.kind in "fc" else v for v in outputs_of(sample, sample.operands)]
    return all(_near(sample, a, b) for a, b in zip(outputs_of(sample, before), after, strict=True))


def _reshapes(sample: Sample) -> bool:
    first = sample.operands[sample.node.inputs[0].name]
    outputs = outputs_of(sample, sample.operands)
    return all(v.size != first.size or _near(sample, v.ravel(), first.ravel()) for v in outputs)


@np.errstate(over="ignore", invalid="ignore")  # infinities are operands, too
def _hides(sample: Sample) -> bool:
    """Whether some change of the operands hardly changes the outputs."""
    rng = np.random.default_rng(SEEDS[0])
    numbers = [n for n, a in sample.operands.items() if a.dtype.kind in "fiub" and a.size]
    for name in numbers:
        array = sample.operands[name]
        if array.dtype.kind != "f":
            others = [redraw(array, rng), *(_but_one(array, rng) for _ in range(TRIES))]
            if any(_same(sample, sample.operands, {**sample.operands, name: o}) for o in others):
                return True
            continue
        near = array * (1 + 8 * np.finfo(array.dtype).eps * rng.random(array.shape))
        least = np.where(array == array.min(), array - np.abs(array).max(), array)
        far, farther = array * FAR, array * FAR * 1.5
        most = np.where(array == array.max(), array + np.abs(array).max(), array)
        for a, b in (
            (array, near),
            (array, least),
            (array, most),
            (far, farther),
            (array, array + 1),
        ):
            changed = [{**sample.operands, name: v.astype(array.dtype)} for v in (a, b)]
            if _same(sample, *changed, exact=b is near):
                return True
    return not numbers


def _but_one(array: Array, rng: np.random.Generator) -> Array:
    """The array with one element exchanged for another one's."""
    changed = array.copy()
    changed.flat[rng.integers(array.size)] = array.flat[rng.integers(array.size)] ^ True
    return changed


def _same(sample: Sample, a: Operands, b: Operands, *, exact: bool = True) -> bool:
    try:
        pairs = list(zip(outputs_of(sample, a), outputs_of(sample, b), strict=True))
    except RuleError:
        return False
    if exact:
        return all(x.shape == y.shape and same(x, y).all() for x, y in pairs)
    return all(np.allclose(x, y, rtol=1e-3, atol=1e-3) for x, y in pairs)


def _wrong_norms(sample: Sample, operator: Operator, typed: TypedGraph) -> Iterator[str]:
    """Units of an axis that an output keeps must not mix, unless it is normalized over it.

    Products may sum over an axis that they also keep, where two of theirs are the same.
    """
    if operator.normalizes is None or operator.cost is not no_cost:
        return
    call = Call(sample.node, typed.types)
    over = uids_of(operator.normalizes(call))
    kept = frozenset[int]().union(*(typed.uids[v.name] for v in sample.node.outputs))
    for leaf in free_leaves(typed):
        if leaf.size > 1 and leaf.uid in kept - over and _mixes(sample, typed, leaf):
            yield f"normalizes: units of an axis of {leaf.size} are mixed, which it does not say"


def _mixes(sample: Sample, typed: TypedGraph, leaf: Leaf) -> bool:
    """Whether changing one unit of the operands changes others of the outputs."""
    rng = np.random.default_rng(SEEDS[1])
    unit = np.array([0])
    other = redrawn(sample, sample.operands, rng)
    changed = {
        name: np.where(mask_of(array.shape, typed.types[name], leaf.uid, unit), other[name], array)
        for name, array in sample.operands.items()
    }
    pairs = zip(
        sample.node.outputs,
        outputs_of(sample, sample.operands),
        outputs_of(sample, changed),
        strict=True,
    )
    for value, before, after in pairs:
        if leaf.uid in typed.uids[value.name]:
            rest = ~mask_of(value.shape, typed.types[value.name], leaf.uid, unit)
            if not _near(sample, before[rest], after[rest]):
                return True
    return False
