"""Prove or refute the rule of an operator by cutting the operands of one call.

For every axis that the rule leaves free, positions of the operands are removed and set to zero or
to anything else. What the rule claims must then be seen: the positions that stay are computed as
before, and what is removed is zero, constant or finite. Claims of this kind compose: if they hold
at each call of a graph, cutting equals zeroing for the whole of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from autoprune.analysis.experiments.experiment import (
    Array,
    Operands,
    Sample,
    equal,
    gap,
    mask_of,
    one_sided,
    outputs_of,
    redrawn,
    with_positions,
)
from autoprune.analysis.typing import TypedGraph, infer
from autoprune.errors import RuleError, first_line
from autoprune.ir.axes import Leaf, leaves
from autoprune.ir.graph import Graph, Parameter
from autoprune.ir.group import Guarantee
from autoprune.ir.positions import Indices, cut_array
from autoprune.ops.rule import Operator
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Zeroing

SEEDS = (0, 1)

States = Mapping[str, State]
"""What is put at the removed positions of each operand that has the axis."""


@dataclass(frozen=True)
class Fault:
    """A claim of a rule that does not hold, and what was seen instead.

    The axis in question runs through `places`, as `(operand, dimension)`.
    """

    places: tuple[tuple[str, int], ...]
    text: str


@dataclass(frozen=True)
class Observation:
    """What was seen when some units of an axis were removed.

    Attributes:
        states: what was put at their positions in the operands.
        units: the removed ones.
        gap: how far the positions that stay are from the cut call's, relative to the largest.
        equal: whether rounding explains that.
        removed: what their positions in each output are.
    """

    states: States
    units: Indices
    gap: float
    equal: bool
    removed: tuple[State, ...]


@dataclass(frozen=True)
class Examined:
    """A call, the rule that is examined on it, and its types when nothing around it pins any."""

    sample: Sample
    operator: Operator
    typed: TypedGraph


def examined(sample: Sample, operator: Operator) -> Examined:
    """A call to examine a rule on; AutopruneError if it raises one, or contradicts the trace."""
    values = dict.fromkeys(sample.node.inputs)
    owned = tuple(Parameter(value, (value.name,), "parameter") for value in values)
    graph = Graph((), owned, (sample.node,), ())
    return Examined(sample, operator, infer(graph, rules={sample.node.name: operator}))


def free_leaves(typed: TypedGraph) -> list[Leaf]:
    """The axes of the operands that the rule does not pin."""
    shapes = [typed.types[p.value.name] for p in typed.graph.parameters]
    found = dict.fromkeys(leaf for shape in shapes for axis in shape for leaf in leaves(axis))
    return [leaf for leaf in found if leaf.uid not in typed.pins]


def removals(units: int, seeds: Iterable[int] = SEEDS) -> list[Indices]:
    """Random halves, one unit, and all but one."""
    found = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(units)
        found.append(np.sort(order[: max(1, units // 2)]))
    return [*found, np.array([units // 2]), np.delete(np.arange(units), units // 3)]


def faults(call: Examined) -> list[Fault]:
    """The claims of a rule that do not hold for a call; none if the rule is right."""
    tried = trials(call.sample)
    found = list(product_faults(call))
    exact: list[Leaf] = []
    for leaf in free_leaves(call.typed):
        try:
            seen = list(observations(call, leaf, tried))
        except RuleError as error:
            found.append(Fault(places(call.typed, leaf), f"with positions removed, {error.what}"))
            continue
        wrong = [fault for o in seen if (fault := refutation(call, leaf, o)) is not None]
        found.extend(wrong[:1])
        if not wrong and _claim(call, leaf, seen[0].states)[1].exact:
            exact.append(leaf)
    if not found and len(exact) > 1:
        joint = together(call, exact)
        found.extend([] if joint is None else [joint])
    return found


def product_faults(call: Examined) -> Iterator[Fault]:
    """Whether the product that a rule states is what the call computes."""
    sample, typed, describe = call.sample, call.typed, call.operator.product
    stated = None if describe is None else describe(Call(sample.node, typed.types))
    if stated is None or stated.also:
        return
    (output, *_) = outputs_of(sample, sample.operands)
    try:
        found = stated.evaluate(sample.operands).astype(output.dtype)
    except (LookupError, ValueError) as error:
        yield Fault((), f"its product does not fit the operands: {first_line(error)}")
        return
    if not equal(output, found):
        how = "another shape" if output.shape != found.shape else f"off by {gap(output, found):.2g}"
        yield Fault((), f"its product is not what it computes: {how}")


def places(typed: TypedGraph, leaf: Leaf) -> tuple[tuple[str, int], ...]:
    """The dimensions of operands that a leaf runs through."""
    return tuple(
        (p.value.name, dim)
        for p in typed.graph.parameters
        for dim, axis in enumerate(typed.types[p.value.name])
        if leaf.uid in axis.uids
    )


@dataclass(frozen=True)
class Trial:
    """Operands to experiment on, and the values that are put at removed positions.

    The others are what these become when everything changes that can.
    """

    base: Operands
    values: Operands
    other_base: Operands
    other_values: Operands


def trials(sample: Sample) -> list[Trial]:
    """The sample's operands, others, and such of one sign.

    Among numbers of one sign, zeros stand out: they are the largest of negative ones.
    """
    rng = np.random.default_rng(SEEDS[1])
    drawn = redrawn(sample, sample.operands, rng)
    signed = [one_sided(drawn, sign) for sign in (1, -1)]
    bases = [sample.operands, *(base for base in (drawn, *signed) if _usable(sample, base))]
    found = []
    for base in bases:
        values = redrawn(sample, base, rng)
        other_base = {**redrawn(sample, base, rng), **{n: base[n] for n in sample.constants}}
        other_values = {**redrawn(sample, base, rng), **{n: values[n] for n in sample.constants}}
        found.append(Trial(base, values, other_base, other_values))
    return found


def observations(call: Examined, leaf: Leaf, tried: Sequence[Trial]) -> Iterator[Observation]:
    """Remove units in many ways, at first with zeros at all; RuleError if it does not run then."""
    carriers = tuple(dict.fromkeys(name for name, _ in places(call.typed, leaf)))
    for i, trial in enumerate(tried):
        for units in removals(leaf.size) if i < 2 else removals(leaf.size)[:1]:
            kept = {leaf.uid: np.setdiff1d(np.arange(leaf.size), units)}
            cut = _cut_outputs(call, trial.base, kept)
            for states in _assignments(carriers):
                yield _observe(call, leaf, trial, units, cut, states)


def _usable(sample: Sample, operands: Operands) -> bool:
    """Whether the operator takes such operands, and makes finite numbers of them."""
    try:
        outputs = outputs_of(sample, operands)
    except RuleError:
        return False
    return all(np.isfinite(v).all() for v in outputs if v.dtype.kind in "fc")


def _assignments(carriers: Sequence[str]) -> list[States]:
    """Zero or anything at the removed positions of each operand, all zero first."""
    choices = (State.ZERO, State.ANY)
    if len(carriers) <= 3:
        return [dict(zip(carriers, s, strict=True)) for s in product(choices, repeat=len(carriers))]
    alike = [dict.fromkeys(carriers, s) for s in choices]
    return [*alike, *({**a, name: s} for a in alike for name in carriers for s in choices)]


def _cut_outputs(call: Examined, operands: Operands, kept: Mapping[int, Indices]) -> list[Array]:
    """Outputs on cut operands, with the rule's arguments; RuleError if it does not run."""
    sizes, types = {uid: len(units) for uid, units in kept.items()}, call.typed.types
    resized: Resized = call.operator.resize(Sizing(call.sample.node, types, sizes))
    cut = {name: cut_array(array, types[name], kept) for name, array in operands.items()}
    return outputs_of(call.sample, cut, resized)


