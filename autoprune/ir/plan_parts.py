"""What plans are made of: choices of units, factors, and axis types as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np

from autoprune.ir.axes import Axis, Leaf, Prod
from autoprune.ir.positions import Indices

Expression = int | str | dict[str, Any]
"""An axis type in JSON: a fixed size, a group's name, `{"prod": [...]}` or `{"sum": [...]}`."""


@dataclass(frozen=True)
class KeptUnits:
    """The units of one group that stay.

    Attributes:
        units: how many there were.
        kept: increasing numbers out of `range(units)`; with `outer`, equally many for each unit
            of that axis.
        outer: the axis per whose units they were chosen (named as groups are), or nothing.
    """

    units: int
    kept: tuple[int, ...] | tuple[tuple[int, ...], ...]
    outer: str = ""

    @property
    def rows(self) -> Sequence[Sequence[int]]:
        """`kept` for each unit of the outer axis, if there is one."""
        return cast("Sequence[Sequence[int]]", self.kept if self.outer else (self.kept,))

    @property
    def count(self) -> int:
        """How many units stay."""
        return len(self.rows[0]) if self.rows else 0

    def array(self) -> Indices:
        """`kept` as an array; shape [units kept] or [units of the outer axis, units kept]."""
        return np.array(self.kept, dtype=np.intp)

    def problem(self) -> str:
        """What is wrong with the choice, or nothing."""
        for row in self.rows:
            increasing = all(a < b for a, b in pairwise(row))
            if not row or not increasing or row[0] < 0 or row[-1] >= self.units:
                return (
                    f"kept units must be increasing numbers from 0 to {self.units - 1}, "
                    "at least one"
                )
        if not self.rows or len({len(row) for row in self.rows}) > 1:
            return f"equally many units must be kept for each unit of {self.outer}"
        return ""


@dataclass(frozen=True, slots=True)
class Factor:
    """What a parameter becomes so that it takes up a factor: `scale * p + offset`.

    Attributes:
        group: the group whose positions are meant, or nothing for all.
        scale: see above.
        offset: see above.
    """

    group: str
    scale: float
    offset: float = 0.0


def expression(axis: Axis, names: Mapping[int, str]) -> Expression:
    """An axis type in JSON, where leaf `uid` is called `names[uid]` (others are fixed sizes)."""
    if axis.uids.isdisjoint(names):
        return axis.size
    if isinstance(axis, Leaf):
        return names[axis.uid]
    if isinstance(axis, Prod):
        return {"prod": [expression(f, names) for f in axis.factors]}
    return {"sum": [expression(t, names) for t in axis.terms]}
