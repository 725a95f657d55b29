"""Formats that keep whole outputs of a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoprune.passes.sparsify.layout import Encoded, as_index, require_fit
from autoprune.passes.sparsify.registry import FAMILIES, Family
from autoprune.passes.sparsify.tiles import highest


@dataclass(frozen=True)
class Outputs:
    """Whole outputs."""

    tile = (1, 1)

    def __str__(self):
        return "outputs"

    def fits(self, mask):
        torn = np.flatnonzero(mask.any(1) != mask.all(1))
        return f"output {torn[0]} is kept in part" if len(torn) else None

    def encode(self, weight, mask):
        require_fit(self, weight, mask)
        kept = np.flatnonzero(mask.any(1))
        return Encoded(self, weight.shape, {"values": weight[kept], "index": as_index(kept)})

    def decode(self, encoded):
        values, index = encoded.arrays.values()
        dense = np.zeros(encoded.shape, values.dtype)
        dense[index] = values
        return dense

    def levels(self, shape):
        return shape[0]

    def gains(self, scores):
        return -np.sort(-scores.sum(1))

    def choose(self, scores, keep=None):
        return np.repeat(highest(scores.sum(1), keep)[:, None], scores.shape[1], 1)


FAMILIES.add("outputs", Family("outputs", "outputs", Outputs))