def _observe(
    call: Examined,
    leaf: Leaf,
    trial: Trial,
    units: Indices,
    cut: Sequence[Array],
    states: States,
) -> Observation:
    sample, types = call.sample, call.typed.types

    def filled(values: Operands, others: Operands) -> list[Array]:
        """Outputs with the removed positions from `values`, and all else from `others`."""
        operands = dict(others)
        for name, state in states.items():
            source = np.zeros_like(values[name]) if state is State.ZERO else values[name]
            operands[name] = with_positions(others[name], types[name], leaf.uid, units, source)
        return outputs_of(sample, operands)

    full = filled(trial.values, trial.base)
    other = filled(trial.other_values, trial.other_base)
    kept = {leaf.uid: np.setdiff1d(np.arange(leaf.size), units)}
    worst, same, removed = 0.0, True, []
    for value, whole, again, part in zip(sample.node.outputs, full, other, cut, strict=True):
        shape = types[value.name]
        expected = cut_array(whole, shape, kept)
        if part.shape != expected.shape:
            label = sample.labels[value.name]
            raise RuleError(f"{label} is {list(part.shape)}, not {list(expected.shape)} as stated")
        worst, same = max(worst, gap(expected, part)), same and equal(expected, part)
        removed.append(_state(whole, again, shape, leaf, units))
    return Observation(states, units, worst, same, tuple(removed))


