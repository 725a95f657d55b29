"""The search for an order of one axis under which formats keep higher scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autoprune.passes.sparsify.layout import Format, Scores

Order = npt.NDArray[np.intp]
"""For each new place, the old one of what comes there."""


def best_order(uses: Sequence[Use], units: int, tries: int, rng: np.random.Generator) -> Order:
    """The best order found; the present one if no other is better, or none matters.

    Args:
        uses: the axis in all matrices.
        units: its size.
        tries: exchanges of two units that are tried.
        rng: draws them.
    """
    tied = [use for use in uses if use.tied]
    if not tied:
        return np.arange(units)

    def retained(order: Order) -> float:
        return sum(use.retained(order) for use in tied)

    start = max(_starts(tied, units), key=retained)
    return max((start, _exchanged(tied, start, tries, rng)), key=retained)


@dataclass(frozen=True)
class Use:
    """An axis in a matrix.

    Attributes:
        scores: shape [outputs, inputs].
        format: of the matrix.
        keep: levels that stay, as for `Format.choose`.
        rows: outputs of each unit of the axis; shape [units, any number, also none].
        cols: inputs of each unit.
    """

    scores: Scores
    format: Format
    keep: int | None
    rows: Order
    cols: Order

    @property
    def tied(self) -> bool:
        """Whether the format depends on the order of the axis."""
        outputs, inputs = self.format.tile
        return bool(self.rows.size and outputs > 1) or bool(self.cols.size and inputs > 1)

    @property
    def group(self) -> int:
        """Units of a tile, where one unit does not fill it."""
        sides = zip(self.format.tile, (self.rows, self.cols), strict=True)
        return max(1, *(tile // int(units.shape[1]) for tile, units in sides if units.size))

    def reordered(self, order: Order) -> Scores:
        """Scores after reordering the axis."""
        row, col = (np.arange(size) for size in self.scores.shape)
        row[self.rows] = self.rows[order]
        col[self.cols] = self.cols[order]
        return self.scores[np.ix_(row, col)]

    def retained(self, order: Order) -> float:
        """Summed scores that the format keeps after reordering the axis."""
        return float(self.format.gains(self.reordered(order))[: self.keep].sum())

    def features(self) -> Scores:
        """What the importance of each unit consists of; shape [units, features]."""
        outputs, inputs = self.format.tile
        scores = self.scores / max(float(self.scores.mean()), 1e-30)
        parts = []
        if outputs > 1:
            parts.append(scores[self.rows].reshape(len(self.rows), -1))
        if inputs > 1:
            parts.append(scores.T[self.cols].reshape(len(self.cols), -1))
        return np.concatenate(parts, axis=1)


def _starts(uses: Sequence[Use], units: int) -> list[Order]:
    """Orders worth trying: as it is, by importance, dealt out, and clustered."""
    group = max(use.group for use in uses)
    features = np.concatenate([use.features() for use in uses], axis=1)
    falling = np.argsort(-features.sum(axis=1), kind="stable")
    tiles = -(-units // group)
    dealt = np.concatenate([falling[first::tiles] for first in range(tiles)])
    return [np.arange(units), falling, dealt, _clustered(features, falling, group)]


def _clustered(features: Scores, falling: Order, group: int) -> Order:
    """Around the most important unit left, those that are most like the group so far."""
    vectors = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-30)
    left = np.ones(len(falling), dtype=np.bool_)
    order = np.empty_like(falling)
    profile = np.zeros(features.shape[1])
    for i in range(len(order)):
        if i % group == 0:
            profile[:] = 0
            order[i] = falling[np.argmax(left[falling])]
        else:
            order[i] = np.argmax(np.where(left, vectors @ profile, -1))
        profile += vectors[order[i]]
        left[order[i]] = False
    return order


def _exchanged(uses: Sequence[Use], order: Order, tries: int, rng: np.random.Generator) -> Order:
    """Exchange random pairs of units wherever that is a gain.

    With a price for each level, that of the last one kept, tiles are worth what their levels bring
    above it, independently of each other; so only tiles that change need to be looked at.
    """
    order = order.copy()
    views = [_View(use, use.reordered(order)) for use in uses]
    negligible = 1e-12 * sum(float(view.scores.sum()) for view in views)
    for a, b in rng.integers(len(order), size=(tries, 2)).tolist():
        if a != b and sum(view.gain(a, b) for view in views) > negligible:
            order[[a, b]] = order[[b, a]]
            for view in views:
                view.exchange(a, b)
    return order


class _View:
    """The scores of a matrix while the units of one of its axes change places."""

    def __init__(self, use: Use, scores: Scores) -> None:
        self.use = use
        self.scores = scores
        gains = use.format.gains(scores)
        self.price = 0.0 if use.keep is None else float(gains[max(use.keep, 1) - 1])

    def gain(self, a: int, b: int) -> float:
        """What exchanging two units would add to the worth of the tiles concerned."""
        pairs = self.use.rows[[a, b]], self.use.cols[[a, b]]
        tied = [d for d, tile in enumerate(self.use.format.tile) if tile > 1 and pairs[d].size]
        touched = exchanged = self.scores
        for dim in tied:
            places = np.arange(self.scores.shape[dim])
            if len(tied) == 1:
                places = _touched(pairs[dim], self.use.format.tile[dim], len(places))
                touched = exchanged = self.scores.take(places, axis=dim)
            exchanged = exchanged.take(_with_exchanged(places, pairs[dim]), axis=dim)
        return self._worth(exchanged) - self._worth(touched)

    def exchange(self, a: int, b: int) -> None:
        """Let two units change places."""
        for scores, positions in ((self.scores, self.use.rows), (self.scores.T, self.use.cols)):
            both = positions[[a, b]]
            scores[both] = scores[both[::-1]]

    def _worth(self, scores: Scores) -> float:
        gains = self.use.format.gains(scores)
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
