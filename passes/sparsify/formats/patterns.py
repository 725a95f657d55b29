"""Formats in which every part of a row keeps the same number of weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoprune.errors import FormatError
from autoprune.passes.sparsify.layout import Array, Encoded, Mask, Scores, as_index, require_fit
from autoprune.passes.sparsify.registry import FAMILIES, Family
from autoprune.passes.sparsify.tiles import highest, kept_tiles, span, spread, tile_sums, tiled


@dataclass(frozen=True)
class NM:
    """At most `n` of every `m` consecutive inputs, the same ones for `shared` outputs.

    Flattened to [-1, 1, shared] and [-1], the arrays are those of `Block(shared, 1)` with
    `groups * n` blocks in every block row.

    Arrays:
        * `values` [rows of outputs, groups of inputs, n, shared]: outputs innermost; zeros where a
          group keeps fewer than `n` or there are no more outputs.
        * `columns` int32 [rows of outputs, groups of inputs, n]: their inputs.
    """

    n: int
    m: int
    shared: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.m or self.shared < 1:
            raise FormatError(
                f"there is no pattern {self}", hint="in N:M, N is at least 1 and at most M"
            )

    def __str__(self) -> str:
        return f"{self.n}:{self.m}" + (f" shared {self.shared}" if self.shared > 1 else "")

    @property
    def tile(self) -> tuple[int, int]:
        """Outputs that share a pattern, and inputs of a group."""
        return self.shared, self.m

    def fits(self, mask: Mask) -> str | None:
        outputs, inputs = mask.shape
        kept = kept_tiles(mask, self.shared, 1)
        torn = np.argwhere(spread(kept, self.shared, 1, (outputs, inputs)) != mask)
        if len(torn):
            first = torn[0][0] // self.shared * self.shared
            where = span("output", first, self.shared, outputs)
            return f"{where} do not share a pattern at input {torn[0][1]}"
        counts = tiled(kept, 1, self.m).sum(axis=(2, 3))
        full = np.argwhere(counts > self.n)
        if not len(full):
            return None
        row, group = full[0]
        where = span("output", row * self.shared, self.shared, outputs)
        among = span("input", group * self.m, self.m, inputs)
        return f"{counts[row, group]} of {among} are kept for {where}, not {self.n}"

    def encode(self, weight: Array, mask: Mask) -> Encoded:
        require_fit(self, weight, mask)
        outputs, inputs = weight.shape
        groups = tiled(np.where(mask, weight, weight.dtype.type(0)), self.shared, self.m)
        kept = tiled(mask, self.shared, self.m).any(axis=2)
        places = np.argsort(~kept, axis=-1, kind="stable")[..., : self.n]
        values = np.take_along_axis(groups, places[:, :, None, :], axis=-1).transpose(0, 1, 3, 2)
        first = np.arange(groups.shape[1])[:, None] * self.m
        # A place that pads the last group may lie beyond the inputs.
        columns = np.minimum(first + places, inputs - 1)
        arrays = {"values": values, "columns": as_index(columns)}
        return Encoded(self, (outputs, inputs), arrays)

    def decode(self, encoded: Encoded) -> Array:
        values, columns = encoded.arrays.values()
        outputs, inputs = encoded.shape
        dense = np.zeros((len(values) * self.shared, inputs), values.dtype)
        first = np.arange(len(values))[:, None, None, None] * self.shared
        row = first + np.arange(self.shared)
        np.add.at(dense, (row, columns[..., None]), values)
        return dense[:outputs]

    def levels(self, shape: tuple[int, int]) -> None:
        """The pattern says how much is kept."""

    def gains(self, scores: Scores) -> Scores:
        return np.array([scores[self.choose(scores)].sum()])

    def choose(self, scores: Scores, keep: int | None = None) -> Mask:
        if keep is not None:
            raise FormatError(f"the format {self} says itself how much is kept")
        outputs, inputs = scores.shape
        sums = tile_sums(scores, self.shared, 1)
        chosen = highest(tiled(sums, 1, self.m), self.n)
        return spread(chosen.reshape(len(sums), -1), self.shared, 1, (outputs, inputs))


@dataclass(frozen=True)
class ConstantFanIn:
    """At most `k` inputs of every output; without `k`, as many as the fullest output has.

    Arrays:
        * `values` [outputs, k]: inputs rising, then zeros where an output has fewer.
        * `columns` int32 [outputs, k]: their inputs.
    """

    k: int | None = None

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise FormatError(f"there is no fan-in of {self.k}", hint="it is at least 1")

    def __str__(self) -> str:
        return "fan-in" if self.k is None else f"fan-in {self.k}"

    @property
    def tile(self) -> tuple[int, int]:
        """Nothing is tied: each output chooses any inputs."""
        return 1, 1

    def fits(self, mask: Mask) -> str | None:
        counts = mask.sum(axis=1)
        full = np.flatnonzero(counts > (mask.shape[1] if self.k is None else self.k))
        return f"output {full[0]} keeps {counts[full[0]]} inputs" if len(full) else None

    def encode(self, weight: Array, mask: Mask) -> Encoded:
        require_fit(self, weight, mask)
        outputs, inputs = weight.shape
        k = int(mask.sum(axis=1).max()) if self.k is None else self.k
        columns = np.argsort(~mask, axis=1, kind="stable")[:, :k]
        kept = np.where(mask, weight, weight.dtype.type(0))
        values = np.take_along_axis(kept, columns, axis=1)
        return Encoded(self, (outputs, inputs), {"values": values, "columns": as_index(columns)})

    def decode(self, encoded: Encoded) -> Array:
        values, columns = encoded.arrays.values()
        dense = np.zeros(encoded.shape, values.dtype)
        np.put_along_axis(dense, columns, values, axis=1)
        return dense

    def levels(self, shape: tuple[int, int]) -> int | None:
        """The number of inputs, or none where `k` is given."""
        return shape[1] if self.k is None else None

    def gains(self, scores: Scores) -> Scores:
        gains: Scores = -np.sort(-scores, axis=1).sum(axis=0)
        return gains if self.k is None else gains[: self.k].sum(keepdims=True)

    def choose(self, scores: Scores, keep: int | None = None) -> Mask:
        kept = self.k if keep is None else keep
        if kept is None or None not in (keep, self.k):
            said = "does not say" if kept is None else "says itself"
            raise FormatError(f"the format {self} {said} how much is kept")
        return highest(scores, kept)


FAMILIES.add("n:m", Family("N:M [shared OUTPUTS]", r"(\d+):(\d+)(?: shared (\d+))?", NM))
FAMILIES.add("fan-in", Family("fan-in [K]", r"fan-in(?: (\d+))?", ConstantFanIn))
