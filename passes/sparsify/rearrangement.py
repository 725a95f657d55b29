"""Reorder channels so that important weights share blocks, after SparseByteNN (Xu et al., 2023).

An order of a hidden axis is free: whatever makes the channels and whatever reads them is reordered
alike, and the network computes the same. So a block pattern may choose its neighbours. What is
searched for is an order of every axis under which the formats of all matrices around it keep the
highest summed scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from autoprune.errors import FormatError
from autoprune.passes.sparsify.layout import Array, Format, Scores
from autoprune.passes.sparsify.masks import check_scores, kept_levels

Order = npt.NDArray[np.intp]
"""For each new place, the old one of what comes there."""


@dataclass(frozen=True)
class Place:
    """Where the units of an axis lie along a dimension of a matrix.

    Attributes:
        axis: name of the axis.
        positions: shape [units, positions of a unit], as `autoprune.ir.positions.unit_positions`
            gives them.
    """

    axis: str
    positions: Order


def whole(axis: str, size: int) -> tuple[Place, ...]:
    """The places of a dimension that is just that axis."""
    return (Place(axis, np.arange(size)[:, None]),)


@dataclass(frozen=True)
class Matrix:
    """A weight matrix whose format depends on the order of axes.

    Attributes:
        scores: importance of each weight, 0 or more; shape [outputs, inputs]. Those of several
            matrices are added up, and so should be of one scale.
        format: its format.
        sparsity: as for `find_mask`.
        rows: axes that the outputs consist of; those that may not be reordered are left out.
        cols: the same for the inputs.
    """

    scores: Scores
    format: Format
    sparsity: float | None = None
    rows: tuple[Place, ...] = ()
    cols: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Rearrangement:
    """New orders of axes.

    Attributes:
        orders: by axis, for each new place the unit that comes there.
        before: summed scores that the formats keep in the old order.
        after: the same in the new order; never less.
    """

    orders: Mapping[str, Order]
    before: float
    after: float


def reordered(
    matrix: Array, rows: Sequence[Place], cols: Sequence[Place], orders: Mapping[str, Order]
) -> Array:
    """A matrix (the first two dimensions of an array) with its axes in new orders."""
    for dim, places in enumerate((rows, cols)):
        indices = np.arange(matrix.shape[dim])
        for place in places:
            indices[place.positions] = place.positions[orders[place.axis]]
        matrix = matrix.take(indices, axis=dim)
    return matrix


def rearrange(
    matrices: Sequence[Matrix], *, rounds: int = 2, tries: int = 20, seed: int = 0
) -> Rearrangement:
    """Find orders of all axes that let formats keep higher scores.

    Axes take turns. For each, some good orders are tried (units by falling importance, dealt out
    evenly, and clustered by which weights of theirs are large), then exchanges of random pairs.

    Args:
        matrices: all that are affected. An axis on which no format depends keeps its order.
        rounds: how often each axis has its turn.
        tries: exchanges tried in a turn, for each unit of the axis.
        seed: of the pairs.

    Raises:
        FormatError: if scores are not numbers from 0, an axis has two sizes, or lies where a
            matrix ends.
        BudgetError: as for `find_mask`.
    """
    units = _sizes(matrices)
    keeps = [_keep(matrix) for matrix in matrices]
    orders = {axis: np.arange(size) for axis, size in units.items()}
    before = _total(matrices, keeps)
    rng = np.random.default_rng(seed)
    current = list(matrices)
    for _ in range(rounds):
        for axis, size in units.items():
            uses = [
                use
                for matrix, keep in zip(current, keeps, strict=True)
                for use in [_Use(matrix, keep, *_positions(matrix, axis, size))]
                if use.tied
            ]
            if not uses:
                continue
            start = max(_starts(uses, size), key=lambda order: _retained(uses, order))
            refined = _exchanged(uses, start, tries * size, rng)
            turn = max((start, refined), key=lambda order: _retained(uses, order))
            orders[axis] = orders[axis][turn]
            stay = {other: np.arange(units[other]) for other in units}
            current = [_reorder(matrix, {**stay, axis: turn}) for matrix in current]
    return Rearrangement(orders, before, _total(current, keeps))


@dataclass(frozen=True)
class _Use:
    """An axis in a matrix.

    Attributes:
        matrix: in the order reached so far.
        keep: levels that stay.
        rows: outputs of each unit of the axis; shape [units, any number, also none].
        cols: inputs of each unit.
    """

    matrix: Matrix
    keep: int | None
    rows: Order
    cols: Order

    @property
    def tied(self) -> bool:
        """Whether the format depends on the order of the axis."""
        outputs, inputs = self.matrix.format.tile
        return bool(self.rows.size and outputs > 1) or bool(self.cols.size and inputs > 1)

    @property
    def group(self) -> int:
        """Units of a tile, where one unit does not fill it."""
        sides = zip(self.matrix.format.tile, (self.rows, self.cols), strict=True)
        return max(1, *(tile // int(units.shape[1]) for tile, units in sides if units.size))

    def indices(self, order: Order) -> tuple[Order, Order]:
        """Outputs and inputs in the order that one of the axis means."""
        row, col = (np.arange(size) for size in self.matrix.scores.shape)
        row[self.rows] = self.rows[order]
        col[self.cols] = self.cols[order]
        return row, col

    def scores(self, order: Order) -> Scores:
        """Scores after reordering the axis."""
        return self.matrix.scores[np.ix_(*self.indices(order))]

    def features(self) -> Scores:
        """What the importance of each unit consists of; shape [units, features]."""
        outputs, inputs = self.matrix.format.tile
        scores = self.matrix.scores / max(float(self.matrix.scores.mean()), 1e-30)
        parts = []
        if outputs > 1:
            parts.append(scores[self.rows].reshape(len(self.rows), -1))
        if inputs > 1:
            parts.append(scores.T[self.cols].reshape(len(self.cols), -1))
        return np.concatenate(parts, axis=1)


def _sizes(matrices: Sequence[Matrix]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for matrix in matrices:
        for dim, places in enumerate((matrix.rows, matrix.cols)):
            for place in places:
                units = len(place.positions)
                if sizes.setdefault(place.axis, units) != units:
                    raise FormatError(
                        f"axis {place.axis} has {sizes[place.axis]} units in one place and {units} "
                        "in another"
                    )
                if place.positions.size and place.positions.max() >= matrix.scores.shape[dim]:
                    raise FormatError(
                        f"axis {place.axis} lies beyond the end of scores "
                        f"{list(matrix.scores.shape)}"
                    )
    return sizes


def _keep(matrix: Matrix) -> int | None:
    check_scores(matrix.scores)
    outputs, inputs = matrix.scores.shape
    return kept_levels(matrix.format, (outputs, inputs), matrix.sparsity)


def _total(matrices: Sequence[Matrix], keeps: Sequence[int | None]) -> float:
    pairs = zip(matrices, keeps, strict=True)
    return sum(float(matrix.format.gains(matrix.scores)[:keep].sum()) for matrix, keep in pairs)


def _retained(uses: Sequence[_Use], order: Order) -> float:
    """Summed scores that the formats keep after reordering the axis."""
    reordered_ones = [replace(use.matrix, scores=use.scores(order)) for use in uses]
    return _total(reordered_ones, [use.keep for use in uses])


def _reorder(matrix: Matrix, orders: Mapping[str, Order]) -> Matrix:
    scores = reordered(matrix.scores, matrix.rows, matrix.cols, orders)
    return replace(matrix, scores=scores)


def _positions(matrix: Matrix, axis: str, units: int) -> tuple[Order, Order]:
    """All positions of the units of an axis, along the outputs and along the inputs."""
    none = np.zeros((units, 0), dtype=np.intp)
    row, col = (
        np.concatenate([none, *(p.positions for p in places if p.axis == axis)], axis=1)
        for places in (matrix.rows, matrix.cols)
    )
    return row, col


def _starts(uses: Sequence[_Use], units: int) -> list[Order]:
    """Orders worth trying: as it is, by importance, dealt out, and clustered."""
    group = max(use.group for use in uses)
    features = np.concatenate([use.features() for use in uses], axis=1)
    falling = np.argsort(-features.sum(axis=1), kind="stable")
    tiles = -(-units // group)
    dealt = np.concatenate([falling[first::tiles] for first in range(tiles)])
    return [np.arange(units), falling, dealt, _clustered(features, falling, group)]


def _clustered(features: Scores, falling: Order, group: int) -> Order:
    """Around the most important unit left, those that are most like the group so far."""
    unit_vectors = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-30)
    rank = np.empty_like(falling)
    rank[falling] = np.arange(len(falling))
    left = np.ones(len(falling), dtype=np.bool_)
    order: list[int] = []
    for i in range(len(falling)):
        candidates = np.flatnonzero(left)
        if i % group == 0:
            chosen = candidates[np.argmin(rank[candidates])]
            profile = unit_vectors[chosen].copy()
        else:
            chosen = candidates[np.argmax(unit_vectors[candidates] @ profile)]
            profile += unit_vectors[chosen]
        order.append(int(chosen))
        left[chosen] = False
    return np.array(order, dtype=np.intp)


def _exchanged(uses: Sequence[_Use], order: Order, tries: int, rng: np.random.Generator) -> Order:
    """Exchange random pairs of units wherever that is a gain.

    With a price for each level, that of the last one kept, tiles are worth what their levels bring
    above it, independently of each other; so only tiles that change need to be looked at.
    """
    order = order.copy()
    views = [_View(use, use.scores(order)) for use in uses]
    negligible = 1e-12 * sum(float(view.scores.sum()) for view in views)
    for a, b in rng.integers(len(order), size=(tries, 2)).tolist():
        if a != b and sum(view.gain(a, b) for view in views) > negligible:
            order[[a, b]] = order[[b, a]]
            for view in views:
                view.exchange(a, b)
    return order


class _View:
    """The scores of a matrix while the units of one of its axes change places."""

    def __init__(self, use: _Use, scores: Scores) -> None:
        self.use = use
        self.scores = scores
        gains = use.matrix.format.gains(scores)
        self.price = 0.0 if use.keep is None else float(gains[max(use.keep, 1) - 1])

    def gain(self, a: int, b: int) -> float:
        """What exchanging two units would add to the worth of the tiles concerned."""
        outputs, inputs = self.use.matrix.format.tile
        rows, cols = self.use.rows[[a, b]], self.use.cols[[a, b]]
        row, col = (np.arange(size) for size in self.scores.shape)
        # The order within an untied dimension changes nothing, and need not follow.
        if inputs == 1 or not cols.size:
            row, cols = _touched(rows, outputs, len(row)), cols[:, :0]
        elif outputs == 1 or not rows.size:
            col, rows = _touched(cols, inputs, len(col)), rows[:, :0]
        touched = self.scores[np.ix_(row, col)]
        exchanged = touched[_with_exchanged(row, rows)][:, _with_exchanged(col, cols)]
        return self._worth(exchanged) - self._worth(touched)

    def exchange(self, a: int, b: int) -> None:
        """Let two units change places."""
        for scores, positions in ((self.scores, self.use.rows), (self.scores.T, self.use.cols)):
            both = positions[[a, b]]
            scores[both] = scores[both[::-1]]

    def _worth(self, scores: Scores) -> float:
        gains = self.use.matrix.format.gains(scores)
        return float(np.maximum(gains - self.price, 0).sum())


def _touched(positions: Order, tile: int, size: int) -> Order:
    """All positions of the tiles in which some positions lie, rising."""
    first = np.unique(positions // tile) * tile
    found = (first[:, None] + np.arange(tile)).ravel()
    return found[found < size]


def _with_exchanged(positions: Order, both: Order) -> Order:
    """Places in `positions`, rising numbers, after the two rows of `both` have changed places."""
    places = np.arange(len(positions))
    at = np.searchsorted(positions, both)
    places[at] = at[::-1]
    return places
