"""The search for an order of one axis under which formats keep higher scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autoprune.passes.sparsify.layout import Format, Scores

Order = npt.NDArray[np.intp]
"""For each new place, the old one of what comes there."""


def best_order(uses: Sequence[Use], units: int) -> Order:
    """The best order found of an axis of so many units, given its uses in all matrices.

    The present one if no other is better, or none matters.
    """
    tied = [use for use in uses if use.tied]
    if not tied:
        return np.arange(units)

    def retained(order: Order) -> float:
        return sum(use.retained(order) for use in tied)

    return max(_candidates(tied, units), key=retained)


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


def _candidates(uses: Sequence[Use], units: int) -> list[Order]:
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