def _state(output: Array, again: Array, shape: Shape, leaf: Leaf, units: Indices) -> State:
    """What an output holds at removed units, if it is `again` when everything else changes."""
    mask = mask_of(output.shape, shape, leaf.uid, units)
    values = output[mask]
    if values.dtype.kind in "fc" and not np.isfinite(values).all():
        return State.UNDEFINED
    if not values.any():
        return State.ZERO
    if output.shape != again.shape or not equal(values, again[mask]):
        return State.ANY
    each = (mask_of(output.shape, shape, leaf.uid, units[i : i + 1]) for i in range(len(units)))
    alike = all(equal(u, u[:1].repeat(u.size)) for u in (output[m] for m in each))
    return State.UNIFORM if alike else State.CONSTANT


def _claim(call: Examined, leaf: Leaf, states: States) -> tuple[State, Guarantee]:
    """What the rule says of the outputs, and the weakest guarantee it reports."""
    reported = [Guarantee.ZERO_INVARIANT]
    view = Zeroing(
        node=call.sample.node,
        types=call.typed.types,
        uid=leaf.uid,
        states=states,
        constants=call.sample.constants,
        report=lambda guarantee, reason: reported.append(guarantee),
    )
    state = call.operator.zero(view)
    if state is State.UNIFORM and not (call.operator.uniform or call.operator.aliases):
        state = State.CONSTANT
    return state, max(reported)


def refutation(call: Examined, leaf: Leaf, seen: Observation) -> Fault | None:
    """The claim that an observation refutes, if any."""
    sample, typed = call.sample, call.typed
    state, guarantee = _claim(call, leaf, seen.states)
    if not guarantee.exact:
        return None
    put = ", ".join(
        f"{sample.labels[name]} {'zero' if s is State.ZERO else 'anything'} there"
        for name, s in seen.states.items()
    )
    at = f"units {_listed(seen.units)} of {leaf.size} ({put})"
    if not seen.equal:
        how = f"by {seen.gap:.2g} of its magnitude" if np.isfinite(seen.gap) else "to not a number"
        return Fault(places(typed, leaf), f"cutting {at} changes what should stay, {how}")
    for value, found in zip(sample.node.outputs, seen.removed, strict=True):
        carried = any(leaf.uid in axis.uids for axis in typed.types[value.name])
        is_index = len(seen.removed) > 1 and value.dtype.startswith("int")
        if carried and not is_index and found > state:
            label = sample.labels[value.name]
            text = f"{label} is claimed to be {_NAMES[state]} at {at}, and is {_NAMES[found]}"
            return Fault(places(typed, leaf), text)
    return None


def strength(call: Examined, leaf: Leaf, seen: Observation) -> int:
    """How much a rule claims of an observation, on a scale for comparing rules."""
    state, guarantee = _claim(call, leaf, seen.states)
    return (2 * guarantee.exact) + (state is State.ZERO)


_NAMES = {
    State.ZERO: "zero",
    State.UNIFORM: "one number a unit",
    State.CONSTANT: "constant",
    State.ANY: "finite",
    State.UNDEFINED: "infinite or not a number",
}


def _listed(units: Indices) -> str:
    shown = ", ".join(map(str, units[:4]))
    return f"{shown}, ..." if len(units) > 4 else shown


def together(call: Examined, exact: Sequence[Leaf]) -> Fault | None:
    """Remove units of all axes at once."""
    sample, types = call.sample, call.typed.types
    for seed in SEEDS:
        kept, zeroed = {}, dict(sample.operands)
        for leaf in exact:
            units = removals(leaf.size)[seed]
            kept[leaf.uid] = np.setdiff1d(np.arange(leaf.size), units)
            for name in dict.fromkeys(name for name, _ in places(call.typed, leaf)):
                nothing = np.zeros_like(zeroed[name])
                zeroed[name] = with_positions(zeroed[name], types[name], leaf.uid, units, nothing)
        try:
            cut = _cut_outputs(call, sample.operands, kept)
        except RuleError as error:
            return Fault((), f"with several axes cut at once, {error.what}")
        whole = outputs_of(sample, zeroed)
        for value, a, b in zip(sample.node.outputs, whole, cut, strict=True):
            if not equal(cut_array(a, types[value.name], kept), b):
                label = sample.labels[value.name]
                return Fault((), f"cutting several axes at once changes {label}")
    return None
