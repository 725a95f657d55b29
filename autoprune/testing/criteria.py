"""Prove or refute by numbers that a criterion scores units as it promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from autoprune.errors import AutopruneError
from autoprune.ir.axes import Axis, Leaf, concat, prod
from autoprune.ir.group import Group, Guarantee, Occurrence
from autoprune.ir.positions import Indices, unit_positions
from autoprune.passes.pruning.criteria import (
    NEEDS,
    Array,
    Criterion,
    Need,
    Score,
    Scores,
    Tensors,
    find_criterion,
    score_groups,
)

SAME = 1e-4
"""Scores that differ by less than this share of the largest count as the same."""

SCALES = (2.0**-20, 0.25, 4.0, 2.0**20)
"""Factors on all weights that are not to change which units matter more."""

UNIT, HEAD, IN, OUT, SAMPLES, PAIR = (Leaf(uid, n) for uid, n in enumerate((5, 2, 3, 4, 7, 2)))
FUSED = concat(prod(UNIT, IN), OUT, prod(PAIR, UNIT))

Types = Mapping[str, tuple[Axis, ...]]
Data = Mapping[Need, Tensors]

LAYOUTS: tuple[tuple[str, Types, Axis, Leaf | None], ...] = (
    (
        "units that are rows and columns",
        {"make.weight": (UNIT, IN), "make.bias": (UNIT,), "read.weight": (OUT, UNIT, PAIR)},
        prod(UNIT, PAIR),
        None,
    ),
    (
        "units at several positions of an axis",
        {"make.weight": (FUSED, IN), "make.bias": (FUSED,), "read.weight": (OUT, FUSED)},
        FUSED,
        None,
    ),
    (
        "units of every head",
        {"make.weight": (prod(HEAD, UNIT), IN), "read.weight": (HEAD, OUT, UNIT)},
        prod(HEAD, UNIT),
        HEAD,
    ),
)
"""What there is, the types of weights, that of the columns that `read` has, and the outer leaf."""


def check_criterion(criterion: str | Score, *, seed: int = 0) -> int:
    """Prove or refute that a criterion scores units, and nothing but them.

    Units that lie in several weights, at several positions of an axis, and under every unit of
    another axis are scored, given random numbers for what the criterion declares to need and
    nothing else. It has to give one finite number for each, also where weights are all zero; the
    same with the same seed and in another precision; in another order, unless it draws, where the
    units are in another order; and weights that are all larger by the same factor must not change
    which units matter more.

    Args:
        criterion: its name, the criterion, or a function from `UnitView` to scores.
        seed: of all that is random.

    Returns:
        The number of groups that were scored.

    Raises:
        AutopruneError: if something of that is not so; the message says what.
    """
    found = find_criterion(criterion, NEEDS)
    return sum(_check(found, *layout, seed) for layout in LAYOUTS)


def _check(
    criterion: Criterion, layout: str, types: Types, reads: Axis, outer: Leaf | None, seed: int
) -> int:
    places = [
        Occurrence(name, dim)
        for name, axes in types.items()
        for dim, axis in enumerate(axes)
        if UNIT.uid in axis.uids
    ]
    group = Group(layout, UNIT, tuple(places), Guarantee.ZERO_INVARIANT)
    outers = {} if outer is None else {UNIT.uid: outer}
    data = _random(types, reads, seed)
    states = []

    def scores(given: Data) -> Scores:
        rng = np.random.default_rng(seed)
        (found,) = score_groups(criterion, [group], given, rng, outers)
        states.append(rng.bit_generator.state)
        return found

    def refuted(what: str, hint: str | None = None) -> AutopruneError:
        return AutopruneError(f"the criterion is wrong: {what}", where=layout, hint=hint)

    first, order = scores(data), np.random.default_rng(seed).permutation(UNIT.size)
    if not np.array_equal(first, scores(data)):
        raise refuted("it scores differently the second time", "let it draw from `units.rng`")
    draws = states[0] != np.random.default_rng(seed).bit_generator.state
    if not draws and not _alike(first[..., order], scores(_permuted(data, order))):
        raise refuted("in another order of the units they have other scores")
    if not _alike(first, scores(_changed(data, lambda array: array.astype(np.float64)))):
        raise refuted("the same numbers in double precision have other scores")
    for factor in (0.0, *SCALES):
        scaled = scores({**data, **_scaled(data, factor)})
        if factor and not _ranked_alike(first, scaled):
            raise refuted(
                f"weights that are all {factor:g} times as large change which units matter more",
                "compare weights with each other, not with a number",
            )
    return len(states)


def _random(types: Types, reads: Axis, seed: int) -> Data:
    """Tensors of every kind; Gram matrices are those of the inputs."""
    rng = np.random.default_rng(seed)

    def normal(axes: tuple[Axis, ...]) -> Array:
        return rng.standard_normal([axis.size for axis in axes], dtype=np.float32)

    inputs = normal((SAMPLES, reads))

    def of_inputs(array: Array, *axes: Axis) -> Tensors:
        return Tensors({"read": array[None]}, {"read": (prod(), *axes)})

    moments = np.stack([inputs.mean(axis=0), inputs.var(axis=0)])
    return {
        "weights": Tensors({name: normal(axes) for name, axes in types.items()}, types),
        "gradients": Tensors({name: normal(axes) for name, axes in types.items()}, types),
        "inputs": of_inputs(inputs, SAMPLES, reads),
        "gram": of_inputs(inputs.T @ inputs, reads, reads),
        "statistics": of_inputs(moments, PAIR, reads),
    }


def _scaled(data: Data, factor: float) -> Data:
    weights: Data = {need: data[need] for need in data if need == "weights"}
    return _changed(weights, lambda array: array * np.float32(factor))


def _changed(data: Data, change: Callable[[Array], Array]) -> Data:
    return {
        need: Tensors({name: change(array) for name, array in tensors.items()}, tensors.types)
        for need, tensors in data.items()
    }


def _permuted(data: Data, order: Indices) -> Data:
    """Unit `i` is what unit `order[i]` was."""
    permuted: dict[Need, Tensors] = {}
    for need, tensors in data.items():
        arrays = dict(tensors)
        for name, array in arrays.items():
            for dim, axis in enumerate(tensors.types[name]):
                positions = unit_positions(axis, UNIT.uid)
                index = np.arange(axis.size)
                index[positions] = positions[order] if positions.size else positions
                array = array.take(index, dim)
            arrays[name] = array
        permuted[need] = Tensors(arrays, tensors.types)
    return permuted


def _alike(scores: Scores, others: Scores) -> bool:
    return np.allclose(scores, others, rtol=SAME, atol=SAME * float(np.abs(scores).max()))


def _ranked_alike(scores: Scores, others: Scores) -> bool:
    """Whether units that clearly matter more than others still do so."""
    a, b = scores.ravel(), others.ravel()
    more = a[:, None] > a + SAME * np.abs(a).max()
    return not (more & (b[:, None] <= b)).any()
